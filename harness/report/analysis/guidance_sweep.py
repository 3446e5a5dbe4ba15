"""Guidance against the dispersive loss: the best scale of each arm, the gain by scale, and whose diversity is spent."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.metric_definitions import definition_of
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.statistics import Interval, change_between, mean_interval
from harness.report.analysis.text import interval_words, number, percent_change, signed

LEAST_SCALES = 3
DIVERSITY = ("recall", "coverage")


@dataclass(frozen=True)
class SweptArm:
    """One arm's cells by guidance scale, the smallest first."""

    label: str
    cells: Mapping[float, PivotCell]

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
    sentences: tuple[str, ...]


def sweeps(pivots: Sequence[Pivot]) -> list[Sweep]:
    """Return a sweep for each baseline that was drawn at three guidance scales or more, with its arms."""
    return [
        Sweep(pivot, f"{pivot.table.name}-sweep-{place}", base, tuple(arms), tuple(_sentences(pivot, base, arms)))
        for pivot in pivots
        if pivot.table.scale.meaningful and not pivot.mixes
        for place, (base, arms) in enumerate(swept(pivot), 1)
    ]


def swept(pivot: Pivot) -> Iterator[tuple[SweptArm, list[SweptArm]]]:
    """Yield each baseline with its arms; all that lack three scales with a value are left out."""
    groups: dict[tuple[tuple[str, str], ...], dict[float, PivotCell]] = {}
    of_baseline: dict[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]] = {}
    axes = _guidance_axes(pivot)
    for cell in sorted((c for c in pivot.cells if c.ours), key=lambda c: c.source.settings.sampler.guidance):
        place = tuple((axis, label) for axis, label in cell.source.at if axis not in axes)
        groups.setdefault(place, {})[cell.source.settings.sampler.guidance] = cell
        baseline = pivot.table.baseline(cell.source) or cell.source
        of_baseline[place] = tuple((axis, label) for axis, label in baseline.at if axis not in axes)
    whole = {place: cells for place, cells in groups.items() if len(cells) >= LEAST_SCALES}
    for place, cells in whole.items():
        arms = [_arm(whole[other]) for other in whole if other != place and of_baseline[other] == place]
        if arms:
            yield _arm(cells), arms


def _guidance_axes(pivot: Pivot) -> set[str]:
    axes = pivot.table.file.axes.items()
    return {axis for axis, labels in axes if all("sampler.guidance" in settings for settings in labels.values())}


def _arm(cells: Mapping[float, PivotCell]) -> SweptArm:
    first = next(iter(cells.values()))
    return SweptArm(first.column or first.row, cells)


def best_scale(pivot: Pivot, arm: SweptArm) -> float:
    """Return the guidance scale with the best mean."""
    return min(arm.cells, key=lambda scale: pivot.badness(arm.cells[scale].mean))


def _sentences(pivot: Pivot, base: SweptArm, arms: Sequence[SweptArm]) -> Iterator[str]:
    for arm in (base, *arms):
        scale = best_scale(pivot, arm)
        edge = ", the end of the sweep: the best may lie beyond" if scale == max(arm.cells) else ""
        value = number(arm.cells[scale].mean, pivot.metric.decimals)
        yield f"“{arm.label}” is best at guidance {scale:g} ({pivot.metric.title} {value}){edge}."
    for arm in arms:
        yield from _gain_sentences(pivot, base, arm)
        yield from _diversity_sentences(pivot, base, arm)


def _gain_sentences(pivot: Pivot, base: SweptArm, arm: SweptArm) -> Iterator[str]:
    own = arm.cells[best_scale(pivot, arm)], base.cells[best_scale(pivot, base)]
    if change := change_between(own[0].values, own[1].values):
        yield (
            f"Each at its best scale, {pivot.metric.title} of “{arm.label}” is {percent_change(change)} from the "
            f"baseline’s; both scales were chosen on these same numbers."
        )
    low, high = min(arm.cells), _spending(pivot, base, arm)
    first, last = arm.cells[low].change, arm.cells[high].change
    if first and last and (moved := _moved(base, arm, low, high)):
        verdict = {-1: "downwards", 0: "no more than chance would", 1: "upwards"}[moved.sign]
        yield (
            f"Its change is {percent_change(first)} at guidance {low:g} and {percent_change(last)} at {high:g}: "
            f"it moves by {moved.words(1)} points, {verdict}."
        )


