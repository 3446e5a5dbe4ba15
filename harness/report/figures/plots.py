"""Panels of lines with intervals, in the look of the page's other figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.report.analysis.statistics import Interval, mean_interval
from harness.report.figures.table_figure import ARMS, INK, MARKERS, WIDTH, Picture, painted, plain_axes

PANEL, ABOVE, BELOW, LEFT, LINE = 1.5, 0.24, 0.42, 0.58, 0.165  # inches: height of a panel, and what is around it


@dataclass(frozen=True)
class Point:
    """One mean with its interval, and the values that its panel must hold."""

    x: float
    mean: float
    interval: Interval | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class Series:
    """One line of a panel; `index` chooses colour and mark, None the ink of a baseline."""

    label: str
    index: int | None
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes; `ticks` are the words beneath its places, where they are no numbers."""

    title: str
    across: str
    series: tuple[Series, ...]
    line_at: float | None = None
    ticks: tuple[str, ...] = ()


def point(x: float, values: Sequence[float]) -> Point:
    """Return the mean of values with its interval."""
    return Point(x, math.fsum(values) / len(values), mean_interval(values), tuple(values))


def panels_picture(kind: str, name: str, alt: str, panels: Sequence[Panel], columns: int) -> Picture:
    """Draw panels beside and beneath each other, with one legend above; name: is unique on the page."""
    return painted(kind, name, alt, lambda: _panels(panels, columns))


def _panels(panels: Sequence[Panel], columns: int) -> Figure:
    named = {series.label: series for panel in panels for series in panel.series if series.label}
    rows, legend = math.ceil(len(panels) / columns), len(named) * LINE if len(named) > 1 else 0.0
    height = legend + rows * (ABOVE + PANEL + BELOW)
    figure = Figure(figsize=(WIDTH, height))
    wide = WIDTH / columns
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        bottom = height - legend - (row + 1) * (ABOVE + PANEL + BELOW) + BELOW
        box = ((column * wide + LEFT) / WIDTH, bottom / height, (wide - LEFT - 0.08) / WIDTH, PANEL / height)
        axes = figure.add_axes(box)
        _draw_panel(axes, panel)
        if not place and legend:
            handles, labels = axes.get_legend_handles_labels()
            figure.legend(handles, labels, loc="upper left", frameon=False, labelcolor=INK, borderaxespad=0)
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for series in panel.series:
        _draw_series(axes, series)
    values = [value for series in panel.series for point in series.points for value in (*point.values, point.mean)]
    values += [panel.line_at] if panel.line_at is not None else []
    low, high = min(values), max(values)
    room = 0.12 * (high - low) or 0.05 * abs(high) or 1.0
    axes.set_ylim(low - room, high + room)  # intervals of few seeds run out of the frame
    if panel.line_at is not None:
        axes.axhline(panel.line_at, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    if panel.ticks:
        axes.set_xticks(range(len(panel.ticks)), panel.ticks)
        axes.set_xlim(-0.5, len(panel.ticks) - 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_title(panel.title, fontsize=8, color=INK, loc="left")
    axes.set_xlabel(panel.across, color=INK)
    plain_axes(axes)


def _draw_series(axes: Axes, series: Series) -> None:
    baseline = series.index is None
    colour = INK if series.index is None else ARMS[series.index % len(ARMS)]
    marker = "o" if series.index is None else MARKERS[(series.index + 1) % len(MARKERS)]
    axes.plot(
        [point.x for point in series.points], [point.mean for point in series.points], color=colour, marker=marker,
        markersize=4.5, linewidth=1.2, linestyle=(0, (4, 2)) if baseline else "-", label=series.label,
    )  # fmt: skip
    for p in series.points:
        if p.interval:
            axes.plot([p.x, p.x], [p.interval.low, p.interval.high], color=colour, linewidth=0.8)
