"""DiverseDiT's loss, which compares all blocks that it taps: an entry of `term_settings.BUILT_IN` names it."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from harness.config.settings.term_settings import LazyTerm, TermSettings
from harness.config.settings.values import Blocks, Positive, Real, Whole


class DiverseDiTSettings(TermSettings):
    """DiverseDiT (arXiv 2603.04239): the numbers of its equations; how many samples its means are of is our reading."""

    lambda_: Positive = Field(1.0, alias="lambda", description="weight λ of the whole; its authors have none")
    blocks: Blocks = Field("all", description="blocks of which each step draws some")
    count: Whole = Field(10, ge=2, description="blocks that a step draws; all where there are no more")
    group: Whole = Field(32, ge=2, description="samples that means and norms are taken over, tokens too (our reading)")
    share: Positive = Field(0.33, description="weight of each of orthogonality, mutual information and dispersion")
    low: Real = Field(0.1, ge=0, description="their sum up to which they have no weight")
    high: Positive = Field(0.5, description="their sum above which the weight is 1; below, (sum − low)/high")

    @field_validator("blocks")
    @classmethod
    def _several(cls, blocks: Any) -> Any:
        if blocks != "all" and not (isinstance(blocks, tuple) and len(blocks) > 1):
            raise ValueError("this term compares blocks: two or more, as a list, or all")
        return blocks

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g}, and must be below high, {self.high:g}")
        return self


DIVERSEDIT = LazyTerm(
    DiverseDiTSettings,
    "harness.method.rivals.diversedit:DiverseDiT",
    r"w \cdot 0.33 (\mathbb{E}_{k<l} \cos(\mu_k, \mu_l) + \mathbb{E}_{k<l,i} \cos(h_{ki}, h_{li}) - \mathrm{Var}(a))",
)
