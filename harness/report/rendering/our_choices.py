"""Our readings: what the paper leaves open and we chose, each shown where some run of the study depends on it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.grid import Run
from harness.config.settings import ConsistencySettings, MomentMatchingSettings, RegularizerSettings
from harness.config.spec import Process, Regularizer, TrainSpec
from harness.report.analysis.text import counted, listed

Condition = Callable[[TrainSpec, Regularizer], bool]


@dataclass(frozen=True)
class Reading:
    """A setting that the paper leaves open: why, what we took, and how many trainings depend on it."""

    sentence: str
    key: str
    description: str
    values: str
    runs: str


@dataclass(frozen=True)
class FixedReading:
    """A choice of ours that is no setting: what it is about, what we do, and how many trainings depend on it."""

    subject: str
    sentence: str
    runs: str


def _is_contrastive(train: TrainSpec, regularizer: Regularizer) -> bool:
    return regularizer.kind == "contrastive"


FIXED: tuple[tuple[str, str, Condition], ...] = (
    (
        "Means for sums in the covariance loss",
        "Table 1 prints sums over the features m and n; ours are means, so that the loss, and with it what λ weighs, "
        "does not grow with the number of features.",
        lambda train, regularizer: regularizer.loss == "covariance",
    ),
    (
        "Pairs of a contrastive loss",
        "The paper leaves open from which view the repelled sample j comes. Ours pairs sample i of the first view with "
        "sample j of the second, and in the covariance loss features of the first with features of the second.",
        _is_contrastive,
    ),
    (
        "j ≠ i in the contrastive hinge",
        "Ours does not repel a sample from its own second view; the paper’s sum over j does not say.",
        lambda train, regularizer: regularizer.loss == "hinge" and regularizer.kind == "contrastive",
    ),
    (
        "Distance of the hinge",
        "D is the root of the mean squared difference of two representations, so that the margin ε does not depend on "
        "the number of features.",
        lambda train, regularizer: regularizer.loss == "hinge",
    ),
    (
        "Several blocks",
        "The losses of the tapped blocks are averaged, not added.",
        lambda train, regularizer: len(regularizer.blocks) > 1,
    ),
    (
        "Labels of the two views",
        "Both views have the same label, and lose it together where labels are dropped.",
        _is_contrastive,
    ),
    (
        "Denoising on the first view only",
        "The second view has no denoising loss, and is computed no further than the last tapped block.",
        _is_contrastive,
    ),
    (
        "Restricted noise",
        "The second view has a time near the first’s, drawn uniformly within the gap, and noise of its own.",
        lambda train, regularizer: regularizer.noise == "restricted",
    ),
    (
        "Restricted noise with DiT",
        "DiT has 1,000 whole times: what is drawn within the gap’s share of them is rounded to the nearest.",
        lambda train, regularizer: regularizer.noise == "restricted" and train.process == "ddpm",
    ),
    (
        "λ and τ of contrastive losses",
        "The paper’s are not known to us; ours are by default those of the dispersive loss.",
        _is_contrastive,
    ),
    (
        "λ and τ of the other dispersive losses",
        "The paper’s λ, and the τ of InfoNCE with cosine distance, are not known to us; ours are by default those of "
        "InfoNCE with ℓ2 distance.",
        lambda train, regularizer: regularizer.kind == "dispersive" and regularizer.loss != "infonce-l2",
    ),
    (
        "λ, τ and block with MeanFlow",
        "The paper’s are not known to us; ours are by default those of its SiT runs.",
        lambda train, regularizer: train.process == "meanflow",
    ),
)

ALIGNED = (
    (
        "Training with REPA",
        "REPA’s authors train with β2 = 0.999 and clip gradients to norm 1. Ours are trained like the runs beside "
        "them, so that the alignment is all that differs.",
    ),
    (
        "REPA’s block",
        "Its authors align block 8 of the 28 of SiT-XL/2. In a network of another depth ours is the block at the same "
        "share of it, rounded up.",
    ),
)


OF_PROCESSES: tuple[tuple[Process, str, str], ...] = (
    (
        "shortcut",
        "Sizes of the steps in shortcut models",
        "Each sample that learns from two half steps draws its size on its own; the authors’ code has equal numbers of "
        "each in a batch. The averaged weights that make the targets are those that are measured.",
    ),
    (
        "imm",
        "Labels and scale in IMM",
        "A dropped label is dropped for both jumps that are compared; in the authors’ code the one that is the target "
        "keeps it. Images enter as they are, where the authors bring latents to one standard deviation.",
    ),
    (
        "consistency",
        "The network of iCT",
        "The table’s iCT-XL/2 is not described in any source we have. Ours is a transformer of that size with the "
        "constants of iCT’s own paper, which was written for other networks, but for those named here, and this "
        "study’s optimiser.",
    ),
)


def _trainings(runs: Iterable[Run]) -> dict[str, TrainSpec]:
    return {run.train_id: run.train for run in runs if run.train.regularizer}


def readings(runs: Iterable[Run]) -> list[Reading]:
    """Return every open setting of the regulariser that some run uses, with the value it used."""
    regularizers = [train.regularizer for train in _trainings(runs).values()]
    found = []
    for name, field in RegularizerSettings.model_fields.items():
        extra: Mapping[str, Any] = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        used = [value for spec in regularizers if (value := getattr(spec, name, None)) is not None]
        if "reading" in extra and used:
            values = listed([str(value) for value in sorted(set(used))])
            key = f"regularizer.{field.alias or name}"
            found.append(
                Reading(extra["reading"], key, field.description or "", values, counted(len(used), "training"))
            )
    return found


def _own_constants(process: Process, runs: Iterable[Run]) -> str:
    """Say where a constant is not the authors' own."""
    trains = [run.train for run in runs if run.train.process == process]
    used = {
        "k": ({train.imm.k for train in trains if train.imm}, MomentMatchingSettings().k),
        "s₁": ({train.consistency.finest for train in trains if train.consistency}, ConsistencySettings().finest),
    }
    said = [
        f"{name} is {listed([str(value) for value in sorted(values)])} instead of {own}"
        for name, (values, own) in used.items()
        if values - {own}
    ]
    return f" Here {listed(said)}." if said else ""


def fixed_readings(runs: Collection[Run]) -> list[FixedReading]:
    """Return every choice of ours that is no setting and on which some run depends."""
    trainings = _trainings(runs).values()
    found = []
    for subject, sentence, applies in FIXED:
        depending = sum(applies(train, train.regularizer) for train in trainings if train.regularizer)
        if depending:
            found.append(FixedReading(subject, sentence, counted(depending, "training")))
    for process, subject, sentence in OF_PROCESSES:
        depending = len({run.train_id for run in runs if run.train.process == process})
        if depending:
            found.append(
                FixedReading(subject, sentence + _own_constants(process, runs), counted(depending, "training"))
            )
    aligned = {run.train_id for run in runs if run.train.alignment}
    if aligned:
        found += [FixedReading(subject, sentence, counted(len(aligned), "training")) for subject, sentence in ALIGNED]
    return found
