"""Panels of lines and marks beside each other, with one legend above: what most figures of the page are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.report.analysis.statistics import mean_interval
from harness.report.figures.style import INK, LINE, REFERENCE_LINE, WIDTH, ArmStyle, logarithmic, style_axes

HEIGHT, ABOVE, BELOW, LEFT, RIGHT = 1.5, 0.24, 0.42, 0.6, 0.1  # inches: of a panel, and what is around it
LEGEND: dict[str, Any] = {"frameon": False, "labelcolor": INK, "borderaxespad": 0.2, "borderpad": 0}
Bar = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """Points of one arm, joined unless `look`, further properties of matplotlib's line, says otherwise.

    bars: the interval of each point, None where it has none.
    """

    style: ArmStyle
    x: Sequence[float]
    y: Sequence[float]
    bars: Sequence[Bar | None] = ()
    look: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """One pair of axes, which hold all points and `also`: intervals of few seeds may run out of the frame.

    at: height of a dashed line. ticks: the words beneath the places 0, 1, 2 …, where these are no numbers.
    """

    across: str
    up: str
    lines: Sequence[Line]
    title: str = ""
    also: Sequence[float] = ()
    at: float | None = None
    ticks: Sequence[str] = ()
    log: bool = False


def averaged(style: ArmStyle, values: Mapping[float, Sequence[float]], **look: Any) -> Line:
    """Return the line of means with their intervals, of values by x."""
    measured = {x: each for x, each in values.items() if each}
    intervals = [mean_interval(each) for each in measured.values()]
    bars = [(interval.low, interval.high) if interval else None for interval in intervals]
    return Line(style, list(measured), [math.fsum(each) / len(each) for each in measured.values()], bars, look)


def panels_figure(panels: Sequence[Panel], columns: int, height: float = HEIGHT) -> Figure:
    """Draw panels beside and beneath each other, with one legend above where there is anything to tell apart."""
    labels = {line.style.label for panel in panels for line in panel.lines if line.style.label}
    rows, legend = math.ceil(len(panels) / columns), len(labels) * LINE + 0.05 if len(labels) > 1 else 0.0
    above = ABOVE if any(panel.title for panel in panels) else ABOVE / 3
    each, whole = above + height + BELOW, WIDTH / columns
    figure = Figure(figsize=(WIDTH, legend + rows * each))
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        bottom = (rows - row - 1) * each + BELOW
        size = (whole - LEFT - RIGHT) / WIDTH, height / (legend + rows * each)
        axes = figure.add_axes(((column * whole + LEFT) / WIDTH, bottom / (legend + rows * each), *size))
        draw_panel(axes, panel)
    if legend:
        add_legend(figure)
    return figure


def add_legend(figure: Figure) -> None:
    """Write the names of what the panels show above them, each once."""
    entries = [axes.get_legend_handles_labels() for axes in figure.axes]
    once = {label: handle for handles, labels in entries for label, handle in zip(labels, handles, strict=True)}
    place = (LEFT - 0.05) / WIDTH, 1.0
    figure.legend(once.values(), once.keys(), loc="upper left", bbox_to_anchor=place, **LEGEND)


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw one panel into its axes."""
    for line in panel.lines:
        _draw_line(axes, line)
    if panel.log:
        logarithmic(axes, "y")
    else:
        values = [
            *panel.also,
            *(y for line in panel.lines for y in line.y),
            *([panel.at] if panel.at is not None else []),
        ]
        low, high = min(values), max(values)
        room = 0.1 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - room, high + room)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    if panel.at is not None:
        axes.axhline(panel.at, **REFERENCE_LINE)
    if panel.ticks:
        axes.set_xticks(range(len(panel.ticks)), panel.ticks)
        axes.set_xlim(-0.5, len(panel.ticks) - 0.5)
    axes.set_title(panel.title, fontsize=8, color=INK, loc="left")
    axes.set_xlabel(panel.across)
    axes.set_ylabel(f"{panel.up}, logarithmic" if panel.log else panel.up)
    style_axes(axes, "both")


def _draw_line(axes: Axes, line: Line) -> None:
    style = line.style
    look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "label": style.label}
    axes.plot(line.x, line.y, **({"markersize": 4.5, "linewidth": 1.2} | look | dict(line.look)))
    barred = [(x, *bar) for x, bar in zip(line.x, line.bars, strict=False) if bar]
    if barred:
        places, lows, highs = zip(*barred, strict=True)
        axes.vlines(places, lows, highs, colors=style.colour, linewidth=0.8)
