"""Rivals that need no encoder: LayerSync. An entry of `settings.BUILT_IN` names each."""

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from harness.config.settings import Blocks, LazyTerm, OneBlock, Positive, TermSettings


class OneTap(TermSettings):
    """What a term has that teaches a single block, each sample by itself."""

    @field_validator("blocks")
    @classmethod
    def _one(cls, blocks: Any) -> Any:
        if blocks == "all" or (isinstance(blocks, tuple) and len(blocks) != 1):
            raise ValueError("this term teaches one block: k, k/n (that share of the depth) or last")
        return blocks

    @field_validator("group")
    @classmethod
    def _none(cls, group: Any) -> Any:
        if group is not None:
            raise ValueError("this term compares no samples; leave it out")
        return group


def deeper(block: Any, info: ValidationInfo) -> Any:
    """Refuse a block that the taught one is compared with and that is not a deeper one; words are numbers later.

    Raises:
        ValueError: it is not.
    """
    taught = info.data.get("blocks")
    if isinstance(block, int) and isinstance(taught, tuple) and block <= taught[0]:
        raise ValueError(f"a block deeper than {taught[0]} is expected, which blocks taps")
    return block


class LayerSyncSettings(OneTap):
    """LayerSync (arXiv 2510.12581): its repository's λ, and blocks that hold to the rules of its paper.

    Published pairs are 8 ← 16 of XL/2's 28 blocks and 8 ← 18 of L/2's 24. That of B/2 was not to be had: 4 ← 8 of 12 is
    our reading (no reference in the last fifth, not the first blocks, well apart). The repository's default is 8 ← 8,
    where the term is the constant −1.
    """

    lambda_: Positive = Field(0.2, alias="lambda", description="weight λ; the paper has 0.2 to 0.3")
    blocks: Blocks = Field("4/12", description="the block that is taught (XL/2: 8/28, L/2: 8/24; B/2: our reading)")
    reference: OneBlock = Field(
        "8/12", description="the deeper block that it is aligned with (XL/2: 16/28, L/2: 18/24)"
    )

    _deeper = field_validator("reference")(deeper)


LAYERSYNC = LazyTerm(
    LayerSyncSettings,
    "harness.method.rivals.layersync:LayerSync",
    r"-\mathbb{E}_{i,n} \cos(h_{in}, h^{ref}_{in})",
)
