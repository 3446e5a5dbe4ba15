"""One figure per table as inline SVG: a dot plot of every seed, or a heat map where both axes are numbers.

Of a table that mixes protocols without asking for it only what was measured by the most used one is drawn.
"""

import math
import textwrap
from collections.abc import Mapping
from itertools import product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import estimate, is_number, number, signed_percent, slug, state_words
from harness.report.figures.picture import Picture, painted
from harness.report.figures.style import (
    INK,
    LINE,
    MUTED,
    PAGE,
    REFERENCE_LINE,
    RULE,
    WIDTH,
    ArmStyle,
    ArmStyles,
    cell_styles,
    logarithmic,
    style_axes,
    wants_logarithm,
)

LABELS, RIGHT, GAP = 1.3, 0.12, 0.12  # inches: room for the labels of rows, at the right, between rows
CLEAR = {"facecolor": PAGE, "edgecolor": "none", "pad": 1}
HOLLOW = {"markersize": 3.4, "markerfacecolor": "none", "markeredgewidth": 0.7}
# Differences below these would fill a figure with what may be rounding: an axis spans at least 2 % of its values, and
# the heat map's full colours are never less than a change of 5 %.
LEAST_SPAN, LEAST_CHANGE = 0.02, 5.0


def table_figure(pivot: Pivot, styles: ArmStyles) -> Picture | None:
    """Return the figure of a table; None where nothing is measured."""
    if not any(pivot.shows(cell) for cell in pivot.cells):
        return None
    numeric = len(pivot.columns) > 1 and all(is_number(label) for label in (*pivot.columns, *_row_labels(pivot)))
    if numeric and any(cell.change and pivot.shows(cell) for cell in pivot.cells):
        return painted("heat", slug(pivot.table.name), _alt(pivot), lambda: _heat_map(pivot))
    by_cell = cell_styles(pivot, styles)
    return painted("dots", slug(pivot.table.name), _alt(pivot), lambda: _dot_plot(pivot, by_cell))


def _words(pivot: Pivot, cell: PivotCell) -> str:
    """What a figure says where it has no mark to draw."""
    return "other protocol" if cell.letters and not pivot.shows(cell) else state_words(cell)


def _row_labels(pivot: Pivot) -> list[str]:
    return [row.label for row in pivot.rows]


def _alt(pivot: Pivot) -> str:
    parts = []
    for cell in pivot.cells:
        change = f" ({signed_percent(cell.change.percent)})" if cell.change else ""
        value = number(cell.ours.mean, pivot.metric.decimals) + change if cell.ours and pivot.shows(cell) else ""
        parts.append(f"{cell.name} {value or _words(pivot, cell)}")
    return f"{pivot.metric.title} of each cell: {'; '.join(parts)}."


def _bands(pivot: Pivot) -> list[tuple[str, list[PivotCell]]]:
    """Rows of the table as bands of the plot, with what stands outside its rows first."""
    asides = [(cell.name, [cell]) for cell in pivot.asides]
    rows = [(row.label, [row.across] if row.across else [c for c in row.cells if c]) for row in pivot.rows]
    return [*asides, *rows]


def _dot_plot(pivot: Pivot, styles: Mapping[str, ArmStyle]) -> Figure:
    bands = _bands(pivot)
    legend = {styles[cell.name].label: styles[cell.name] for cell in pivot.cells} if len(pivot.columns) > 1 else {}
    filled = sum(max(1, len(cells)) * LINE + GAP for _, cells in bands)
    top, bottom = len(legend) * LINE + 0.1, 0.42
    height = top + filled + bottom
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((LABELS / WIDTH, bottom / height, (WIDTH - LABELS - RIGHT) / WIDTH, filled / height))
    value_axis(axes, pivot)
    axes.set_ylim(filled, 0)
    y = GAP / 2
    for label, cells in bands:
        _band_label(axes, label, y + max(1, len(cells)) * LINE / 2)
        for index, cell in enumerate(cells):
            _draw_cell(axes, pivot, cell, styles[cell.name], y + (index + 0.5) * LINE)
        y += max(1, len(cells)) * LINE + GAP
        axes.axhline(y - GAP / 2, color=RULE, linewidth=0.4)
    marks = [Line2D([], [], **_mark(style)) for style in legend.values()]
    figure.legend(
        marks, list(legend), loc="upper left", bbox_to_anchor=(LABELS / WIDTH, 1), frameon=False, labelcolor=INK
    )
    return figure


def _mark(style: ArmStyle) -> dict[str, Any]:
    return {"color": style.colour, "marker": style.marker, "markersize": 5.5, "linestyle": "none"}


