"""Sweeps over settings: metrics by guidance scale, and a metric along λ, τ or the block."""

from collections.abc import Sequence
from typing import Any

from harness.metric_definitions import definition_of
from harness.report.analysis.guidance_sweep import Sweep, SweptArm
from harness.report.analysis.pivot import PivotCell
from harness.report.analysis.statistics import mean_interval
from harness.report.analysis.surfaces import KNOBS, Surface, setting
from harness.report.analysis.text import number, slug
from harness.report.figures.plots import Panel, Point, Series, panels_picture, point
from harness.report.figures.table_figure import Picture

SHOWN = ("recall", "coverage", "precision", "density")
APART = 0.06  # of the lines of a figure, so that no interval hides another


def guidance_picture(sweep: Sweep) -> Picture:
    """Draw the table's metric, its change and the further metrics by guidance scale, a line for each arm."""
    across, metric = "guidance scale", sweep.pivot.table.file.value
    title = sweep.pivot.metric.title
    lines = [(None, sweep.base), *enumerate(sweep.arms)]
    panels = [Panel(title, across, tuple(_series(arm, metric, index) for index, arm in lines))]
    changed = [Series("", index, _changes(arm)) for index, arm in enumerate(sweep.arms)]
    panels.append(Panel(f"change of {title}, %", across, tuple(s for s in changed if s.points), 0.0))
    for further in SHOWN:
        series = tuple(_series(arm, further, index) for index, arm in lines)
        if further != metric and all(line.points for line in series):
            panels.append(Panel(definition_of(further).title, across, series))
    return panels_picture("guidance", slug(sweep.name), _guidance_alt(sweep), [p for p in panels if p.series], 2)


def _series(arm: SweptArm, metric: str, index: int | None) -> Series:
    values = {scale: list(arm.values(scale, metric).values()) for scale in arm.cells}
    return Series(arm.label, index, tuple(point(scale, each) for scale, each in values.items() if each))


def _changes(arm: SweptArm) -> tuple[Point, ...]:
    changes = {scale: cell.change for scale, cell in arm.cells.items() if cell.change}
    return tuple(Point(scale, c.percent, c.interval, (c.percent,)) for scale, c in changes.items())


def _guidance_alt(sweep: Sweep) -> str:
    parts = []
    for arm in (sweep.base, *sweep.arms):
        means = (f"{number(cell.mean, sweep.pivot.metric.decimals)} at {scale:g}" for scale, cell in arm.cells.items())
        parts.append(f"{arm.label}: {', '.join(means)}")
    return f"{sweep.pivot.metric.title} by guidance scale. {'; '.join(parts)}."


def surface_picture(surface: Surface) -> Picture:
    """Draw the metric along the knob of most values, a line for each value of the other."""
    pivot, cells, knobs = surface.pivot, surface.cells, surface.knobs
    across = max(knobs, key=lambda knob: len({setting(cell, knob) for cell in cells}))
    lines: dict[str, list[PivotCell]] = {}
    for cell in cells:
        others = [f"{KNOBS[knob]} = {setting(cell, knob)}" for knob in knobs if knob != across]
        lines.setdefault(", ".join(others), []).append(cell)
    places = list(dict.fromkeys(setting(cell, across) for cell in cells))
    base = [cell.ours.mean for cell in pivot.baselines if cell.ours]
    series = [
        Series(label, index, tuple(_point(places, c, across, (index - (len(lines) - 1) / 2) * APART) for c in line))
        for index, (label, line) in enumerate(lines.items())
    ]
    ticks = tuple(f"{place:g}" if isinstance(place, float) else str(place) for place in places)
    panel = Panel(pivot.metric.title, KNOBS[across], tuple(series), base[0] if len(base) == 1 else None, ticks)
    return panels_picture("surface", f"{slug(pivot.table.name)}-surface", _surface_alt(surface), [panel], 1)


def _point(places: Sequence[Any], cell: PivotCell, knob: str, aside: float) -> Point:
    return point(places.index(setting(cell, knob)) + aside, list(cell.values.values()))


def _surface_alt(surface: Surface) -> str:
    decimals = surface.pivot.metric.decimals
    points = "; ".join(_point_words(cell, decimals) for cell in surface.cells)
    return f"{surface.pivot.metric.title} with its 95% interval: {points}."


def _point_words(cell: PivotCell, decimals: int) -> str:
    interval = mean_interval(list(cell.values.values()))
    ends = f" from {number(interval.low, decimals)} to {number(interval.high, decimals)}" if interval else ""
    return f"{cell.name} {number(cell.mean, decimals)}{ends}"
