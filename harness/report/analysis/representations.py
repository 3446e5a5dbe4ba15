"""What the networks of a study have learnt, block by block, and whether that ranks the arms as FID does.

Read from the files that `harness probe` wrote. Arms are compared that differ in nothing but the regulariser: same
network, data, length, sampling and metric. A study may have several such sets; the one with most arms is shown.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import pandas as pd

from harness.config.grid import Cell, Run
from harness.config.spec import canonical
from harness.report.analysis.pivot import Pivot
from harness.store.records import Probe
from harness.store.store import Store

METRIC = "fid"
FEWEST_ARMS = 5  # below, an interval of a rank correlation says nothing
CONFIDENCE = 0.95


MEASURES = {
    "distance": ("pairwise distance", "mean ‖zᵢ − zⱼ‖/√D of flattened block outputs: the dispersion itself"),
    "norm": ("norm", "mean ‖z‖/√D of flattened block outputs"),
    "uniformity": ("uniformity", "log E exp(−2‖uᵢ − uⱼ‖²) of unit vectors (Wang and Isola 2020); lower is more spread"),
    "alignment": ("alignment", "E‖u − u⁺‖² of one image under two noises (ibid.); lower is steadier"),
    "effective_rank": ("effective rank", "exp of the entropy of singular values (Roy and Vetterli 2007)"),
    "probe_accuracy": ("linear-probe accuracy", "logistic regression on the mean of tokens, held-out images"),
    "cka": ("CKA", "linear CKA with the reference encoder (Kornblith et al. 2019)"),
    "cknna": ("CKNNA", "its nearest-neighbour form (Huh et al. 2024)"),
}


@dataclass(frozen=True)
class Probed:
    """One seed of an arm: its FID, and what its representations are like."""

    run: Run
    value: float
    probe: Probe


@dataclass(frozen=True)
class Arm:
    """One regulariser, or none, with all its seeds; `tables` says how many tables have it."""

    name: str
    cell: Cell
    seeds: Mapping[int, Probed]
    tables: int

    @property
    def value(self) -> float:
        """FID, the mean of the seeds."""
        return fmean(probed.value for probed in self.seeds.values())

    def mean(self, measure: str) -> float | None:
        """Mean of a measure over seeds, blocks and noise levels; None where one was not measured."""
        numbers = [
            getattr(block, measure)
            for probed in self.seeds.values()
            for level in probed.probe.levels
            for block in level.blocks
            if block.block
        ]
        return None if None in numbers else fmean(numbers)


@dataclass(frozen=True)
class Correlation:
    """Spearman's ρ over `arms` arms with its interval; None where a measure is missing or has no order."""

    measure: str
    rho: float
    low: float
    high: float
    arms: int

    @property
    def sure(self) -> bool:
        """Tell whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def arms(store: Store, pivots: Sequence[Pivot]) -> list[Arm]:
    """Return the arms of the largest set that can be compared and has probes; the baseline first, where it is there."""
    sets: dict[str, dict[str, list[tuple[Pivot, str, Cell, Probed]]]] = {}
    for pivot, name, cell, probed in _probed(store, pivots):
        train = probed.run.train
        alike = sets.setdefault(_alike(probed), {})
        alike.setdefault(canonical(train.regularizer) if train.regularizer else "", []).append(
            (pivot, name, cell, probed)
        )
    chosen = max(sets.values(), key=len, default={})
    return [_arm(chosen[key]) for key in sorted(chosen, key=bool)]


def _probed(store: Store, pivots: Sequence[Pivot]) -> Iterator[tuple[Pivot, str, Cell, Probed]]:
    for pivot in (p for p in pivots if p.table.file.value == METRIC):
        for cell in pivot.cells:
            runs = {run.eval_id: run for run in cell.source.runs}
            for state in cell.runs:
                run = runs[state.eval_id]
                probe = Probe.read(store.probe_path(run.train_id, run.evaluation.step))
                if probe and state.value is not None:
                    yield pivot, cell.name, cell.source, Probed(run, state.value, probe)


def _alike(probed: Probed) -> str:
    """All that must agree for two runs to be compared: everything but the regulariser and the seed."""
    train = probed.run.train.model_copy(update={"regularizer": None, "seed": 0})
    evaluation = probed.run.evaluation.model_copy(update={"first_image": 0})
    return f"{canonical(train)} {canonical(evaluation)} {probed.probe.protocol}"


def _arm(found: Sequence[tuple[Pivot, str, Cell, Probed]]) -> Arm:
    _, name, cell, _ = found[0]
    seeds = {probed.run.seed: probed for _, _, _, probed in found}
    return Arm(name, cell, dict(sorted(seeds.items())), len({pivot.table.name for pivot, *_ in found}))


def baseline_and_default(arms: Sequence[Arm]) -> tuple[Arm, Arm] | None:
    """Return the arm without the loss, and the dispersive one that most tables have; None where one is missing."""
    plain = [arm for arm in arms if arm.cell.runs[0].train.regularizer is None]
    regularizers = [(arm, arm.cell.runs[0].train.regularizer) for arm in arms]
    dispersive = [arm for arm, regularizer in regularizers if regularizer and regularizer.kind == "dispersive"]
    return (plain[0], max(dispersive, key=lambda arm: arm.tables)) if plain and dispersive else None


def correlations(arms: Sequence[Arm]) -> list[Correlation]:
    """Return the rank correlation of each measure with FID over the arms, each the mean of its seeds."""
    if len(arms) < FEWEST_ARMS:
        return []
    values, found = [arm.value for arm in arms], []
    for measure in MEASURES:
        means = [mean for arm in arms if (mean := arm.mean(measure)) is not None]
        rho = spearman(means, values) if len(means) == len(arms) else None
        found += [] if rho is None else [Correlation(measure, rho, *interval(rho, len(arms)), len(arms))]
    return found


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's ρ, ties sharing their mean rank; None where one of the two is constant."""
    rho = pd.Series(x, dtype=float).rank().corr(pd.Series(y, dtype=float).rank())
    return None if math.isnan(rho) else max(-1.0, min(1.0, float(rho)))


def interval(rho: float, n: int) -> tuple[float, float]:
    """The interval of ρ over n independent pairs: Fisher's z of variance (1 + ρ²/2)/(n − 3) (Bonett & Wright 2000)."""
    assert n > 3, n
    if abs(rho) == 1:
        return rho, rho
    z, half = math.atanh(rho), NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return math.tanh(z - half), math.tanh(z + half)


def repeatability(arms: Sequence[Arm]) -> float | None:
    """Rank correlation of FID between two seeds of the same arms: how much of the arms' order is not noise."""
    first, second, *_ = [*(seed for seed, _ in Counter(s for arm in arms for s in arm.seeds).most_common(2)), -1, -1]
    both = [arm.seeds for arm in arms if first in arm.seeds and second in arm.seeds]
    if len(both) < FEWEST_ARMS:
        return None
    return spearman([seeds[first].value for seeds in both], [seeds[second].value for seeds in both])
