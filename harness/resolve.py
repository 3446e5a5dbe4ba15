"""From the paper's words to concrete specs at a scale, and the refusal of words that do not fit together."""

import math
import re
from dataclasses import dataclass
from typing import cast

from harness.spec import (
    EvalSpec,
    Family,
    Model,
    Patch,
    Process,
    Regularizer,
    Resources,
    SamplerSettings,
    Scale,
    Settings,
    Size,
    TrainSpec,
)
from harness.values import Block

PROCESSES: dict[Family, Process] = {"SiT": "flow", "DiT": "ddpm", "MF": "meanflow"}
SAMPLERS: dict[Process, tuple[str, ...]] = {
    "flow": ("euler", "heun", "euler-maruyama"),
    "ddpm": ("ancestral", "ddim"),
    "meanflow": ("average-velocity",),
}


class SettingError(ValueError):
    """A legal value that does not fit its neighbours; `key` is the dotted setting to mend."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Resolved:
    """What `resolve` makes of settings: a training, a measurement, and what they ask of a cluster."""

    train: TrainSpec
    evaluation: EvalSpec
    resources: Resources


def resolve(settings: Settings, scale: Scale, seed: int) -> Resolved:
    """Turn the paper's words into concrete specs at a scale.

    Raises:
        SettingError: a setting that is impossible beside the others (block deeper than the network, …).
    """
    model, process = resolve_model(settings, scale), PROCESSES[family(settings.model)]
    train = TrainSpec(
        process=process,
        data=settings.data,
        model=model,
        regularizer=resolve_regularizer(settings, model.depth, process),
        meanflow=settings.meanflow if process == "meanflow" else None,
        optimizer=settings.optimizer,
        batch=settings.batch,
        label_drop=settings.label_drop,
        ema=settings.ema,
        precision=settings.precision,
        matmul=settings.matmul,
        seed=seed,
    )
    check_resources(train, settings.resources)
    step = settings.epochs * scale.steps_per_epoch
    evaluation = EvalSpec(
        step=step,
        sampler=resolve_sampler(settings, process),
        evaluation=settings.evaluation,
        first_image=seed * settings.evaluation.samples,
    )
    return Resolved(train, evaluation, settings.resources)


def check_resources(train: TrainSpec, resources: Resources, processes: int | None = None) -> None:
    """Check that a training can be shared out as the resources say; processes: how many there are in all, where known.

    Raises:
        SettingError: it cannot, for instance because a group of the regulariser would be torn apart.
    """
    if train.process == "meanflow" and resources.checkpoint_blocks:
        raise SettingError(
            "resources.checkpoint_blocks",
            "torch cannot compute blocks again inside MeanFlow's JVP; a smaller resources.micro_batch saves memory too",
        )
    if resources.team > resources.gpus > 0:
        raise SettingError("resources.processes", f"{resources.team} processes need as many GPUs, not {resources.gpus}")
    processes = processes or resources.nodes * resources.team
    share, group = train.batch // processes, train.regularizer.group if train.regularizer else 1
    if train.batch % (processes * group):
        pairs = f" in whole groups of {group}" if train.regularizer else ""
        raise SettingError(
            "resources.processes", f"{processes} processes cannot share a batch of {train.batch} evenly{pairs}"
        )
    micro_batch = resources.micro_batch or share
    if share % micro_batch or micro_batch % group:
        pairs = f" and be a multiple of the group of {group}" if train.regularizer else ""
        raise SettingError(
            "resources.micro_batch", f"{micro_batch} must divide a process's share of {share} samples{pairs}"
        )


def family(model: str) -> Family:
    """Return the family of a model name such as SiT-B/2.

    Raises:
        SettingError: the name is not family-size/patch.
    """
    return _parts(model)[0]


def _parts(model: str) -> tuple[Family, Size, Patch]:
    match = re.fullmatch(r"(SiT|DiT|MF)-(S|B|L|XL)/(2|4|8)", model)
    if not match:
        raise SettingError("model", f"unknown model '{model}'; legal: {{SiT,DiT,MF}}-{{S,B,L,XL}}/{{2,4,8}}")
    name, size, patch = match.groups()
    return cast(Family, name), cast(Size, size), cast(Patch, patch)


def resolve_model(settings: Settings, scale: Scale) -> Model:
    """Look a model name up in the scale's ladder and check that its numbers fit together."""
    _, size, patch = _parts(settings.model)
    if size not in scale.ladder or patch not in scale.patches:
        sizes, patches = ", ".join(scale.ladder), ", ".join(scale.patches)
        raise SettingError("model", f"scale {scale.scale} has sizes {sizes} and patches {patches}, not {size}/{patch}")
    rung = scale.ladder[size]
    model = Model(**rung.model_dump(), patch=scale.patches[patch])
    if settings.data.size % model.patch:
        raise SettingError("model", f"patch {model.patch} does not divide the image size {settings.data.size}")
    if model.width % (2 * model.heads):
        raise SettingError("model", f"width {model.width} must be an even multiple of {model.heads} heads")
    return model


