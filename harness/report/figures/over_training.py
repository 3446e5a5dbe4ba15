"""Over training: a metric by the length of training, losses by step, and each run's own curves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

from harness.report.analysis.arms import step_of
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.statistics import Interval
from harness.report.analysis.text import estimate
from harness.report.figures.marks import cell_mark
from harness.report.figures.panels import Line, Panel, panels_figure
from harness.report.figures.picture import Picture
from harness.report.figures.style import DASHES, ArmStyle, ArmStyles, wants_logarithm
from harness.store.records import Log, Series
from harness.store.store import Logs

T = TypeVar("T")
FEWEST_LENGTHS = 3
MOST_ARMS = 5  # beside the baseline: more lines cannot be told apart
TALL = 2.3  # inches
CURVE_WIDTH, CURVE_HEIGHT, CURVE_POINTS = 280.0, 90.0, 80
LOSSES = {"denoising": "denoising loss", "regularizer": "regulariser"}
CURVES = LOSSES | {
    "loss": "whole loss",
    "gradient_share": "regulariser’s share of the gradient",
    "saturated_pairs": "share of saturated pairs",
}


def length_chart(pivot: Pivot, styles: ArmStyles) -> Picture | None:
    """Return the metric by training step; None where no training was measured at three lengths."""
    arms = cells_by_length(pivot)
    if not arms or not pivot.table.scale.meaningful:
        return None
    lines = [_length_line(pivot, style, arms[label]) for label, style in styles.of(arms).items()]
    means = [cell.mean for cells in arms.values() for cell in cells]
    panel = Panel("step", pivot.metric.title, lines, log=wants_logarithm(means))
    points = "; ".join(f"{label}: {', '.join(_length_words(pivot, cells))}" for label, cells in arms.items())
    alt = f"{pivot.metric.title} over training, by step. {points}."
    return Picture("training", f"{pivot.table.name}-training", alt, lambda: panels_figure([panel], height=TALL))


def cells_by_length(pivot: Pivot) -> dict[str, list[PivotCell]]:
    """Return the cells that are the same trainings at three lengths or more, measured by one protocol.

    They go from the shortest to the longest, and are named by what they have in common.
    """
    groups: dict[tuple[str, ...], list[PivotCell]] = {}
    for cell in filter(pivot.shows, pivot.cells):
        groups.setdefault((*cell.letters, *(run.train_id for run in cell.runs)), []).append(cell)
    ordered = [sorted(cells, key=step_of) for cells in groups.values()]
    return {_common(cells): cells for cells in ordered if len({step_of(cell) for cell in cells}) >= FEWEST_LENGTHS}


def _common(cells: Sequence[PivotCell]) -> str:
    common = set.intersection(*(set(cell.source.at) for cell in cells))
    labels = [place[1] for place in cells[0].source.at if place in common and place[1] != "none"]
    unnamed = "baseline" if all(cell.is_baseline for cell in cells) else "without loss"
    return " · ".join(labels) or unnamed


def _length_line(pivot: Pivot, style: ArmStyle, cells: Sequence[PivotCell]) -> Line:
    """The means, and around each one standard deviation over seeds."""
    spreads = [(cell.ours.spread or 0.0) if cell.ours else 0.0 for cell in cells]
    bars = [Interval(cell.mean - spread, cell.mean + spread) for cell, spread in zip(cells, spreads, strict=True)]
    marks = [cell_mark(pivot, cell) for cell in cells]
    return Line(style, [step_of(cell) for cell in cells], [cell.mean for cell in cells], bars, marks=marks)


def _length_words(pivot: Pivot, cells: Sequence[PivotCell]) -> list[str]:
    return [f"{estimate(c.ours, pivot.metric.decimals)} at {step_of(c):,}" for c in cells if c.ours]


def loss_chart(pivot: Pivot, logs: Logs, styles: ArmStyles) -> Picture | None:
    """Return the loss curves of the best arm's baseline and of the best arms against it; None without two arms."""
    cells = best_arms(pivot)
    denoising, regularizer = (_means(cells, logs, key) for key in LOSSES)
    arms = [cell for cell in cells if cell.name in denoising]
    if len(arms) < 2:
        return None
    by_name = styles.of({cell.name: [cell] for cell in arms})
    means = {"denoising": denoising, "regularizer": regularizer}
    panels = [
        Panel(
            "step", LOSSES[key], [_loss_line(pivot, by_name[c.name], c, key, of[c.name]) for c in arms if c.name in of]
        )
        for key, of in means.items()
    ]
    which = f" of the baseline and the best of the table’s {len(pivot.cells)} cells" * (len(arms) < len(pivot.cells))
    losses = {cell.source.settings.regularizer.loss for cell in arms} - {"none"}
    own = " Regularisers of different kinds have scales of their own." * (len(losses) > 1)
    caption = f"Means over seeds{which}, as the logs hold them.{own}"
    alt = f"Denoising loss by step, from its first to its last: {_loss_words(denoising, regularizer)}."
    name = f"{pivot.table.name}-losses"
    return Picture("losses", name, alt, lambda: panels_figure(panels, height=TALL), caption, "Loss curves")


