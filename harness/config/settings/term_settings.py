"""Further terms of the loss: what each of them has, what it costs, and the registry of their kinds.

A kind is anything with `Settings`, a model like `TermSettings`, that makes the term when it is called with its name,
these settings and `method.terms.Sizes`: a class that derives from `method.terms.ConfiguredTerm`, or a `LazyTerm`.
"""

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, ClassVar, Protocol

from pydantic import Field

from harness.config.settings.values import WARM_UP, Blocks, Count, Frozen, Name, Positive, Whole
from harness.plugins import Registry

OFF = "none"  # the kind of a term that is left out, though a scale or --set may say its settings


@dataclass(frozen=True)
class TermWork:
    """What a term computes of an image beside the network's own pass: what it costs.

    layers: widths before and after each linear layer that it trains and applies to every token. passes: the last block
    of each further pass without gradient. pairs: samples with which each is compared by products of their block
    outputs, such as `squared_distances`, with their gradient. operations: of all else, forward and backward.
    """

    layers: tuple[tuple[int, int], ...] = ()
    passes: tuple[int, ...] = ()
    pairs: int = 0
    operations: float = 0


class TermSettings(Frozen):
    """What every term has; a model that derives from this one adds the term's own constants.

    Words of blocks become numbers, 1 for the first, and the paper's epochs become steps; then it is validated again.
    """

    in_epochs: ClassVar[tuple[str, ...]] = ("stop", "warm_up")  # the fields that become steps
    families: ClassVar[tuple[str, ...]] = ()  # for whose process it is defined; () is all

    kind: Name = Field(description="a term's name in the registry")
    lambda_: Positive = Field(alias="lambda", description="weight λ of the term")
    blocks: Blocks = Field("3/12", description="tapped blocks, as regularizer.blocks")
    group: Whole | None = Field(None, ge=2, description="samples that the term compares with each other, if it does")
    stop: Count | None = Field(None, description="the paper's epochs after which it is left out; by default it stays")
    warm_up: Count | None = Field(None, description=WARM_UP)

    def work(self, width: int, patch: int) -> TermWork:
        """Return what it computes, once its blocks are numbers. width: of a token; patch: numbers of its image.

        Where a model does not say it, a plan tells that the term is not priced.
        """
        return TermWork()


class TermKind(Protocol):
    """An entry of the registry."""

    @property
    def Settings(self) -> Any:
        """The model of its settings."""

    def __call__(self, name: str, settings: Any, sizes: Any, /) -> Any:
        """Return the term."""


@dataclass(frozen=True)
class LazyTerm:
    """A kind whose settings are known before torch is imported.

    Settings: None where the kind has a key of its own beside `terms`. term: "module:name" of what makes it. formula: as
    a plug-in's.
    """

    Settings: type[TermSettings] | None
    term: str
    formula: str = ""

    def __call__(self, *arguments: Any) -> Any:
        """Return the term."""
        return resolve_name(self.term)(*arguments)


OWN_KEYS = {"dispersive": "regularizer", "contrastive": "regularizer", "alignment": "alignment"}  # of these kinds
BUILT_IN: dict[str, TermKind | str] = {
    **{kind: LazyTerm(None, f"harness.networks.build:make_{key}") for kind, key in OWN_KEYS.items()},
    "layersync": "harness.config.rivals.self_contained:LAYERSYNC",
    "sra": "harness.config.rivals.self_contained:SRA",
    "sra2": "harness.config.rivals.self_contained:SRA2",
    "diversedit": "harness.config.rivals.diverse_blocks:DIVERSEDIT",
}
TERMS = Registry("terms", "term", BUILT_IN)
