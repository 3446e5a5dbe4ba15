"""From the paper's words to concrete specs at a scale, and the refusal of words that do not fit together."""

import math
import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, cast

from harness.config import imported_weights as imported
from harness.config.grid_file import Patch, Scale, Size
from harness.config.kinds.process_kinds import FAMILIES, PROCESSES, process_name
from harness.config.kinds.sampler_kinds import SAMPLERS, samplers_of, suits
from harness.config.settings.loss_settings import (
    OWN_ENCODER,
    AlignmentSettings,
    OfDistance,
    RegularizerSettings,
    SoftTokensSettings,
    constants_of,
)
from harness.config.settings.process_settings import SamplerSettings
from harness.config.settings.resources import Resources
from harness.config.settings.run_settings import Settings
from harness.config.settings.values import Blocks
from harness.config.spec import (
    TILE,
    Alignment,
    Consistency,
    EvalSpec,
    Model,
    Origins,
    ProcessSettings,
    Regularizer,
    SoftTokenPhase,
    TermSpec,
    TrainSpec,
)
from harness.errors import UserError

UNCHANGED = ("data", "optimizer", "batch", "label_drop", "ema", "precision", "matmul")  # settings that the spec has too
OF_ONE_PROCESS = ("meanflow", "shortcut", "imm")  # and each of these if it is the process
DEFAULTS = {"matmul": "fp32", "tile": TILE, "decode": 1}  # of the sampler, where a spec says nothing
PARTICLES = 4  # samples that share their times in IMM


