"""What people write of a run, in the paper's words (SiT-B/2, 80 epochs, block 3/12): frozen, unknown keys refused.

`resolve.py` makes of it what runs and is hashed: `spec.py`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from harness.plain_text import NAME_RULE, check_text, is_name
from harness.plugins import Registry

Precision = Literal["fp32", "bf16"]
MatmulPrecision = Literal["highest", "high", "medium"]
Family = Literal["SiT", "DiT", "MF", "Shortcut", "IMM", "iCT"]
Tracker = Literal["tensorboard", "wandb"]
LossName = Literal["infonce-l2", "infonce-cosine", "hinge", "covariance"]
DATASETS = ("digits", "fashion-mnist", "cifar10", "cifar10-5000")  # that are built in, beside packed latents
FEATURES = ("classifier", "inception-v3-compat")  # that are built in
LARGEST = 2**53
DAYS = re.compile(
    r"(?P<days>\d{1,5})-(?P<hours>[01]?\d|2[0-3])(:(?P<minutes>[0-5]?\d)(:(?P<seconds>[0-5]?\d))?)?", re.ASCII
)
SECONDS = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}
CLOCK = re.compile(r"(?P<hours>\d{1,6}):(?P<minutes>[0-5]?\d):(?P<seconds>[0-5]?\d)", re.ASCII)
OWN_ENCODER = "own-vit"
WARM_UP = "the paper's epochs over which its weight grows linearly from 0; by default it is whole at once"
BLOCK_WORDS = "legal: the number of a block from 1, k/n (that share of the depth), last"

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


# What a single setting may be.


def read_number(value: Any) -> Any:
    """Refuse true and false where a number is expected, which Python would read as 1 and 0, and text: "1_000".

    Raises:
        ValueError: one of these, and a number of more than 16 digits, beyond which floats skip whole numbers.
    """
    if isinstance(value, bool | str):
        raise ValueError("a number is expected")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"a number up to {LARGEST:,} is expected")
    return value


def read_flag(value: Any) -> Any:
    """Refuse anything but true and false: pydantic takes yes and on as well, and 1.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, bool):
        raise ValueError("true or false is expected")
    return value


def read_hours(value: Any) -> Any:
    """Read a number of hours, or a time as SLURM writes it: D-HH:MM:SS, HH:MM:SS, and D-HH and D-HH:MM.

    Raises:
        ValueError: any other text. MM:SS of SLURM's is one, for people read it as hours and minutes.
    """
    if not isinstance(value, str):
        return read_number(value)
    match = DAYS.fullmatch(value) or CLOCK.fullmatch(value)
    if not match:
        raise ValueError("hours are a number, or a time as D-HH:MM:SS or HH:MM:SS")
    parts = {unit: int(part or 0) for unit, part in match.groupdict().items()}
    return sum(parts.get(unit, 0) * seconds for unit, seconds in SECONDS.items()) / 3600


def read_name(value: str) -> str:
    """Refuse what is no name, such as a path.

    Raises:
        ValueError: the rule of names.
    """
    if not is_name(value):
        raise ValueError(f"{NAME_RULE}, and never a path")
    return value


def read_blocks(value: Any) -> Any:
    """Read the tapped blocks: k, k/n, last, all, or a list of these.

    Raises:
        ValueError: anything else, and an empty list.
    """
    words = value if isinstance(value, list | tuple) else [value]
    if not words or not all(map(_is_block, words)):
        raise ValueError(f"{BLOCK_WORDS}, all, or a list")
    return tuple(words) if isinstance(value, list) else value


def read_block(value: Any) -> Any:
    """Read one tapped block: k, k/n or last.

    Raises:
        ValueError: anything else.
    """
    if value == "all" or not _is_block(value):
        raise ValueError(BLOCK_WORDS)
    return value


def _is_block(word: Any) -> bool:
    if isinstance(word, str):
        return re.fullmatch(r"[1-9]\d*/[1-9]\d*|all|last", word) is not None
    return isinstance(word, int) and not isinstance(word, bool) and word >= 1


def read_seeds(value: Any) -> tuple[int, ...]:
    """Read one seed or a list of them.

    Raises:
        ValueError: an empty list, a seed said twice, or anything but whole numbers from 0 to 2**53.
    """
    seeds = tuple(value) if isinstance(value, list | tuple) else (value,)
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= LARGEST for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise ValueError("different whole numbers are expected, for example [0, 1, 2]")
    return seeds


