"""A scale: what the paper's words cost here."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from harness.config.setting_types import Count, Frozen, Seeds, in_order

Size = Literal["S", "B", "L", "XL"]
Patch = Literal["2", "4", "8"]


class Rung(Frozen):
    """One size of the ladder: what S, B, L or XL means at a scale."""

    depth: Count = Field(description="blocks")
    width: Count = Field(description="channels of a token")
    heads: Count = Field(description="attention heads")


class Scale(Frozen):
    """What the paper's words cost here."""

    scale: str = Field(description="name of the scale, equal to its file's")
    title: str = Field(description="what it is, in a few words")
    note: str = Field("", description="said under every table of a report at this scale")
    meaningful: bool = Field(True, description="false where the numbers only prove that the code runs")
    ladder: dict[Size, Rung] = Field(description="depth, width and heads that stand for each size")
    patches: dict[Patch, Count] = Field(description="patch size that stands for the paper's 2, 4 and 8")
    steps_per_epoch: Count = Field(description="training steps that stand for one of the paper's epochs")
    epochs: Annotated[dict[Count, Count], AfterValidator(in_order)] = Field(
        {}, description="lengths of the paper and the epochs that stand for them here; others stand for themselves"
    )
    seeds: Seeds | None = Field(None, description="seeds of every table at this scale")

    def steps(self, epochs: int) -> int:
        """Return the training steps that stand for a length of the paper in epochs."""
        return self.epochs.get(epochs, epochs) * self.steps_per_epoch
