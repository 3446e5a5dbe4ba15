"""The protocol of every number: what it was drawn, measured and trained with, and what a table varies on purpose."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.config.grid import Cell, Run, Table
from harness.config.settings.process_settings import SamplerSettings
from harness.config.spec import TrainSpec

Protocol = Mapping[str, str]  # key → its value in words, "" for none
# Known before anything is measured; the file of a measurement adds its own words (features, reference, …).
GUIDANCE_COLUMNS = ("guidance", "guidance_channels", "guidance_interval")
SAMPLING_COLUMNS = ("sampler", "intervals", *GUIDANCE_COLUMNS, "sampling_precision", "target_guidance")
TRAINING_COLUMNS = ("training_precision", "betas", "ema", "group")
# Which settings a label must name for a difference to be meant. How images are drawn may follow from the model too.
SET_BY = {
    "generated": ("evaluation.samples",),
    "kid_subset_size": ("evaluation.samples",),
    "labels": ("evaluation.labels",),
    "features": ("evaluation.features",),
    "reference": ("evaluation.reference",),
    "reference_count": ("evaluation.reference",),
    "reference_content": ("evaluation.reference",),
    "reference_part": ("evaluation.reference_part",),
    "held_out": ("evaluation.held_out",),
    "weights": ("evaluation.weights",),
    "training_precision": ("precision",),
    "betas": ("optimizer.beta1", "optimizer.beta2", "preset"),
    "ema": ("ema",),
    "group": ("regularizer.group", "preset"),
}


def sampling_protocol(run: Run) -> dict[str, Any]:
    """Return how a run's samples are drawn and labelled, and with which of its weights."""
    sampler, evaluation = run.evaluation.sampler, run.evaluation.evaluation
    return {
        "sampler": sampler.method,
        "intervals": sampler.intervals,
        "guidance": sampler.guidance,
        "guidance_channels": sampler.guidance_channels,
        "guidance_interval": _guidance_interval(sampler),
        "sampling_precision": sampler.matmul or "fp32" if sampler.precision == "fp32" else sampler.precision,
        "target_guidance": _target_guidance(run.train),
        "labels": evaluation.labels,
        "weights": evaluation.weights,
    }


def _guidance_interval(sampler: SamplerSettings) -> str:
    """The noise levels at which there is guidance; "" where that is everywhere."""
    low = "" if sampler.guidance_from is None else f"{sampler.guidance_from:g} < "
    high = "" if sampler.guidance_to is None else f" ≤ {sampler.guidance_to:g}"
    return f"{low}σ{high}" if low or high else ""


def _target_guidance(train: TrainSpec) -> str:
    """The guidance that MeanFlow or a shortcut model has in its training target; "" where there is none."""
    meanflow, shortcut = train.meanflow, train.shortcut
    if shortcut and shortcut.guidance != 1:
        return f"{shortcut.guidance:g}"
    if meanflow is None or (meanflow.omega, meanflow.kappa) == (1, 0):
        return ""
    times = "" if (meanflow.start, meanflow.end) == (0, 1) else f", t from {meanflow.start:g} to {meanflow.end:g}"
    return f"ω = {meanflow.omega:g}, κ = {meanflow.kappa:g}{times}"


def training_protocol(run: Run) -> dict[str, str]:
    """Return how a run was trained, as far as two numbers must share it to be compared; "" where it does not apply."""
    train = run.train
    return {
        "training_precision": train.precision,
        "betas": f"({train.optimizer.beta1:g}, {train.optimizer.beta2:g})",
        "ema": f"{train.ema:g}" if run.evaluation.evaluation.weights == "ema" else "",
        "group": str(train.regularizer.group) if train.regularizer else "",
    }


def differing_keys(protocols: Iterable[Protocol]) -> list[str]:
    """Return what differs between protocols."""
    first, *further = [*protocols] or [{}]
    return [key for key, value in first.items() if any(protocol[key] != value for protocol in further)]


def mixes(table: Table, protocols: Sequence[Protocol]) -> bool:
    """Tell whether numbers were measured differently though the table does not ask for it.

    A table may itself vary how images are drawn (a sampler for each family, with and without guidance), and whatever
    its labels set.
    """
    evaluations: dict[tuple[str, ...], set[str]] = {}
    for protocol in protocols:
        evaluations.setdefault(tuple(protocol[key] for key in SAMPLING_COLUMNS), set()).add(protocol["nfe"])
    unasked = set(differing_keys(protocols)) - {*SAMPLING_COLUMNS, "nfe"} - varied_keys(table)
    return bool(unasked) or any(len(counts) > 1 for counts in evaluations.values())


def varied_keys(table: Table) -> set[str]:
    """Return the keys of the protocol that some label of a table sets."""
    labels = [settings for axis in table.file.axes.values() for settings in axis.values()]
    named = {key for settings in labels for key, _ in dotted_settings(settings)}
    return {key for key, settings in SET_BY.items() if named & set(settings)}


def dotted_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings that a label names, dotted, with their values."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from dotted_settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def training_values(table: Table) -> dict[str, dict[str, list[Cell]]]:
    """Return the values of each key of the training protocol in a table, and the cells that have each."""
    values: dict[str, dict[str, list[Cell]]] = {key: {} for key in TRAINING_COLUMNS}
    for cell in table.cells:
        for key, value in training_protocol(cell.runs[0]).items():
            if value:
                values[key].setdefault(value, []).append(cell)
    return values
