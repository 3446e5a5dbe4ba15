"""Rivals that need no encoder: LayerSync, SRA, SRA 2. An entry of `term_settings.BUILT_IN` names each."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.config.settings.term_settings import LazyTerm, TermSettings, TermWork
from harness.config.settings.values import Blocks, Count, OneBlock, Positive, Real, Whole


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


class SelfAlignmentSettings(OneTap):
    """SRA (arXiv 2505.02831) for SiT-B/2: block 3 of 12 learns from block 8 of the moving average.

    Its paper's distance is smooth-l1, whose weight falls late in training; its repository's newer one is a cosine, and
    its authors recommend that. Ours is over channels; their code's is over tokens, the default axis of the function
    that it calls.
    """

    in_epochs = (*TermSettings.in_epochs, "constant", "tenfold")
    families = ("SiT",)  # DiT's published form has other times and another weight

    lambda_: Positive = Field(0.5, alias="lambda", description="weight λ; of smooth-l1 by default 0.2")
    blocks: Blocks = Field("3/12", description="the block that is taught (L/2: 6/24, XL/2: 8/28)")
    teacher: OneBlock = Field("8/12", description="the block of the moving average it learns from (L/2: 16, XL/2: 20)")
    gap: Real = Field(0.2, gt=0, le=1, description="the teacher's time is nearer to data by at most this, uniformly")
    distance: Literal["cosine", "smooth-l1"] = Field(
        "cosine", description="cosine: 1 − the cosine over channels; smooth-l1: with β = 0.05, the mean of all elements"
    )
    constant: Count | None = Field(
        None, description="of smooth-l1: the paper's epochs after which its weight falls; by default 149"
    )
    tenfold: Count | None = Field(
        None, description="of smooth-l1: the paper's epochs in which its weight falls to a tenth; by default 1000"
    )

    @model_validator(mode="before")
    @classmethod
    def _published(cls, written: Any) -> Any:
        smooth = isinstance(written, dict) and written.get("distance") == "smooth-l1"
        if not smooth:
            return written
        weight = {} if "lambda" in written or "lambda_" in written else {"lambda": 0.2}
        return {"constant": 149, "tenfold": 1000} | weight | {k: v for k, v in written.items() if v is not None}

    @field_validator("constant", "tenfold")
    @classmethod
    def _of_smooth_l1(cls, epochs: Any, info: ValidationInfo) -> Any:
        if epochs is not None and info.data.get("distance") == "cosine":
            raise ValueError("the weight of the cosine is constant; leave it out, or set distance: smooth-l1")
        return epochs

    def work(self, width: int, patch: int) -> TermWork:
        """Return its head, and the average's pass."""
        assert isinstance(self.teacher, int), self.teacher
        return TermWork(layers=((width, 2 * width), (2 * width, width)), passes=(self.teacher,))


SRA = LazyTerm(
    SelfAlignmentSettings,
    "harness.method.rivals.sra:SelfAlignment",
    r"\mathbb{E}_i\, d(j(h_i(t_i)), \bar{h}_i(t_i + u_i))",
)


class LatentAlignmentSettings(OneTap):
    """SRA 2 (arXiv 2601.17830) for SiT-B/2; no code is public. Its λ, block and number of layers are the paper's.

    Our readings: the loss is the mean of all elements (the printed sum beside a mean squared velocity would be 4,096
    times the weight); hidden layers are twice as wide as the network (8.3M parameters at B/2, where the paper says
    about 8M, and 1.2M with two layers, where it says 1M), with SiLU between them, as in SRA's head.
    """

    lambda_: Positive = Field(1.0, alias="lambda", description="weight λ")
    blocks: Blocks = Field("2/12", description="the block that is taught (L/2: 8/24, XL/2: 8/28)")
    layers: Annotated[Whole, Field(ge=2, le=16)] = Field(5, description="linear layers of the projector")
    ratio: Count = Field(2, description="width of its hidden layers, per width of the network: our reading")

    def work(self, width: int, patch: int) -> TermWork:
        """Return its projector."""
        widths = (width, *[self.ratio * width] * (self.layers - 1), patch)
        return TermWork(layers=tuple(pairwise(widths)))


SRA2 = LazyTerm(
    LatentAlignmentSettings,
    "harness.method.rivals.sra2:LatentAlignment",
    r"\mathbb{E}_{i,n}\, \ell_\beta(P(h_{in}) - x_{in})",
)