def _spending(pivot: Pivot, base: SweptArm, arm: SweptArm) -> float:
    """The scale at which guidance is compared with none: the baseline's best, or the largest where that is none."""
    common = [scale for scale in base.cells if scale in arm.cells]
    best = best_scale(pivot, base)
    return best if best in common and best > min(common) else max(common)


def _moved(base: SweptArm, arm: SweptArm, low: float, high: float) -> Effect | None:
    """How the change in percent differs between two scales.

    Each change is a ratio of means, as everywhere; a seed's part in it is its residual, which leaves the mean as it is.
    """
    values = _aligned([cells[scale].values for scale in (low, high) for cells in (arm.cells, base.cells)])
    ours_low, base_low, ours_high, base_high = values
    if not values.size or not base_low.mean() or not base_high.mean():
        return None
    return _effect(100 * (_ratios(ours_high, base_high) - _ratios(ours_low, base_low)))


def _ratios(ours: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Return the ratio of two means with each seed's residual added."""
    ratio = ours.mean() / base.mean()
    return ratio + (ours - ratio * base) / base.mean()


def _aligned(values: Sequence[Mapping[int, float]]) -> np.ndarray:
    """Return values by seed as rows that have the seeds of all of them."""
    seeds = [seed for seed in values[0] if all(seed in by_seed for by_seed in values)]
    return np.array([[by_seed[seed] for seed in seeds] for by_seed in values])


def _effect(differences: np.ndarray) -> Effect:
    return Effect(float(differences.mean()), mean_interval(differences))


def _diversity_sentences(pivot: Pivot, base: SweptArm, arm: SweptArm) -> Iterator[str]:
    """Compare no guidance with the strongest, where it spends most; and say what it does where the baseline is best."""
    low, high = min(arm.cells), max(scale for scale in base.cells if scale in arm.cells)
    best = _spending(pivot, base, arm)
    for metric in DIVERSITY:
        corners = [each.values(scale, metric) for scale in (low, high) for each in (arm, base)]
        values = _aligned(corners)
        if not values.size:
            yield f"{metric.capitalize()} is not stored for both arms at {low:g} and {high:g}: nothing is said of it."
            continue
        ours_low, base_low, ours_high, base_high = values
        dispersion, guidance = _effect(ours_low - base_low), _effect(base_high - base_low)
        beside = _effect(ours_high - ours_low - base_high + base_low)
        decimals = definition_of(metric).decimals
        *_, at_best = _aligned([*corners, base.values(best, metric)])
        between = ""
        if low < best < high and at_best.shape == base_low.shape:
            moved = _effect(at_best - base_low)
            between = f" (at {best:g}, where the baseline is best, by {moved.words(decimals)})"
        yield (
            f"{metric.capitalize()}: the loss alone moves it by {dispersion.words(decimals)}; guidance {high:g} alone "
            f"by {guidance.words(decimals)}{between}; what guidance does differs between the arms by "
            f"{beside.words(decimals)}. {verdict(metric, dispersion, guidance, beside)}"
        )


def verdict(metric: str, dispersion: Effect, guidance: Effect, beside: Effect) -> str:
    """Say whether the loss and guidance spend the same diversity, as far as intervals allow."""
    if guidance.interval is None:
        return "With one seed none of this can be told from chance."
    if guidance.sign >= 0:
        return f"Guidance is not seen to cost {metric} here, so there is nothing that the two could share."
    if dispersion.sign > 0:
        return f"The loss adds {metric} where guidance spends it: they do not spend the same diversity."
    if dispersion.sign == 0:
        return f"Guidance costs {metric} and the loss is not seen to: they are not seen to spend the same diversity."
    if beside.sign > 0:
        return f"Both cost {metric}, and together less than the sum of the two: they spend the same diversity."
    if beside.sign < 0:
        return f"Both cost {metric}, and together more than the sum of the two."
    return f"Both cost {metric}; these seeds neither show that they spend the same diversity nor exclude it."