def resolve_blocks(blocks: Block | tuple[Block, ...], depth: int) -> tuple[int, ...]:
    """Turn block words into 1-based block numbers: k/n is the block at that share of the depth, rounded up.

    Block num_layers//4, the paper's default, is 3/12 at every size of the paper.
    """
    words = blocks if isinstance(blocks, tuple) else (blocks,)
    numbers = sorted({number for word in words for number in _block_numbers(word, depth)})
    if not numbers or numbers[-1] > depth:
        raise SettingError("regularizer.blocks", f"no block {numbers[-1:] or words} in a network of {depth} blocks")
    return tuple(numbers)


def _block_numbers(word: Block, depth: int) -> range | tuple[int]:
    if isinstance(word, int):
        return (word,)
    if word == "all":
        return range(1, depth + 1)
    if word == "last":
        return (depth,)
    part, whole = map(int, word.split("/"))
    return (math.ceil(part * depth / whole),)


def resolve_regularizer(settings: Settings, depth: int, process: Process) -> Regularizer | None:
    """Keep exactly the fields that the chosen loss and kind use."""
    chosen = settings.regularizer
    if chosen.loss == "none":
        return None
    if settings.batch % chosen.group:
        raise SettingError("regularizer.group", f"groups of {chosen.group} do not divide the batch of {settings.batch}")
    if process == "ddpm" and chosen.kind == "contrastive" and chosen.noise == "restricted":
        raise SettingError(
            "regularizer.noise", "restricted noise is defined for times in [0, 1], and DiT's are integers"
        )
    contrastive, covariance = chosen.kind == "contrastive", chosen.loss == "covariance"
    return Regularizer(
        kind=chosen.kind,
        loss=chosen.loss,
        **{"lambda": chosen.lambda_},
        blocks=resolve_blocks(chosen.blocks, depth),
        group=chosen.group,
        tau=chosen.tau if chosen.loss.startswith("infonce") else None,
        epsilon=chosen.epsilon if chosen.loss == "hinge" else None,
        normalization=chosen.normalization if covariance else None,
        offdiagonal=chosen.offdiagonal if covariance and contrastive else None,
        noise=chosen.noise if contrastive else None,
        gap=chosen.gap if contrastive and chosen.noise == "restricted" else None,
    )


def resolve_sampler(settings: Settings, process: Process) -> SamplerSettings:
    """Without guidance, or where there are no more than three channels, the guided channels are simply all."""
    sampler = settings.sampler
    if sampler.method not in SAMPLERS[process]:
        legal = ", ".join(SAMPLERS[process])
        raise SettingError("sampler.method", f"{settings.model} cannot be sampled by {sampler.method}; legal: {legal}")
    if process == "meanflow" and sampler.guidance != 1:
        raise SettingError("sampler.guidance", "MF has its guidance in the training target: meanflow.omega and kappa")
    if process == "ddpm" and sampler.intervals < 2:
        raise SettingError("sampler.intervals", "DiT is sampled in 2 to 1000 steps")
    if sampler.guidance == 1.0 or settings.data.channels <= 3:
        return sampler.model_copy(update={"guidance_channels": "all"})
    return sampler