def value_axis(axes: Axes, pivot: Pivot) -> None:
    """Set an axis to the values of a table, in plain numbers that tell its ticks apart."""
    values = [value for cell in pivot.cells if pivot.shows(cell) for value in cell.values.values()]
    low, high = min(values), max(values)
    if wants_logarithm(values):
        logarithmic(axes, "x")
        axes.set_xlim(low / 1.25, high * 1.25)
    else:
        middle = (low + high) / 2
        half = max(0.58 * (high - low), LEAST_SPAN / 2 * abs(middle)) or 1.0
        axes.set_xlim(middle - half, middle + half)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_yticks([])
    better = f" ({pivot.metric.direction} is better)" if pivot.metric.direction else ""
    axes.set_xlabel(f"{pivot.metric.title}{better}")
    style_axes(axes, "x")
    axes.spines["left"].set_visible(False)
    baselines = [cell.mean for cell in pivot.baselines if pivot.shows(cell)]
    if len(pivot.baselines) == 1 and baselines:
        axes.axvline(baselines[0], **REFERENCE_LINE)


def _band_label(axes: Axes, label: str, y: float) -> None:
    lines = textwrap.wrap(label, 20) or [""]
    for index, line in enumerate(lines):
        place = y + (index - (len(lines) - 1) / 2) * LINE * 0.9
        axes.text(-0.02, place, line, transform=axes.get_yaxis_transform(), ha="right", va="center", color=INK)


def _draw_cell(axes: Axes, pivot: Pivot, cell: PivotCell, style: ArmStyle, y: float) -> None:
    if cell.ours is None or not pivot.shows(cell):
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "bbox": CLEAR}
        axes.text(0.01, y, _words(pivot, cell), color=MUTED, style="italic", **place)
        return
    mean, spread, seeds = cell.ours.mean, cell.ours.spread or 0.0, list(cell.values.values())
    axes.plot([mean - spread, mean + spread], [y, y], color=style.colour, linewidth=0.8)
    axes.plot([mean], [y], **_mark(style))
    axes.plot(seeds, [y] * len(seeds), **(_mark(style) | HOLLOW))


def _heat_map(pivot: Pivot) -> Figure:
    """Change against the baseline in percent by row and column; blue is better, red worse, and the numbers say so."""
    import seaborn  # takes most of a second, and only this figure needs it

    rows, columns = len(pivot.rows), len(pivot.columns)
    left, top, bottom, side = 0.75, 0.1, 0.45, 0.5
    height = rows * side + top + bottom
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((left / WIDTH, bottom / height, (WIDTH - left - RIGHT) / WIDTH, rows * side / height))
    changes = [[_worse(pivot, cell) for cell in row.cells] for row in pivot.rows]
    largest = max(LEAST_CHANGE, *(abs(change) for row in changes for change in row if change is not None))
    seaborn.heatmap(
        [[math.nan if change is None else change for change in row] for row in changes],
        annot=[[_tile_words(pivot, cell) for cell in row.cells] for row in pivot.rows],
        fmt="",
        cmap="RdBu_r",
        vmin=-1.25 * largest,  # the ends of the map are left out: too dark to read on
        vmax=1.25 * largest,
        cbar=False,
        xticklabels=list(pivot.columns),
        yticklabels=_row_labels(pivot),
        annot_kws={"size": 8},
        ax=axes,
    )
    for row, column in product(range(rows), range(columns)):
        if changes[row][column] is None:  # seaborn writes nothing where there is no number
            words = _tile_words(pivot, pivot.rows[row].cells[column])
            axes.text(column + 0.5, row + 0.5, words, ha="center", va="center", color=MUTED, style="italic")
    axes.set_xlabel(pivot.table.file.columns or "")
    axes.set_ylabel(pivot.table.file.rows, rotation=0, ha="right", va="center")
    axes.tick_params(length=0, labelcolor=INK, labelrotation=0)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
    return figure


def _worse(pivot: Pivot, cell: PivotCell | None) -> float | None:
    """Return a cell's change in percent, positive where it is worse; None where there is none by the drawn protocol."""
    if cell is None or cell.change is None or not pivot.shows(cell):
        return None
    return cell.change.percent * (-1 if pivot.metric.direction == "higher" else 1)


def _tile_words(pivot: Pivot, cell: PivotCell | None) -> str:
    if cell is None:
        return ""
    value = estimate(cell.ours, pivot.metric.decimals) if cell.ours and pivot.shows(cell) else ""
    if cell.change is None or not value:
        return value or _words(pivot, cell)
    return f"{signed_percent(cell.change.percent)}\n{value}"