def in_order(lengths: dict[int, int]) -> dict[int, int]:
    """Pass lengths and their stand-ins on where a longer one has a longer stand-in.

    Raises:
        ValueError: two lengths would change places, or become one.
    """
    standing_in = [lengths[length] for length in sorted(lengths)]
    if standing_in != sorted(set(standing_in)):
        raise ValueError("a longer training needs a longer stand-in")
    return lengths


Whole = Annotated[int, BeforeValidator(read_number)]
Count = Annotated[Whole, Field(ge=1)]
Real = Annotated[float, BeforeValidator(read_number), Field(allow_inf_nan=False)]
Positive = Annotated[Real, Field(gt=0)]
Share = Annotated[Real, Field(ge=0, lt=1)]
Flag = Annotated[bool, BeforeValidator(read_flag)]
Hours = Annotated[float, BeforeValidator(read_hours), Field(gt=0, le=1_000_000)]
Name = Annotated[str, AfterValidator(read_name)]
Line = Annotated[str, AfterValidator(check_text)]
Prose = Annotated[str, AfterValidator(lambda text: " ".join(text.split()))]
BlockWord = int | str
Blocks = Annotated[BlockWord | tuple[BlockWord, ...], BeforeValidator(read_blocks)]
OneBlock = Annotated[BlockWord, BeforeValidator(read_block)]
Seeds = Annotated[tuple[int, ...], BeforeValidator(read_seeds)]
StandIns = Annotated[dict[Count, Count], AfterValidator(in_order)]


# The settings.


class Frozen(BaseModel):
    """A model that cannot change and refuses keys it does not know; where text is meant, 0.10 is "0.10"."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, defer_build=True, coerce_numbers_to_str=True
    )


class Rung(Frozen):
    """One size of a scale's ladder: what S, B, L or XL means there."""

    depth: Count = Field(description="blocks")
    width: Count = Field(description="channels of a token")
    heads: Count = Field(description="attention heads")


class Data(Frozen):
    """The training set, by what the network must know of it; the engine checks the files against these numbers."""

    name: Name = Field(description="data set: digits, fashion-mnist, cifar10, cifar10-5000, imagenet256")
    channels: Count = Field(description="channels of an image or latent")
    size: Count = Field(description="height and width of an image or latent")
    classes: Count = Field(description="number of labels")
    flip: Flag = Field(description="horizontal flips, each with probability one half")
    moments: Literal["float16"] | None = Field(
        None, description="float16: of latents packed with harness encode --moments float16; by default float32"
    )
    subset: Count | None = Field(
        None, description="images that are trained on, drawn by the run's seed, of all classes alike; by default all"
    )


class FolderData(Frozen):
    """What is written of a folder of small pictures as the training set; `PluginParts` makes `Data` of it."""

    name: Literal["folder"] = Field(description="folder: the pictures in a folder of yours, known by their content")
    path: Line = Field(description="the folder, from where one stands: a folder in it for each class, or none")
    size: Count = Field(description="height and width that the pictures are cut and resized to")
    split: Annotated[Real, Field(gt=0, lt=1)] | None = Field(
        None, description="share that is trained on, chosen by content; 0.8, or what folders train and test hold"
    )
    channels: Literal[1, 3] | None = Field(None, description="1 grey, 3 colour; by default as the pictures are")
    classes: Count | None = Field(None, description="number of classes; by default as the folder has")
    flip: Flag = Field(False, description="horizontal flips, each with probability one half")
    subset: Count | None = Field(None, description="images that are trained on, as of any data set; by default all")


class FolderSettings(Frozen):
    """The settings of which one is a folder of pictures."""

    data: FolderData


class Optimizer(Frozen):
    """AdamW at a constant learning rate (the paper: 1e-4, no warm-up, no weight decay)."""

    learning_rate: Positive = Field(1e-4, description="constant; the paper's, at batch 256")
    beta1: Share = Field(0.9, description="β₁")
    beta2: Share = Field(0.95, description="0.95 in the paper, 0.999 in the authors' PyTorch release")
    weight_decay: Real = Field(0.0, ge=0, description="decoupled weight decay")


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