class SettingError(ValueError):
    """A legal value that does not fit its neighbours; `key` is the dotted setting to mend."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Added:
    """What plug-ins bring to a run: further terms of its loss, the settings of its process, and which code
    trains and measures it.

    families: those that there are. checked: this was run before, and its plug-ins are not asked again.
    """

    terms: tuple[TermSpec, ...] = ()
    process: dict[str, Any] | None = None
    families: Container[str] = PROCESSES
    checked: bool = False
    of_training: Origins = ()
    of_measurement: Origins = ()


def resolve(settings: Settings, scale: Scale, seed: int, added: Added | None = None) -> tuple[TrainSpec, EvalSpec]:
    """Turn the paper's words into a training and a measurement at a scale; added: what plug-ins bring.

    Raises:
        SettingError: a setting that is impossible beside the others (block deeper than the network, …).
    """
    added = added or Added()
    family, model = resolve_model(settings, scale, added.families)
    process = process_name(family)
    if process == "imm" and settings.batch % PARTICLES:
        raise SettingError("batch", f"IMM forms groups of {PARTICLES}, which do not divide {settings.batch}")
    train = TrainSpec(
        process=process,
        process_settings=ProcessSettings(**added.process) if added.process else None,
        model=model,
        regularizer=resolve_regularizer(settings, scale, model.depth),
        alignment=resolve_alignment(settings, scale, model),
        terms=added.terms or None,
        soft_tokens=resolve_soft_tokens(settings, scale, model, process) if settings.soft_tokens else None,
        plugins=added.of_training or None,
        consistency=resolve_consistency(settings, scale) if process == "consistency" else None,
        dropout=_dropout(settings, process),
        seed=seed,
        **{name: getattr(settings, name) for name in UNCHANGED},
        **{name: getattr(settings, name) for name in OF_ONE_PROCESS if name == process},
    )
    train = resolve_weights(settings, train)
    check_resources(train, settings.resources)
    evaluation = EvalSpec(
        step=scale.steps((settings.soft_tokens or settings).epochs),
        sampler=resolve_sampler(settings, family, added.checked),
        evaluation=settings.evaluation,
        first_image=seed * settings.evaluation.samples,
        plugins=added.of_measurement or None,
    )
    return train, evaluation


def _dropout(settings: Settings, process: str) -> float | None:
    """Return the dropout of a process that passes its batch through the network once; None without."""
    if settings.dropout and process not in ("flow", "ddpm"):
        raise SettingError("dropout", f"SiT and DiT have it alone; leave it out of {settings.model}, or say 0")
    return settings.dropout or None


def check_resources(train: TrainSpec, resources: Resources, processes: int | None = None) -> None:
    """Check that a training can be shared out as the resources say; processes: how many there are in all, where known.

    Raises:
        SettingError: it cannot, for instance because a group of the regulariser would be torn apart.
    """
    if train.process == "meanflow" and resources.checkpoint_blocks:
        reason = "torch cannot recompute blocks inside MeanFlow's JVP; a smaller resources.micro_batch saves memory too"
        raise SettingError("resources.checkpoint_blocks", reason)
    if resources.team > resources.gpus > 0:
        raise SettingError("resources.processes", f"{resources.team} processes need as many GPUs, not {resources.gpus}")
    shared = {name: getattr(resources, name) or 1 for name in ("gpus", "processes", "nodes", "sample_shards")}
    if resources.packed > 1 and (several := next((name for name, count in shared.items() if count > 1), None)):
        packing = ("jobs_per_gpu", "trainings_at_once", "trainings_per_job")
        key = next(name for name in packing if getattr(resources, name) == resources.packed)
        together = (
            f"{resources.packed} trainings that share one {'GPU' if key == packing[0] else 'job'} cannot each have"
        )
        reason = f"{together} resources.{several}: {shared[several]}; leave one of the two out"
        raise SettingError(f"resources.{key}", reason)
    processes = processes or resources.nodes * resources.team
    share, group = train.batch // processes, math.lcm(*groups_of(train))
    if train.batch % (processes * group):
        pairs = f" in whole groups of {group}" if group > 1 else ""
        reason = f"{processes} processes cannot share a batch of {train.batch} evenly{pairs}"
        raise SettingError("resources.processes", reason)
    micro_batch = resources.micro_batch or share
    if share % micro_batch or micro_batch % group:
        pairs = f" and be a multiple of the group of {group}" if group > 1 else ""
        reason = f"{micro_batch} must divide a process's share of {share} samples{pairs}"
        raise SettingError("resources.micro_batch", reason)


def groups_of(train: TrainSpec) -> list[int]:
    """Return how many samples the terms of a training, and its process, take together."""
    groups = [term.group or 1 for term in train.terms or ()]
    groups += [train.regularizer.group] if train.regularizer else []
    groups += [train.soft_tokens.group] if train.soft_tokens else []
    return [*groups, PARTICLES if train.process == "imm" else 1]


def check_groups(key: str, group: int, settings: Settings) -> None:
    """Check that groups of so many samples fit into a batch.

    Raises:
        SettingError: they do not; key: the setting that says how many.
    """
    if settings.batch % group:
        raise SettingError(key, f"groups of {group} do not divide the batch of {settings.batch}")
    if group > 1 and group % PARTICLES and settings.model.startswith("IMM-"):
        raise SettingError(key, f"IMM's own groups of {PARTICLES} do not divide {group}")


def resolve_model(settings: Settings, scale: Scale, families: Container[str] = PROCESSES) -> tuple[str, Model]:
    """Return the family of a model such as SiT-B/2, looked up in the scale's ladder, and check that its numbers fit
    together."""
    match = re.fullmatch(r"(.+)-(S|B|L|XL)/(2|4|8)", settings.model)
    if not match or match[1] not in families or match[1] in FAMILIES:
        legal = f"{{{','.join(PROCESSES)}}}-{{S,B,L,XL}}/{{2,4,8}}"
        raise SettingError("model", f"unknown model '{settings.model}'; legal: {legal}")
    family, size, patch = cast(tuple[str, Size, Patch], match.groups())
    if size not in scale.ladder or patch not in scale.patches:
        sizes, patches = ", ".join(scale.ladder), ", ".join(scale.patches)
        raise SettingError("model", f"scale {scale.scale} has sizes {sizes} and patches {patches}, not {size}/{patch}")
    residuals = "long" if settings.residuals == "long" else None
    model = Model(**scale.ladder[size].model_dump(), patch=scale.patches[patch], residuals=residuals)
    if residuals and model.depth < 2:
        raise SettingError("residuals", f"{settings.model} here has one block, and nothing to join; say none")
    if settings.data.size % model.patch:
        raise SettingError("model", f"patch {model.patch} does not divide the image size {settings.data.size}")
    if model.width % (2 * model.heads):
        raise SettingError("model", f"width {model.width} must be an even multiple of {model.heads} heads")
    return family, model


def resolve_weights(settings: Settings, train: TrainSpec) -> TrainSpec:
    """Put the identity of the imported weights in a training that begins from some, and check that they fit."""
    if settings.weights is None:
        return train
    try:
        weights = imported.describe(imported.folder(), settings.weights)
    except UserError as error:
        raise SettingError("weights", str(error)) from None
    here = imported.architecture_of(train)
    if weights.network != here:
        message = f"'{weights.name}' is {weights.label} ({weights.network}), {settings.model} here is {here}"
        raise SettingError("weights", message)
    return train.model_copy(update={"weights": weights.sha256})


def resolve_blocks(blocks: Blocks, depth: int, key: str = "regularizer.blocks") -> tuple[int, ...]:
    """Turn block words into 1-based block numbers: k/n is the block at that share of the depth, rounded up.

    Block num_layers//4, the paper's default, is 3/12 at every size of the paper; where the depth is no multiple of 4,
    3/12 is the block after it. key: the setting to mend.
    """
    if blocks == "all":
        return tuple(range(1, depth + 1))
    if isinstance(blocks, tuple):
        return tuple(sorted({number for word in blocks for number in resolve_blocks(word, depth, key)}))
    part, _, whole = str(blocks).replace("last", "1/1").partition("/")
    number = math.ceil(int(part) * depth / int(whole)) if whole else int(part)
    if number > depth:
        raise SettingError(key, f"no block {number} in a network of {depth} blocks")
    return (number,)


def resolve_regularizer(settings: Settings, scale: Scale, depth: int) -> Regularizer | None:
    """Keep exactly the fields that the chosen loss and kind use."""
    chosen = settings.regularizer
    if chosen.loss == "none":
        return None
    check_groups("regularizer.group", chosen.group, settings)
    if isinstance(chosen.tau, OfDistance) and chosen.loss in ("infonce-cosine", "infonce-l2"):
        _check_of_distance(settings)
    names = {"kind", "loss", "lambda_", "group", *constants_of(chosen.loss, chosen.kind)}
    if chosen.kind == "contrastive":
        names |= {"noise", "gap"} if chosen.noise == "restricted" else {"noise"}
    return Regularizer(
        **chosen.model_dump(include=names, by_alias=True),
        blocks=resolve_blocks(chosen.blocks, depth),
        **_span(chosen, scale),
    )


def _check_of_distance(settings: Settings) -> None:
    if settings.regularizer.loss != "infonce-l2":
        raise SettingError("regularizer.tau", "of_distance is of infonce-l2, whose D has no bound; say τ itself")
    if settings.weights:
        raise SettingError("regularizer.tau", "of_distance is of weights that are drawn, not imported; say τ itself")


def _span(chosen: RegularizerSettings | AlignmentSettings, scale: Scale) -> dict[str, int | None]:
    """Return in steps when a term stops, and over how many its weight grows.

    Raises:
        SettingError: it would stop before its weight is whole.
    """
    spans = {key: scale.steps(getattr(chosen, key)) if getattr(chosen, key) else None for key in ("stop", "warm_up")}
    if spans["stop"] and (spans["warm_up"] or 0) > spans["stop"]:
        key = "regularizer" if isinstance(chosen, RegularizerSettings) else "alignment"
        raise SettingError(f"{key}.warm_up", f"{chosen.warm_up} epochs are more than those that it is there for")
    return spans


def resolve_consistency(settings: Settings, scale: Scale) -> Consistency:
    """Turn the paper's epochs of iCT's curriculum into steps."""
    epochs, finest = settings.consistency.epochs, settings.consistency.finest
    if epochs is None:
        raise SettingError("consistency.epochs", "iCT needs the length of its curriculum; usually that of the training")
    steps, parts = scale.steps(epochs), (finest // 10).bit_length()  # 10 intervals, 20, 40 …
    if steps < parts:
        raise SettingError("consistency.epochs", f"{steps} steps are too few for a curriculum of {parts} parts")
    return Consistency(steps=steps, finest=finest)


def resolve_alignment(settings: Settings, scale: Scale, model: Model) -> Alignment | None:
    """Keep exactly the fields that the chosen encoder and projector use."""
    chosen = settings.alignment
    if chosen.loss == "none":
        return None
    (block,) = resolve_blocks(chosen.block, model.depth, "alignment.block")
    own = chosen.encoder == OWN_ENCODER
    if own and chosen.own is None:
        raise SettingError("alignment.own", f"encoder {OWN_ENCODER} needs a recipe: side, patch, steps, batch, …")
    if own and chosen.own and chosen.own.side % chosen.own.patch:
        raise SettingError("alignment.own.patch", f"{chosen.own.patch} does not divide the side of {chosen.own.side}")
    if chosen.alpha is not None and settings.data.size == model.patch:
        raise SettingError("alignment.alpha", f"{settings.model} here has one token, which has no standard deviation")
    if chosen.loss == "sara" and chosen.sara.structure and settings.data.size == model.patch:
        raise SettingError("alignment.sara.structure", f"{settings.model} here has one token, alike to itself; say 0")
    unused = {"weights", "side"} if own else {"own"}
    unused |= ({"hidden"} if chosen.kernel else set()) | (set() if chosen.loss == "sara" else {"sara"})
    written = chosen.model_dump(exclude={"block", "stop", "warm_up", *unused})
    return Alignment(**written, block=block, **_span(chosen, scale))


def resolve_soft_tokens(settings: Settings, scale: Scale, model: Model, process: str) -> SoftTokenPhase:
    """Turn a second phase into blocks by number and the steps of the first.

    Raises:
        SettingError: the network or the data have nothing to contrast, or what is sampled is not the average.
    """
    chosen = cast(SoftTokensSettings, settings.soft_tokens)
    if process != "flow":
        raise SettingError("soft_tokens.epochs", f"defined for SiT and its errors of velocities, not {settings.model}")
    if settings.data.classes < 2:
        raise SettingError("soft_tokens.epochs", f"{settings.data.name} has one class, and nothing to contrast it with")
    if settings.evaluation.weights == "raw":
        raise SettingError("evaluation.weights", "soft tokens stand in the frozen average; say ema")
    check_groups("soft_tokens.group", chosen.group, settings)
    (blocks,) = resolve_blocks(chosen.blocks, model.depth, "soft_tokens.blocks")
    written = chosen.model_dump(exclude={"epochs", "blocks"})
    return SoftTokenPhase(after=scale.steps(settings.epochs), blocks=blocks, **written)


def resolve_sampler(settings: Settings, family: str, checked: bool = False) -> SamplerSettings:
    """Without guidance, or where there are no more than three channels, the guided channels are simply all.

    Without guidance there is no interval of it either. Saying a default is not saying anything.
    """
    said = settings.sampler.model_dump(include=set(DEFAULTS))
    sampler = settings.sampler.model_copy(update={key: None for key in DEFAULTS if said[key] == DEFAULTS[key]})
    if (tile := sampler.tile or TILE) % (sampler.decode or 1):
        raise SettingError("sampler.decode", f"groups of {sampler.decode} do not divide a tile of {tile} images")
    low, high = sampler.guidance_from, sampler.guidance_to
    if not checked:
        _check_sampler(settings, sampler, family)
    if low is not None and high is not None and high <= low:
        raise SettingError("sampler.guidance_to", f"no noise level is above {low:g} and up to {high:g}")
    if sampler.guidance == 1:
        return sampler.model_copy(update={"guidance_channels": "all", "guidance_from": None, "guidance_to": None})
    return sampler.model_copy(update={"guidance_channels": "all"} if settings.data.channels <= 3 else {})


def _check_sampler(settings: Settings, sampler: SamplerSettings, family: str) -> None:
    """Check that a family can be sampled so.

    Raises:
        SettingError: it cannot.
    """
    kind, bounds = PROCESSES[family], (sampler.guidance_from, sampler.guidance_to)
    if not suits(sampler.method, family):
        legal = ", ".join(samplers_of(family))
        raise SettingError("sampler.method", f"{settings.model} cannot be sampled by {sampler.method}; legal: {legal}")
    if kind.unguided and (sampler.guidance != 1 or bounds != (None, None)):
        raise SettingError("sampler.guidance", kind.unguided)
    if bounds != (None, None) and not kind.noise_levels:
        key = "sampler.guidance_from" if sampler.guidance_from is not None else "sampler.guidance_to"
        raise SettingError(key, f"{family} has no noise levels for an interval of guidance; leave it out")
    steps = SAMPLERS[sampler.method]
    if steps.intervals is not None and sampler.intervals not in steps.intervals:
        raise SettingError("sampler.intervals", f"{family} is sampled in {steps.steps or 'other numbers of steps'}")
