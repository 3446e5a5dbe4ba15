"""Guidance against the dispersive loss: the best scale of each arm, the gain by scale, and whose diversity is spent."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.config.grid_file import At
from harness.metric_definitions import definition_of
from harness.report.analysis.pivot import Pivot, PivotCell, kind_of
from harness.report.analysis.statistics import Interval, change_between, mean_interval
from harness.report.analysis.text import interval_words, sentences, signed

LEAST_SCALES = 3
DIVERSITY = ("recall", "coverage")


@dataclass(frozen=True)
class SweptArm:
    """One arm's cells by guidance scale, the smallest first; `best` is the scale with the best mean."""

    label: str
    cells: Mapping[float, PivotCell]
    best: float

    def values(self, scale: float, metric: str) -> dict[int, float]:
        """Return a metric at a guidance scale, by seed."""
        return {run.seed: run.metrics[metric] for run in self.cells[scale].runs if metric in run.metrics}


@dataclass(frozen=True)
class Effect:
    """A mean over seeds with its interval: what is not told from zero has no sign."""

    mean: float
    interval: Interval | None

    @property
    def sign(self) -> int:
        """−1, 0 or 1."""
        return self.interval.sign if self.interval else 0

    def words(self, decimals: int) -> str:
        """Return "−0.021 [−0.040, −0.002]"."""
        mean = signed(self.mean, decimals)
        return f"{mean} {interval_words(self.interval, decimals)}" if self.interval else mean


@dataclass(frozen=True)
class Sweep:
    """One baseline that was drawn at several guidance scales, its arms, and what they show.

    `name` is unique in the study: of its table, and where that has several baselines by their place.
    """

    pivot: Pivot
    name: str
    base: SweptArm
    arms: tuple[SweptArm, ...]
    sentences: list[str]


def sweeps(pivots: Sequence[Pivot]) -> list[Sweep]:
    """Return a sweep for each baseline that was drawn at three guidance scales or more, with its arms."""
    return [
        Sweep(pivot, f"{pivot.table.name}-sweep-{place}", base, arms, _sentences(pivot, base, arms))
        for pivot in pivots
        if pivot.table.scale.meaningful and not pivot.mixes
        for place, (base, arms) in enumerate(swept(pivot), 1)
    ]


def swept(pivot: Pivot) -> Iterator[tuple[SweptArm, tuple[SweptArm, ...]]]:
    """Yield each baseline with its arms; all that lack three scales with a value are left out."""
    axes = pivot.table.file.axes.items()
    scales = {axis for axis, labels in axes if all("sampler.guidance" in settings for settings in labels.values())}

    def place(cell: PivotCell) -> At:
        return tuple((axis, label) for axis, label in cell.source.at if axis not in scales)

    groups: dict[At, dict[float, PivotCell]] = {}
    for cell in sorted((c for c in pivot.cells if c.ours), key=lambda c: c.source.settings.sampler.guidance):
        groups.setdefault(place(cell), {})[cell.source.settings.sampler.guidance] = cell
    arms = {at: _arm(pivot, cells) for at, cells in groups.items() if len(cells) >= LEAST_SCALES}
    baselines = {at: [place(cell.baseline) for cell in arm.cells.values() if cell.baseline] for at, arm in arms.items()}
    for at, base in arms.items():
        if beside := tuple(arm for other, arm in arms.items() if at in baselines[other]):
            yield base, beside


def _arm(pivot: Pivot, cells: Mapping[float, PivotCell]) -> SweptArm:
    first = next(iter(cells.values()))
    return SweptArm(first.column or first.row, cells, min(cells, key=lambda scale: pivot.badness(cells[scale].mean)))


def _sentences(pivot: Pivot, base: SweptArm, arms: Sequence[SweptArm]) -> list[str]:
    gains = [_gain(pivot, base, arm) for arm in arms]
    return sentences("guidance_sweep.j2", metric=pivot.metric, swept=(base, *arms), gains=gains)


def _gain(pivot: Pivot, base: SweptArm, arm: SweptArm) -> dict[str, Any]:
    """What an arm gains without guidance and with: at the baseline's best scale, or the largest where that is none."""
    common = [scale for scale in base.cells if scale in arm.cells]
    low, high = min(arm.cells), base.best if base.best in common and base.best > min(common) else max(common)
    changed = arm.cells[low].change and arm.cells[high].change
    return {
        "arm": arm,
        "kinds": Counter(kind_of(pivot, cell.change) for cell in arm.cells.values() if cell.change),
        "at_best": change_between(arm.cells[arm.best].values, base.cells[base.best].values),
        "low": low,
        "high": high,
        "moved": _moved(_by_seed(pivot.table.file.value, base, arm, low, high)) if changed else None,
        "strongest": max(common),
        "diversity": [_diversity(name, base, arm, low, high, max(common)) for name in DIVERSITY],
    }


def _by_seed(metric: str, base: SweptArm, arm: SweptArm, low: float, high: float) -> pd.DataFrame:
    """Return a metric of two arms at two scales, a row for each seed that has all four."""
    values = {
        "arm_low": arm.values(low, metric),
        "base_low": base.values(low, metric),
        "arm_high": arm.values(high, metric),
        "base_high": base.values(high, metric),
    }
    return pd.DataFrame(values).dropna()


def _moved(values: pd.DataFrame) -> Effect | None:
    """How the change in percent differs between two scales.

    Each change is a ratio of means, as everywhere; a seed's part in it is its residual, which leaves the mean as it is.
    """
    if values.empty or not values["base_low"].mean() or not values["base_high"].mean():
        return None
    at_high, at_low = (_ratios(values[f"arm_{scale}"], values[f"base_{scale}"]) for scale in ("high", "low"))
    return _effect(100 * (at_high - at_low))


def _ratios(ours: pd.Series, base: pd.Series) -> pd.Series:
    """Return the ratio of two means with each seed's residual added."""
    ratio = ours.mean() / base.mean()
    return ratio + (ours - ratio * base) / base.mean()


def _effect(differences: pd.Series) -> Effect:
    return Effect(float(differences.mean()), mean_interval(differences.to_numpy()))


def _diversity(metric: str, base: SweptArm, arm: SweptArm, low: float, best: float, strongest: float) -> dict[str, Any]:
    """Compare no guidance with the strongest, where it spends most; and say what it does where the baseline is best."""
    values = _by_seed(metric, base, arm, low, strongest)
    if values.empty:
        return {"metric": metric, "loss": None}
    loss, guidance = values["arm_low"] - values["base_low"], values["base_high"] - values["base_low"]
    at_best = pd.Series(base.values(best, metric)).reindex(values.index)
    between = low < best < strongest and at_best.notna().all()
    return {
        "metric": metric,
        "decimals": definition_of(metric).decimals,
        "loss": _effect(loss),
        "guidance": _effect(guidance),
        "beside": _effect(values["arm_high"] - values["base_high"] - loss),
        "at_best": _effect(at_best - values["base_low"]) if between else None,
    }