def best_arms(pivot: Pivot) -> list[PivotCell]:
    """Return the best cell's baseline and the best cells against it, one of each training."""
    ranked = pivot.ranked(cell for cell in pivot.cells if cell.change and pivot.shows(cell))
    if not ranked:
        return []
    baseline = pivot.table.baseline(ranked[0].source)
    against_it = [cell for cell in ranked if pivot.table.baseline(cell.source) is baseline]
    trainings = {tuple(run.train_id for run in cell.runs): cell for cell in reversed(against_it)}
    shown = [cell for cell in against_it if cell in trainings.values()][:MOST_ARMS]
    return [*(cell for cell in pivot.cells if cell.source is baseline), *shown]


def _mean(cell: PivotCell, logs: Logs, key: str) -> Series:
    """Average a key over the seeds that logged it, at the steps that all of them have."""
    series = [dict(logged) for run in cell.runs if (logged := logs.of(run.train_id)[key])]
    common = sorted(set.intersection(*map(set, series))) if series else []
    return tuple((step, fmean(values[step] for values in series)) for step in thinned(common))


def _means(cells: Sequence[PivotCell], logs: Logs, key: str) -> dict[str, Series]:
    """Return the mean of each cell that has one, by its name."""
    return {cell.name: series for cell in cells if (series := _mean(cell, logs, key))}


def _loss_line(pivot: Pivot, style: ArmStyle, cell: PivotCell, key: str, series: Series) -> Line:
    steps, values = zip(*series, strict=True)
    look = {"marker": "", "linestyle": DASHES[style.marker], "linewidth": 1.1}
    words = f"{LOSSES[key]} from {values[0]:.4g} at step {steps[0]:,} to {values[-1]:.4g} at {steps[-1]:,}".replace(
        "-", "−"
    )
    return Line(style, steps, values, look=look, marks=[cell_mark(pivot, cell, f"{words}, mean over seeds")])


def _loss_words(denoising: Mapping[str, Series], regularizer: Mapping[str, Series]) -> str:
    ends = {name: f", regulariser {series[-1][1]:.4g}" for name, series in regularizer.items()}
    return "; ".join(
        f"{name} {series[0][1]:.4g} to {series[-1][1]:.4g}{ends.get(name, '')}" for name, series in denoising.items()
    )


@dataclass(frozen=True)
class Curve:
    """A line in a box of `CURVE_WIDTH` × `CURVE_HEIGHT`: where it goes, the range of its values, and words for it.

    box: what the box spans, for scripts: first step, last step, lowest and highest value.
    """

    title: str
    points: str
    low: str
    high: str
    last: str
    alt: str
    box: str


def run_curves(log: Log, name: str) -> tuple[Curve, ...]:
    """Return the curves of a training log: its losses by step. What the log does not hold, or cannot say, is absent.

    They are written by hand: matplotlib would take seconds for the runs of a study.
    """
    series = {key: thinned(log[key]) for key in CURVES}
    if series["loss"] == series["denoising"]:
        del series["loss"]  # without a regulariser they are one
    return tuple(_curve(CURVES[key], values, name) for key, values in series.items() if len(values) > 1)


def thinned(series: Sequence[T]) -> tuple[T, ...]:
    """Return at most `CURVE_POINTS` of a series, evenly apart and always the last."""
    every = max(1, math.ceil(len(series) / CURVE_POINTS))
    return tuple(series[index] for index in range((len(series) - 1) % every, len(series), every))


def _curve(title: str, series: Series, name: str) -> Curve:
    steps, values = zip(*series, strict=True)
    low, high = min(values), max(values)
    across, up = CURVE_WIDTH / max(1, steps[-1] - steps[0]), CURVE_HEIGHT / ((high - low) or 1.0)
    points = " ".join(f"{(step - steps[0]) * across:.1f},{(high - value) * up:.1f}" for step, value in series)
    ends = f"from {values[0]:.4g} at step {steps[0]} to {values[-1]:.4g} at step {steps[-1]}"
    box = f"{steps[0]} {steps[-1]} {low:.6g} {high:.6g}"
    return Curve(
        title, points, f"{low:.4g}", f"{high:.4g}", f"{steps[-1]:,}", f"{title} of training {name}: {ends}", box
    )
