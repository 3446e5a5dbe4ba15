"""The protocol of every number: what it was drawn, measured and trained with, and what a table varies on purpose."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.grid import Run, Table

Protocol = tuple[tuple[str, str], ...]
# Known before anything is measured; the file of a measurement adds its own words (features, reference, …).
GUIDANCE_COLUMNS = ("guidance", "guidance_channels", "guidance_interval")
SAMPLING_COLUMNS = ("sampler", "intervals", *GUIDANCE_COLUMNS, "sampling_precision", "target_guidance")
TRAINING_COLUMNS = ("training_precision", "betas", "ema", "group")
# Which settings a label must name for a difference to be meant. How images are drawn may follow from the model too.
ASKED_BY = {
    "generated": ("evaluation.samples",),
    "kid_subset_size": ("evaluation.samples",),
    "labels": ("evaluation.labels",),
    "features": ("evaluation.features",),
    "reference": ("evaluation.reference",),
    "reference_count": ("evaluation.reference",),
    "reference_content": ("evaluation.reference",),
    "weights": ("evaluation.weights",),
    "training_precision": ("precision",),
    "betas": ("optimizer.beta1", "optimizer.beta2", "preset"),
    "ema": ("ema",),
    "group": ("regularizer.group", "preset"),
}


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
    contents = [dict(protocol) for protocol in protocols]
    return [key for key in (contents[0] if contents else {}) if len({said[key] for said in contents}) > 1]


def mixes(table: Table, protocols: Sequence[Protocol]) -> bool:
    """Tell whether numbers were measured differently though the table does not ask for it.

    A table may itself vary how images are drawn (a sampler for each family, with and without guidance), and whatever
    its labels set.
    """
    evaluations: dict[tuple[str, ...], set[str]] = {}
    for said in map(dict, protocols):
        evaluations.setdefault(tuple(said[key] for key in SAMPLING_COLUMNS), set()).add(said["nfe"])
    unasked = set(differing_keys(protocols)) - {*SAMPLING_COLUMNS, "nfe"} - asked(table)
    return bool(unasked) or any(len(counts) > 1 for counts in evaluations.values())


def asked(table: Table) -> set[str]:
    """Return the words of the protocol that some label of a table sets."""
    named = {key for labels in table.file.axes.values() for settings in labels.values() for key in _keys(settings)}
    return {word for word, keys in ASKED_BY.items() if named & set(keys)}


def _keys(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted settings that a label names."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@dataclass(frozen=True)
class Trained:
    """One word of the protocol of training: its values in a table, and the names of the cells that have each."""

    word: str
    cells: Mapping[str, tuple[str, ...]]
    asked: bool


def trained(table: Table, names: Sequence[str]) -> list[Trained]:
    """Return how a table's cells were trained, word by word; names: of its cells, in their order."""
    found = []
    for word in TRAINING_COLUMNS:
        cells: dict[str, list[str]] = {}
        for cell, name in zip(table.cells, names, strict=True):
            if value := training_protocol(cell.runs[0])[word]:
                cells.setdefault(value, []).append(name)
        found.append(Trained(word, {value: tuple(whose) for value, whose in cells.items()}, word in asked(table)))
    return found
