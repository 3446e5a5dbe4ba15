"""Which rows of a table are sums of others, and what is compared: each with the baseline, a sum with its better part.

All of it is one family of tests. The better part of a sum is that of the better mean, chosen on the same values: by
chance it is a little too good, so that a sum that beats it does add.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.config.spec import TrainSpec
from harness.report.analysis.arms import step_of
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.representations import mean_over_blocks
from harness.report.analysis.statistics import Change, change_between, holm
from harness.store.records import Probe
from harness.store.store import Store

SPREAD = "distance"  # the probe's measure


@dataclass(frozen=True)
class Contrast:
    """A cell against another: its baseline, or the better part of a sum; `change.adjusted` is of the whole family."""

    cell: PivotCell
    against: PivotCell
    change: Change

    @property
    def key(self) -> str:
        """What is compared: one for rows that are one run."""
        return f"{self.cell.eval_ids} against {self.against.eval_ids}"


@dataclass(frozen=True)
class Contrasts:
    """What is compared in one table: methods alone and sums with the baseline, and sums with their better part."""

    pivot: Pivot
    alone: Sequence[Contrast]
    sums: Sequence[Contrast]
    added: Sequence[Contrast]

    @property
    def family(self) -> list[Contrast]:
        """All that is tested together."""
        return [*self.alone, *self.sums, *self.added]


def contrasts(pivot: Pivot) -> Contrasts | None:
    """Return what can be compared in a table; None where no row with a value is the sum of others."""
    sums = {cell.source.at: parts for cell in pivot.cells if (parts := parts_of(cell, pivot.cells))}
    measured = [cell for cell in pivot.cells if cell.change and pivot.shows(cell)]
    if not pivot.table.scale.meaningful or not any(cell.source.at in sums for cell in measured):
        return None
    of_cells = [Contrast(cell, cell.baseline, cell.change) for cell in measured if cell.baseline and cell.change]
    added = [_added(pivot, cell, sums[cell.source.at]) for cell in measured if cell.source.at in sums]
    family = _corrected([*of_cells, *filter(None, added)])
    compared, beside = family[: len(of_cells)], family[len(of_cells) :]
    alone = [contrast for contrast in compared if contrast.cell.source.at not in sums]
    return Contrasts(pivot, alone, [contrast for contrast in compared if contrast.cell.source.at in sums], beside)


def parts_of(cell: PivotCell, among: Sequence[PivotCell]) -> list[PivotCell]:
    """Return the rows that a row is the sum of: what two of them change of the baseline's training, it changes."""
    own = _changed(cell)
    parts = [(other, its) for other in among if _alike(other, cell) and (its := _changed(other)) and its < own]
    return [other for other, its in parts if own - its in [rest for _, rest in parts]]


def _alike(cell: PivotCell, other: PivotCell) -> bool:
    """Tell whether two rows have one baseline and are measured alike."""
    evaluations = [c.source.runs[0].evaluation.model_copy(update={"first_image": 0}) for c in (cell, other)]
    baselines = [c.baseline.source.at if c.baseline else None for c in (cell, other)]
    return baselines[0] == baselines[1] is not None and evaluations[0] == evaluations[1]


def _changed(cell: PivotCell) -> set[str]:
    """What a row's training has that its baseline's has not; terms count one by one, and none of them is no change."""
    return _fields(cell.source.runs[0].train) - _fields(cell.baseline.source.runs[0].train) if cell.baseline else set()


def _fields(train: TrainSpec) -> set[str]:
    whole = {f"{name} {value!r}" for name, value in train if name not in ("seed", "terms") and value is not None}
    return whole | {f"term {term!r}" for term in train.terms or ()}


def _added(pivot: Pivot, cell: PivotCell, parts: Sequence[PivotCell]) -> Contrast | None:
    """Compare a sum with the best of its parts; None before all of them are measured as it is."""
    alike = [part for part in parts if pivot.shows(part) and part.letters == cell.letters]
    if len(alike) < len(parts) or not pivot.metric.direction:
        return None
    better = pivot.ranked(alike)[0]
    change = change_between(cell.values, better.values)
    return Contrast(cell, better, change) if change else None


def _corrected(family: Sequence[Contrast]) -> list[Contrast]:
    adjusted = holm({c.key: c.change.p for c in family if c.change.p is not None})
    return [replace(c, change=replace(c.change, adjusted=adjusted.get(c.key))) for c in family]


def spread_changes(store: Store, compared: Contrasts) -> dict[str, Change]:
    """Return by a row's name how much further apart its representations are than the baseline's, where both are known.

    Each seed is compared with the same seed of the baseline, probed in the same way.
    """
    changes = {}
    for contrast in (*compared.alone, *compared.sums):
        ours, base = (_spreads(store, cell) for cell in (contrast.cell, contrast.against))
        common = {seed for seed in ours if seed in base and ours[seed][0] == base[seed][0]}
        values = [{seed: side[seed][1] for seed in sorted(common)} for side in (ours, base)]
        if common and (change := change_between(*values)):
            changes[contrast.cell.name] = change
    return changes


def _spreads(store: Store, cell: PivotCell) -> dict[int, tuple[str, float]]:
    """Return by seed how a run was probed, and the mean distance between the representations of two images."""
    probes = {run.seed: Probe.peek(store.probe_path(run.train_id, step_of(cell))) for run in cell.runs}
    means = {seed: (str(probe.protocol), mean_over_blocks([probe], SPREAD)) for seed, probe in probes.items() if probe}
    return {seed: (protocol, mean) for seed, (protocol, mean) in means.items() if mean is not None}