class SamplerSettings(Frozen):
    """How images are drawn from a trained network."""

    method: Name = Field(
        "heun",
        description="SiT: ODE (euler, heun) or SDE (euler-maruyama); DiT: ancestral, ddim; MF: average-velocity; "
        "Shortcut: shortcut; IMM: pushforward; iCT: one-step; or a plug-in's",
    )
    intervals: Count = Field(
        249,
        description="SiT and MF: integration intervals (the reference code's 250 grid points are 249); DiT and IMM: "
        "steps; Shortcut: 1, 2, 4 … 128 steps; iCT: 1",
    )
    guidance: Real = Field(1.0, ge=1, description="classifier-free guidance scale; 1 is none")
    guidance_channels: Literal["three", "all"] = Field(
        "three", description="channels under guidance: the reference code's first three, or all"
    )
    guidance_from: Real | None = Field(
        None, ge=0, description="guidance only above this noise level σ = noise/signal, (1 − t)/t at SiT's time t"
    )
    guidance_to: Positive | None = Field(None, description="guidance only up to this noise level σ")
    precision: Precision = Field("fp32", description="bf16: autocast of the network while sampling")
    matmul: Literal["fp32", "tf32"] | None = Field(
        None,
        description="how a GPU multiplies float32 while sampling and decoding, convolutions too: tf32, as the public "
        "samplers of SiT, or by default fp32",
    )
    tile: Annotated[Whole, Field(ge=1, le=256)] | None = Field(
        None, description="images drawn together, whichever are wanted, so that image i is the same; by default 64"
    )
    decode: Annotated[Whole, Field(ge=1, le=256)] | None = Field(
        None, description="latents of a tile that the autoencoder decodes together; by default one at a time"
    )


class MeanFlowSettings(Frozen):
    """What only MeanFlow has: guidance inside its training target, and the adaptive weight of its loss."""

    omega: Real = Field(1.0, ge=0, description="weight ω of the sample's velocity in the target")
    kappa: Share = Field(0.0, description="weight κ of the network's conditional velocity; ω = 1, κ = 0: no guidance")
    start: Real = Field(0.0, ge=0, le=1, description="guidance from this t on")
    end: Real = Field(1.0, ge=0, le=1, description="guidance up to this t")
    power: Real = Field(1.0, ge=0, description="power p of the adaptive weight")


class ShortcutSettings(Frozen):
    """What only shortcut models have: guidance inside the training target, and how many samples take it."""

    guidance: Real = Field(1.0, ge=1, description="guidance in the targets made of the two smallest steps; 1 is none")
    bootstrap_every: Whole | None = Field(
        None,
        ge=2,
        description="one sample in so many learns from two half steps: 8 in their authors' code; by default 4",
    )

    @property
    def every(self) -> int:
        """One sample in so many learns from two half steps; trainings stored before it could be said have 4."""
        return self.bootstrap_every or 4


class MomentMatchingSettings(Frozen):
    """What only IMM has: how far its target jumps begin before its own."""

    k: Whole = Field(12, ge=1, le=20, description="noise/signal falls by a 2ᵏ-th of its range; 12 in IMM's code")


class ConsistencySettings(Frozen):
    """What only iCT has: a curriculum, which must know how long training is to be."""

    epochs: Count | None = Field(None, description="the paper's epochs over which levels become finer; iCT needs it")
    finest: Whole = Field(1280, ge=10, description="last number s₁ of noise intervals; iCT: 1280 over 400,000 steps")


class EvaluationSettings(Frozen):
    """What is drawn and what it is measured against."""

    samples: Whole = Field(50_000, ge=4, description="images drawn for each measurement")
    labels: Literal["random", "balanced"] = Field("random", description="class labels of the drawn images")
    features: Name = Field(
        "inception-v3-compat", description="network whose features are compared: classifier, inception-v3-compat"
    )
    reference: Literal["train", "test"] = Field("train", description="split of the data set that is the reference")
    reference_part: Annotated[Whole, Field(ge=6)] | None = Field(
        None,
        description="images of it, drawn once, whose balls count for precision, recall, density and coverage (ADM's "
        "suite: 10,000); by default all",
    )
    held_out: Annotated[Whole, Field(ge=10)] | None = Field(
        None,
        description="draws (image, noise level, noise) at which the denoising loss is measured on held-out and on "
        "training images, and the copying of training images beside it; by default neither is",
    )
    metrics: tuple[Name, ...] | None = Field(None, description="metrics of plug-ins that are measured as well")
    weights: Literal["ema", "raw"] = Field("ema", description="the moving average of the weights, or the last ones")


