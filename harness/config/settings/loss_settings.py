"""The paper's loss on representations, and the alignment with an encoder: REPA, iREPA, SARA."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from harness.config.settings.values import (
    WARM_UP,
    Blocks,
    Count,
    Flag,
    Frozen,
    Name,
    OneBlock,
    Positive,
    Real,
    Share,
    Whole,
    read_number,
)

LossName = Literal["infonce-l2", "infonce-cosine", "hinge", "covariance"]
# The constants of each loss of `harness/method/losses.py`: keys of `RegularizerSettings`. Only they enter the identity
# of a training with that loss; those of its contrastive form alone are in the second dictionary.
CONSTANTS: dict[LossName, tuple[str, ...]] = {
    "infonce-l2": ("tau",),
    "infonce-cosine": ("tau",),
    "hinge": ("epsilon",),
    "covariance": ("normalization",),
}
CONTRASTIVE_CONSTANTS: dict[LossName, tuple[str, ...]] = {"covariance": ("offdiagonal",)}


def constants_of(loss: LossName, kind: str) -> tuple[str, ...]:
    """Return the constants that a loss has in one of its two kinds."""
    return CONSTANTS[loss] + (CONTRASTIVE_CONSTANTS.get(loss, ()) if kind == "contrastive" else ())


class OfDistance(Frozen):
    """A temperature in units of D, the mean ‖z_i − z_j‖²/dim of the tapped blocks before the first training step."""

    of_distance: Positive

    def __str__(self) -> str:
        return f"{self.of_distance:g} D₀"


def read_tau(value: Any) -> Any:
    """Read a temperature: a number, or {of_distance: a number}.

    Raises:
        ValueError: anything else, and numbers that are not positive.
    """
    inner = value.of_distance if isinstance(value, OfDistance) else value
    if isinstance(inner, Mapping):
        if list(inner) != ["of_distance"]:
            raise ValueError("a number, or of_distance: with a number, is expected")
        inner = inner["of_distance"]
    if not isinstance(number := read_number(inner), int | float) or not 0 < number < math.inf:
        raise ValueError("a number above 0, or of_distance: with one, is expected")
    return float(number) if inner is value else OfDistance(of_distance=number)


Tau = Annotated[
    float | OfDistance, BeforeValidator(read_tau), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})
]


class RegularizerSettings(Frozen):
    """The loss on intermediate representations, in the paper's words."""

    loss: Literal["none", LossName] = Field("none", description="row of the paper's Table 1; none trains the baseline")
    kind: Literal["dispersive", "contrastive"] = Field("dispersive", description="without or with positive pairs")
    lambda_: Positive = Field(0.5, alias="lambda", description="weight λ of the regulariser")
    tau: Tau = Field(
        0.5, description="temperature τ of the InfoNCE losses; of ℓ2 also of_distance: 0.1, a tenth of D at the start"
    )
    blocks: Blocks = Field(
        "3/12", description="tapped blocks: k (the k-th block's output), k/n (that share of the depth), last, all"
    )
    group: Whole = Field(16, ge=2, description="samples that form pairs (the paper: the local batch of one device)")
    noise: Literal["independent", "restricted"] = Field(
        "independent", description="second view of a contrastive run: its own time, or one close to the first view's"
    )
    gap: Real = Field(0.005, gt=0, le=1, description="largest |t⁺ − t| between the two views under restricted noise")
    epsilon: Positive = Field(1.0, description="margin ε of the hinge, whose distance is the RMS of z_i − z_j")
    offdiagonal: Positive = Field(1.0, description="weight w of the contrastive covariance loss's off-diagonal mean")
    normalization: Literal["standardized", "centered"] = Field(
        "standardized", description="what is done to each feature over the group before its covariance is taken"
    )
    stop: Count | None = Field(None, description="the paper's epochs after which it is left out; by default it stays")
    warm_up: Count | None = Field(None, description=WARM_UP)


OWN_ENCODER = "own-vit"


class OwnEncoder(Frozen):
    """A ViT trained on the data set's own images and labels, for data that no public encoder knows."""

    architecture: Name = Field("test_vit", description="a VisionTransformer of timm, made without its weights")
    side: Count = Field(description="images are resized to this height and width")
    patch: Count = Field(description="height and width of a token, in pixels of the resized image")
    steps: Count = Field(description="its training steps")
    batch: Count = Field(description="images of one of them")
    shift: Share = Field(description="largest random shift of a training image, as a share of the side")
    mirror: Flag = Field(description="random left-right flips of the training images")
    learning_rate: Positive = Field(2e-3, description="peak of its one cycle")
    weight_decay: Real = Field(0.05, ge=0, description="AdamW's")
    label_smoothing: Share = Field(0.1, description="share of the label's weight given to all labels alike")
    seed: Whole = Field(0, ge=0, description="of its weights and batches")


