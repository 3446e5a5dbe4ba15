"""One figure per table as inline SVG: a dot plot of every seed, or a heat map where both axes are numbers.

Of a table that mixes protocols without asking for it only what was measured by the most used one is drawn.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import (
    estimate,
    is_number,
    number,
    signed_percent,
    state_words,
)
from harness.report.figures import style
from harness.report.figures.marks import BARS, Mark, cell_mark, seed_mark, tag
from harness.report.figures.panels import add_legend
from harness.report.figures.picture import Picture
from harness.report.figures.style import LINE, WIDTH, ArmStyle, ArmStyles, cell_styles

LABELS, RIGHT, GAP = 1.3, 0.12, 0.12  # inches: room for the labels of rows, at the right, between rows
SIDE = 0.5  # inches: height of a tile of the heat map
CLEAR = {"facecolor": style.PAGE, "edgecolor": "none", "pad": 1}
HOLLOW = {"markersize": 3.4, "markerfacecolor": "none", "markeredgewidth": 0.7}
# Differences below these would fill a figure with what may be rounding: an axis spans at least 2 % of its values, and
# the heat map's full colours are never less than a change of 5 %.
LEAST_SPAN, LEAST_CHANGE = 0.02, 5.0


def table_figure(pivot: Pivot, styles: ArmStyles) -> Picture | None:
    """Return the figure of a table; None where nothing is measured."""
    if not any(pivot.shows(cell) for cell in pivot.cells):
        return None
    name, labels = pivot.table.name, (*pivot.columns, *(row.label for row in pivot.rows))
    numeric = len(pivot.columns) > 1 and all(map(is_number, labels))
    if numeric and any(cell.change and pivot.shows(cell) for cell in pivot.cells):
        return Picture("heat", name, _alt(pivot), lambda: _heat_map(pivot))
    by_cell = cell_styles(pivot, styles)
    return Picture("dots", name, _alt(pivot), lambda: _dot_plot(pivot, by_cell))


def _words(pivot: Pivot, cell: PivotCell) -> str:
    """What a figure says where it has no mark to draw."""
    return "other protocol" if cell.letters and not pivot.shows(cell) else state_words(cell)


def _alt(pivot: Pivot) -> str:
    parts = []
    for cell in pivot.cells:
        change = f" ({signed_percent(cell.change.percent)})" if cell.change else ""
        value = number(cell.ours.mean, pivot.metric.decimals) + change if cell.ours and pivot.shows(cell) else ""
        parts.append(f"{cell.name} {value or _words(pivot, cell)}")
    return f"{pivot.metric.title} of each cell: {'; '.join(parts)}."


def _axes(left: float, top: float, height: float, bottom: float) -> tuple[Figure, Axes]:
    """Return a figure with its only axes: their height and what is around them, in inches."""
    whole = top + height + bottom
    figure = Figure(figsize=(WIDTH, whole))
    return figure, figure.add_axes((left / WIDTH, bottom / whole, (WIDTH - left - RIGHT) / WIDTH, height / whole))


def _dot_plot(pivot: Pivot, styles: Mapping[str, ArmStyle]) -> Figure:
    """Rows of the table as bands, with what stands outside its rows first."""
    bands: list[tuple[str, Sequence[PivotCell]]] = [(cell.name, [cell]) for cell in pivot.asides]
    bands += [(row.label, [row.across] if row.across else [c for c in row.cells if c]) for row in pivot.rows]
    heights = np.array([max(1, len(cells)) * LINE + GAP for _, cells in bands])
    ends = heights.cumsum()
    several = len(pivot.columns) > 1
    legend = len({styles[cell.name] for cell in pivot.cells}) if several else 0
    figure, axes = _axes(LABELS, legend * LINE + 0.1, ends[-1], 0.42)
    value_axis(axes, pivot)
    axes.set_ylim(ends[-1], 0)
    axes.set_yticks(ends - heights / 2, [textwrap.fill(label, 20) for label, _ in bands])
    axes.tick_params("y", length=0, labelcolor=style.INK)
    axes.hlines(ends, 0, 1, transform=axes.get_yaxis_transform(), color=style.RULE, linewidth=0.4)
    for start, (_, cells) in zip(ends - heights + GAP / 2, bands, strict=True):
        for index, cell in enumerate(cells):
            _draw_cell(axes, pivot, cell, styles[cell.name], start + (index + 0.5) * LINE)
    if several:
        for arm in styles.values():
            axes.plot([], [], **_mark(arm), label=arm.label)
        add_legend(figure, LABELS)
    return figure


def _mark(arm: ArmStyle) -> dict[str, Any]:
    return {"color": arm.colour, "marker": arm.marker, "markersize": 5.5, "linestyle": "none"}


def value_axis(axes: Axes, pivot: Pivot) -> None:
    """Set an axis to the values of a table, in plain numbers that tell its ticks apart."""
    values = [value for cell in pivot.cells if pivot.shows(cell) for value in cell.values.values()]
    low, high = min(values), max(values)
    if style.wants_logarithm(values):
        style.logarithmic(axes, "x")
        axes.set_xlim(low / 1.25, high * 1.25)
    else:
        middle = (low + high) / 2
        half = max(0.58 * (high - low), LEAST_SPAN / 2 * abs(middle)) or 1.0
        axes.set_xlim(middle - half, middle + half)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(visible=False, axis="y")
    better = f" ({pivot.metric.direction} is better)" if pivot.metric.direction else ""
    axes.set_xlabel(f"{pivot.metric.title}{better}")
    axes.spines["left"].set_visible(False)
    baselines = [cell.mean for cell in pivot.baselines if pivot.shows(cell)]
    if len(pivot.baselines) == 1 and baselines:
        axes.axvline(baselines[0], **style.REFERENCE_LINE)


def _draw_cell(axes: Axes, pivot: Pivot, cell: PivotCell, arm: ArmStyle, y: float) -> None:
    if cell.ours is None or not pivot.shows(cell):
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "bbox": CLEAR}
        axes.text(0.01, y, _words(pivot, cell), color=style.MUTED, style="italic", **place)
        return
    seeds = list(cell.values.values())
    mean = axes.errorbar(cell.ours.mean, y, xerr=cell.ours.spread, elinewidth=0.8, **_mark(arm))
    tag(mean.lines[0], arm.label, [cell_mark(pivot, cell)])
    for bar in mean.lines[2]:
        tag(bar, arm.label, [cell_mark(pivot, cell)], BARS)
    (dots,) = axes.plot(seeds, [y] * len(seeds), **(_mark(arm) | HOLLOW), zorder=3)  # means come first for the keyboard
    tag(dots, arm.label, [seed_mark(pivot, cell, seed) for seed in cell.values])


def _heat_map(pivot: Pivot) -> Figure:
    """Change against the baseline in percent by row and column; blue is better, red worse, and the numbers say so."""
    import seaborn  # takes most of a second, and only this figure needs it

    rows, columns = len(pivot.rows), len(pivot.columns)
    figure, axes = _axes(0.75, 0.1, rows * SIDE, 0.45)
    changes = np.array([[_worse(pivot, cell) for cell in row.cells] for row in pivot.rows])
    words = [[_tile_words(pivot, cell) for cell in row.cells] for row in pivot.rows]
    largest = max(LEAST_CHANGE, np.nanmax(abs(changes)))
    seaborn.heatmap(
        changes,
        annot=words,
        fmt="",
        cmap="RdBu_r",
        vmin=-1.25 * largest,  # the ends of the map are left out: too dark to read on
        vmax=1.25 * largest,
        cbar=False,
        xticklabels=list(pivot.columns),
        yticklabels=[row.label for row in pivot.rows],
        annot_kws={"size": 8},
        ax=axes,
    )
    tiles = [cell for row in pivot.rows for cell in row.cells]
    tag(axes.collections[0], "", [cell_mark(pivot, cell) if cell else Mark("", "") for cell in tiles])
    axes.grid(visible=False)
    for row, column in product(range(rows), range(columns)):
        if np.isnan(changes[row, column]):  # seaborn writes nothing where there is no number
            place: dict[str, Any] = {"ha": "center", "va": "center", "color": style.MUTED, "style": "italic"}
            axes.text(column + 0.5, row + 0.5, words[row][column], **place)
    axes.set_xlabel(pivot.table.file.columns or "")
    axes.set_ylabel(pivot.table.file.rows, rotation=0, ha="right", va="center")
    axes.tick_params(length=0, labelcolor=style.INK, labelrotation=0)
    return figure


def _worse(pivot: Pivot, cell: PivotCell | None) -> float:
    """Return a cell's change in percent, positive where it is worse; NaN where there is none by the drawn protocol."""
    return pivot.badness(cell.change.percent) if cell and cell.change and pivot.shows(cell) else math.nan


def _tile_words(pivot: Pivot, cell: PivotCell | None) -> str:
    if cell is None:
        return ""
    value = estimate(cell.ours, pivot.metric.decimals) if cell.ours and pivot.shows(cell) else ""
    if cell.change is None or not value:
        return value or _words(pivot, cell)
    return f"{signed_percent(cell.change.percent)}\n{value}"