class Resources(Frozen):
    """What a run asks of a cluster. Never hashed, and never allowed to change a number."""

    nodes: Count = Field(1, description="machines that share one training under SLURM")
    processes: Count | None = Field(
        None, description="processes on each machine that share one training; by default one for each GPU, at least one"
    )
    gpus: Whole = Field(0, ge=0, description="GPUs on each machine; 0: none is used, also where there is one")
    jobs_per_gpu: Count = Field(
        1,
        description="trainings that share one GPU: run --jobs fills each with so many, submit packs so many into a job",
    )
    trainings_at_once: Count = Field(
        1, description="trainings that a job of SLURM's does at once where it uses no GPU; on one GPU: jobs_per_gpu"
    )
    trainings_per_job: Count = Field(
        1, description="small trainings that a job of SLURM's does in all; hours are those of the whole job"
    )
    cpus: Count = Field(1, description="cores, and threads, of each process")
    memory_gb: Count = Field(4, description="memory of each process")
    micro_batch: Count | None = Field(None, description="samples in one pass of a process; by default its whole share")
    compile: Flag = Field(False, description="torch.compile of the network's blocks, sampling too: worth it on GPUs")
    checkpoint_blocks: Flag = Field(False, description="keep blocks' inputs, recompute the rest: less memory, slower")
    sample_shards: Annotated[Whole, Field(ge=1, le=1000)] = Field(
        1, description="jobs that draw a training's images, and a job after them that measures; 1: all in one job"
    )
    hours: Hours = Field(1.0, description="time limit of a job; also as SLURM writes it: D-HH:MM:SS, HH:MM:SS")
    partition: Line | None = Field(None, description="SLURM partition; by default the cluster's")
    log_every: Count = Field(100, description="training steps between two lines of the log; early steps have more")
    checkpoint_minutes: Positive = Field(10.0, description="minutes between checkpoints: what a kill may cost")
    tracking: tuple[Tracker, ...] = Field((), description="who hears a run's numbers: tensorboard, wandb (offline)")

    @property
    def on_gpu(self) -> bool:
        """Whether it is for GPUs, and not for processors."""
        return self.gpus > 0

    @property
    def at_once(self) -> int:
        """Trainings that a job of SLURM's does at once, on its GPU or beside each other on its cores."""
        return self.jobs_per_gpu if self.on_gpu else self.trainings_at_once

    @property
    def packed(self) -> int:
        """Trainings that a job of SLURM's does in all."""
        return max(self.at_once, self.trainings_per_job)

    @property
    def team(self) -> int:
        """Processes on each machine that share one training."""
        return self.processes or max(1, self.gpus)


class Settings(Frozen):
    """Everything that a table, a scale, a row or `--set` may say of a run."""

    preset: Name | None = Field(None, description="file in grids/presets whose settings lie under all others")
    model: str = Field(description="family-size/patch, SiT-B/2: family SiT, DiT, MF, Shortcut, IMM, iCT or a plug-in's")
    epochs: Whole = Field(ge=0, description="the paper's epochs; the scale says what one costs in steps")
    weights: Name | None = Field(None, description="imported weights to begin from, by name; epochs: 0 measures them")
    data: Data
    batch: Count = Field(description="samples of a training step, over all processes")
    label_drop: Share = Field(0.1, description="probability that a label is hidden, for classifier-free guidance")
    dropout: Share = Field(
        0.0, description="of SiT and DiT: probability that an element of what a block adds is left out in training"
    )
    ema: Share = Field(0.9999, description="decay of the moving average of the weights")
    precision: Precision = Field("fp32", description="bf16: autocast of the network while training")
    matmul: MatmulPrecision = Field(
        "highest", description="of float32 in training: highest is no TF32, nor in convolutions"
    )
    optimizer: Optimizer = Optimizer()
    regularizer: RegularizerSettings = RegularizerSettings()
    alignment: AlignmentSettings = AlignmentSettings()
    soft_tokens: SoftTokensSettings | None = Field(
        None, description="a second phase on the run that is the same without it: its network is frozen"
    )
    terms: dict[Name, dict[str, Any]] = Field(
        {}, description="further terms of the loss: a name of one's own → kind, lambda and the keys of that kind; "
        "without a kind, or with none, it is left out"
    )  # fmt: skip
    process: dict[str, Any] = Field({}, description="settings of the process of a plug-in's family, the model's")
    meanflow: MeanFlowSettings = MeanFlowSettings()
    shortcut: ShortcutSettings = ShortcutSettings()
    imm: MomentMatchingSettings = MomentMatchingSettings()
    consistency: ConsistencySettings = ConsistencySettings()
    sampler: SamplerSettings = SamplerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    resources: Resources = Resources()

    def __hash__(self) -> int:
        """Of the fields that can be hashed, `terms` cannot; equal settings are equal in these too."""
        return hash((self.model, self.epochs, self.data, self.regularizer, self.alignment, self.evaluation))


# Further terms of the loss. A kind of them is anything with `Settings`, a model like `TermSettings`, that makes the
# term when it is called with its name, these settings and `method.terms.Sizes`: a class that derives from
# `method.terms.ConfiguredTerm`, or a `LazyTerm`.

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