class SaraSettings(Frozen):
    """What SARA (arXiv 2503.08253) adds to REPA, with settings of ours: its own were not to be had."""

    structure: Real = Field(
        1.0, ge=0, description="weight of the autocorrelation's error, the cosine's being 1; 0: without it"
    )
    autocorrelation: Literal["mean", "sum"] = Field("mean", description="its squares over T × T: averaged or added up")
    adversary: Real = Field(0.1, ge=0, description="weight of the adversary, the cosine's being 1; 0: without it")
    width: Count = Field(128, description="channels of the discriminator")
    learning_rate: Positive = Field(2e-4, description="of the discriminator's Adam")
    beta1: Share = Field(0.5, description="of the discriminator's Adam")
    beta2: Share = Field(0.999, description="of the discriminator's Adam")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.structure and not self.adversary:
            raise ValueError("structure and adversary are both 0, which is REPA: leave sara out")
        return self


class SoftTokensSettings(Frozen):
    """A second phase after SoftREPA (arXiv 2503.08250), a reading: the network is frozen, and tokens of each class
    before the patches of its first blocks are learned by contrast over denoising errors.

    Its authors tune text-to-image networks; count, blocks, group and rates are theirs for Stable Diffusion 3.
    """

    epochs: Count = Field(description="the paper's epochs of this phase; those of the first are the run's own `epochs`")
    blocks: OneBlock = Field("5/24", description="the last of the first blocks that have tokens")
    count: Count = Field(4, description="tokens of a class before each of these blocks")
    group: Whole = Field(
        4, ge=2, description="images that are contrasted with each other: each is denoised under the class of each"
    )
    temperature: Positive = Field(
        0.07, description="temperature in units of the mean error of a group: the published exp(−error/0.07) vanishes"
    )
    denoising: Real = Field(0.0, ge=0, description="weight of the mean error under the own class; SD 1.5 and XL: 10")
    learning_rate: Positive = Field(1e-3, description="AdamW's, constant")
    weight_decay: Real = Field(1e-4, ge=0, description="AdamW's")


class AlignmentSettings(Frozen):
    """REPA (Yu et al. 2024, arXiv 2410.06940): one block's output, projected, is aligned with a frozen encoder.

    The defaults are those of its authors' code for SiT-XL/2 (its README, train.py and models/sit.py). With `kernel` and
    `alpha`, each alone or both: iREPA (arXiv 2512.10794).
    """

    loss: Literal["none", "cosine", "sara"] = Field(
        "none", description="cosine: minus the mean cosine similarity of tokens; sara: beside it two levels after SARA"
    )
    coefficient: Positive = Field(0.5, description="weight of the alignment")
    block: OneBlock = Field("8/28", description="aligned block: k (the k-th), k/n (that share of the depth), last")
    hidden: Count = Field(2048, description="width of the projector's two hidden layers")
    kernel: Annotated[Literal[1, 3, 5, 7], BeforeValidator(read_number)] | None = Field(
        None,
        description="iREPA (README: 3; default of its code: 1): the projector is one convolution of this height "
        "and width on the grid of tokens; by default three linear layers, as REPA",
    )
    alpha: Real | None = Field(
        None,
        ge=0,
        le=1,
        description="iREPA (default of its code: 0.6): share of the tokens' mean that is taken from the encoder's "
        "features before they are divided by the tokens' standard deviation; by default they stay, as REPA",
    )
    encoder: Name = Field(
        "vit_base_patch14_dinov2.lvd142m", description="frozen encoder: a timm model with its weights' tag, or own-vit"
    )
    weights: Annotated[str, Field(pattern="^(published|[0-9a-f]{64})$")] = Field(
        "published", description="published: timm's weights of that name; or the sha256 of a file in <data>/encoders/"
    )
    side: Count | None = Field(None, description="side in pixels of the images the encoder sees; by default its own")
    own: OwnEncoder | None = Field(None, description="how own-vit is made and trained")
    sara: SaraSettings = SaraSettings()
    stop: Count | None = Field(None, description="the paper's epochs after which it is left out; by default it stays")
    warm_up: Count | None = Field(None, description=WARM_UP)
