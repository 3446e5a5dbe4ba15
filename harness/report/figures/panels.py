"""Panels of lines and marks beside each other, with one legend above: what most figures of the page are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.statistics import Interval, mean_interval
from harness.report.figures.marks import BARS, Mark, cell_mark, tag, tag_legend
from harness.report.figures.style import LINE, REFERENCE_LINE, WIDTH, ArmStyle, logarithmic

HEIGHT, ABOVE, BELOW, LEFT, RIGHT, GAP = 1.5, 0.24, 0.42, 0.6, 0.1, 0.16  # inches: of a panel, and what is around it
APART = 0.06  # of arms at one place, so that no interval hides another


@dataclass(frozen=True)
class Line:
    """Points of one arm, joined unless `look`, further properties of matplotlib's line, says otherwise.

    bars: the interval of each point, None where it has none. marks: what each point is; one alone, what the line is.
    """

    style: ArmStyle
    x: Sequence[float]
    y: Sequence[float]
    bars: Sequence[Interval | None] = ()
    look: Mapping[str, Any] = field(default_factory=dict)
    marks: Sequence[Mark] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes, which hold all points and `also`: intervals of few seeds may run out of the frame.

    at: height of a dashed line. ticks: the words beneath the places 0, 1, 2 …, where these are no numbers; there arms
    stand a little apart.
    """

    across: str
    up: str
    lines: Sequence[Line]
    title: str = ""
    also: Sequence[float] = ()
    at: float | None = None
    ticks: Sequence[str] = ()
    log: bool = False


def averaged(style: ArmStyle, values: Mapping[float, Sequence[float]], marks: Mapping[float, Mark]) -> Line:
    """Return the line of means with their intervals, of values by x."""
    samples = {x: sample for x, sample in values.items() if sample}
    means = [math.fsum(sample) / len(sample) for sample in samples.values()]
    bars = [mean_interval(sample) for sample in samples.values()]
    return Line(style, list(samples), means, bars, marks=[marks[x] for x in samples])


def changed(
    style: ArmStyle, pivot: Pivot, cells: Mapping[float, PivotCell], marks: Mapping[float, Mark] | None = None
) -> Line:
    """Return the line of changes in percent with their intervals, of the cells by x that have one.

    marks: by x, where they lead elsewhere than to the cells' runs.
    """
    changes = {x: cell.change for x, cell in cells.items() if cell.change}
    bars = [change.interval for change in changes.values()]
    words = [marks[x] if marks else cell_mark(pivot, cells[x]) for x in changes]
    return Line(style, list(changes), [change.percent for change in changes.values()], bars, marks=words)


def panels_figure(panels: Sequence[Panel], columns: int = 2, height: float = HEIGHT, shared: bool = False) -> Figure:
    """Draw the panels that have lines beside and beneath each other, with one legend above where arms differ.

    shared: panels have x in common, those of a row y too, and only the outer ones name them.
    """
    panels = [panel for panel in panels if panel.lines]
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    labels = {line.style.label for panel in panels for line in panel.lines if line.style.label}
    legend = len(labels) * LINE + 0.05 if len(labels) > 1 else 0.0
    above = ABOVE if any(panel.title for panel in panels) else ABOVE / 3
    gap_x, gap_y = (GAP, GAP) if shared else (LEFT + RIGHT, above + BELOW)
    width = (WIDTH - LEFT - RIGHT - (columns - 1) * gap_x) / columns
    whole = legend + above + rows * height + (rows - 1) * gap_y + BELOW
    figure = Figure(figsize=(WIDTH, whole))
    left, bottom, right, top = LEFT / WIDTH, BELOW / whole, 1 - RIGHT / WIDTH, 1 - (legend + above) / whole
    grid = figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey="row" if shared else False)
    figure.subplots_adjust(left, bottom, right, top, wspace=gap_x / width, hspace=gap_y / height)
    for axes, panel in zip_longest(grid.flat, panels):
        if panel:
            draw_panel(axes, panel)
        else:
            axes.remove()
        if shared:
            axes.label_outer()
    if legend:
        add_legend(figure, LEFT - 0.05)
    return figure


def add_legend(figure: Figure, left: float) -> None:
    """Write the names of what the axes show above them, each once, as many inches from the left."""
    entries = [axes.get_legend_handles_labels() for axes in figure.axes]
    once = {label: handle for handles, labels in entries for label, handle in zip(labels, handles, strict=True)}
    tag_legend(figure.legend(once.values(), once.keys(), bbox_to_anchor=(left / WIDTH, 1.0)))


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw one panel into its axes."""
    if panel.log:
        logarithmic(axes, "y")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    arms, apart = list(dict.fromkeys(line.style for line in panel.lines)), APART if panel.ticks else 0.0
    for line in panel.lines:
        _draw_line(axes, line, apart * (arms.index(line.style) - (len(arms) - 1) / 2))
    axes.update_datalim([(0, y) for y in panel.also], updatex=False)
    if panel.at is not None:
        axes.axhline(panel.at, **REFERENCE_LINE)
    if panel.ticks:
        axes.set_xticks(range(len(panel.ticks)), panel.ticks)
        axes.set_xlim(-0.5, len(panel.ticks) - 0.5)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.across)
    axes.set_ylabel(f"{panel.up}, logarithmic" if panel.log else panel.up)


def _draw_line(axes: Axes, line: Line, shift: float) -> None:
    style, places = line.style, np.add(line.x, shift)
    look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "label": style.label}
    (drawn,) = axes.plot(places, line.y, **(look | dict(line.look)))
    tag(drawn, style.label, line.marks)
    barred = [(place, bar) for place, bar in enumerate(line.bars) if bar]
    if barred:  # they may run out of the frame, for those of few seeds would press the points together
        ends = [[(places[place], bar.low), (places[place], bar.high)] for place, bar in barred]
        bars = LineCollection(ends, colors=style.colour, linewidths=0.8)
        tag(bars, style.label, [line.marks[place] for place, _ in barred] if line.marks else (), BARS)
        axes.add_collection(bars, autolim=False)
