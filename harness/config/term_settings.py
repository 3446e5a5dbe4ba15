"""The settings of further terms of the loss, `terms:` in a grid, and the registry of their kinds.

A kind is anything with `Settings`, a model like `TermSettings`, that makes the term when it is called with its name,
these settings and `method.terms.Sizes`: a class that derives from `method.terms.ConfiguredTerm`, or a `LazyTerm`.
"""

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Protocol

from pydantic import Field

from harness.config.settings import Blocks, Count, Frozen, Name, Positive, Whole
from harness.config.spec import TermSpec
from harness.plugins import Registry

OFF = "none"  # the kind of a term that is left out, though a scale or --set may say its settings


class TermSettings(Frozen):
    """What every term has; a model that derives from this one adds the term's own constants.

    Words of blocks become numbers, 1 for the first, and the paper's epochs become steps; then it is validated again.
    """

    kind: Name = Field(description="a term's name in the registry")
    lambda_: Positive = Field(alias="lambda", description="weight λ of the term")
    blocks: Blocks = Field("3/12", description="tapped blocks, as regularizer.blocks")
    group: Whole | None = Field(None, ge=2, description="samples that the term compares with each other, if it does")
    stop: Count | None = Field(None, description="the paper's epochs after which it is left out; by default it stays")


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

    Settings: None where the kind has a key of its own beside `terms`. term: "module:name" of what makes it.
    """

    Settings: type[TermSettings] | None
    term: str

    def __call__(self, *arguments: Any) -> Any:
        """Return the term."""
        return resolve_name(self.term)(*arguments)


OWN_KEYS = {"dispersive": "regularizer", "contrastive": "regularizer", "alignment": "alignment"}  # of these kinds
BUILT_IN: dict[str, TermKind | str] = {
    kind: LazyTerm(None, f"harness.networks.build:make_{key}") for kind, key in OWN_KEYS.items()
}
TERMS = Registry("terms", "term", BUILT_IN)


def settings_of(term: TermSpec) -> Any:
    """Return the settings that a term's kind is called with, its blocks by numbers and `stop` in steps.

    Raises:
        UserError: there is no such kind.
    """
    content = term.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"name"})
    return TERMS[term.kind].Settings.model_validate(content)
