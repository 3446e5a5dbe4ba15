"""What the networks of a study have learnt, block by block, and whether that ranks the arms as FID does.

Read from the files that `harness probe` wrote. Arms are compared that differ in nothing but the regulariser: same
network, data, length, sampling and metric. A study may have several such sets; the one with most arms is shown.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.config.grid import Cell
from harness.report.analysis.arms import Arm, arm_groups, step_of
from harness.report.analysis.pivot import Pivot, RunState, cell_name
from harness.report.analysis.statistics import Interval, spearman, spearman_interval
from harness.report.analysis.text import MEANINGS
from harness.store.records import Probe
from harness.store.store import Store

METRIC = "fid"
FEWEST_ARMS = 5  # below, an interval of a rank correlation says nothing


MEASURES: Mapping[str, Sequence[str]] = MEANINGS["measures of representations"]  # → title, definition


@dataclass(frozen=True)
class Probed:
    """One seed of an arm: its FID, and what its representations are like."""

    run: RunState
    value: float
    probe: Probe


@dataclass(frozen=True)
class ProbedArm:
    """One regulariser, or none, with all its seeds; `tables` says how many tables have it."""

    name: str
    cell: Cell
    seeds: dict[int, Probed]
    tables: int

    @property
    def value(self) -> float:
        """FID, the mean of the seeds."""
        return fmean(probed.value for probed in self.seeds.values())

    def mean(self, measure: str) -> float | None:
        """Mean of a measure over seeds, blocks and noise levels; None where one was not measured."""
        return mean_over_blocks([probed.probe for probed in self.seeds.values()], measure)


def mean_over_blocks(probes: Sequence[Probe], measure: str) -> float | None:
    """Return the mean of a measure over probes, their blocks and noise levels; None where one was not measured."""
    levels = [level for probe in probes for level in probe.levels]
    numbers = [getattr(block, measure) for level in levels for block in level.blocks if block.block]
    return None if None in numbers else fmean(numbers)


@dataclass(frozen=True)
class Correlation(Interval):
    """Spearman's ρ of a measure with FID over so many arms, and its interval, whose sign is 0 where it holds zero."""

    measure: str
    rho: float
    arms: int


def probed_arms(store: Store, pivots: Sequence[Pivot]) -> list[ProbedArm]:
    """Return the arms of the largest set that can be compared and has probes; the baseline first, where it is there."""
    sets: dict[tuple[int, int, str], dict[int, ProbedArm]] = {}
    for place, group in enumerate(arm_groups([pivot for pivot in pivots if pivot.table.file.value == METRIC])):
        for index, arm in enumerate(group.arms):
            for step in arm.measured:
                cells = [cell.source for cell in arm.cells if step_of(cell) == step]
                tables = len({cell.runs[0].table for cell in cells})
                for seed, probed in _probed(store, arm, step).items():
                    alike = sets.setdefault((place, step, str(probed.probe.protocol)), {})
                    alike.setdefault(index, ProbedArm(cell_name(cells[0]), cells[0], {}, tables)).seeds[seed] = probed
    largest = max(sets.values(), key=len, default={})
    return sorted(largest.values(), key=lambda arm: arm.cell.runs[0].train.regularizer is not None)


def _probed(store: Store, arm: Arm, step: int) -> dict[int, Probed]:
    """Return the runs of an arm at a step that were probed, by seed."""
    runs, values = arm.measured[step], arm.values(step)
    probes = {seed: Probe.peek(store.probe_path(runs[seed].train_id, step)) for seed in sorted(runs)}
    return {seed: Probed(runs[seed], values[seed], probe) for seed, probe in probes.items() if probe}


def baseline_and_default(arms: Sequence[ProbedArm]) -> tuple[ProbedArm, ProbedArm] | None:
    """Return the arm without the loss, and the dispersive one that most tables have; None where one is missing."""
    plain = [arm for arm in arms if arm.cell.runs[0].train.regularizer is None]
    regularizers = [(arm, arm.cell.runs[0].train.regularizer) for arm in arms]
    dispersive = [arm for arm, regularizer in regularizers if regularizer and regularizer.kind == "dispersive"]
    return (plain[0], max(dispersive, key=lambda arm: arm.tables)) if plain and dispersive else None


def correlations(arms: Sequence[ProbedArm]) -> list[Correlation]:
    """Return the rank correlation of each measure with FID over the arms, each the mean of its seeds."""
    if len(arms) < FEWEST_ARMS:
        return []
    values, ranked = [arm.value for arm in arms], []
    for measure in MEASURES:
        means = [mean for arm in arms if (mean := arm.mean(measure)) is not None]
        rho = spearman(means, values) if len(means) == len(arms) else math.nan
        if not math.isnan(rho):
            interval = spearman_interval(rho, len(arms))
            ranked.append(Correlation(interval.low, interval.high, measure, rho, len(arms)))
    return ranked


def repeatability(arms: Sequence[ProbedArm]) -> float | None:
    """Rank correlation of FID between two seeds of the same arms: how much of the arms' order is not noise."""
    seeds = Counter(seed for arm in arms for seed in arm.seeds).most_common(2)
    both = [arm.seeds for arm in arms if all(seed in arm.seeds for seed, _ in seeds)]
    if len(seeds) < 2 or len(both) < FEWEST_ARMS:
        return None
    rho = spearman(*([by_seed[seed].value for by_seed in both] for seed, _ in seeds))
    return None if math.isnan(rho) else rho
