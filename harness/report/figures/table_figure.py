"""One figure per table as inline SVG: a dot plot of every seed, or a heat map where both axes are numbers.

Bytes depend on the numbers alone: fixed ids and fonts, no date, and none of the reader's own matplotlib settings.
"""

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import matplotlib
import matplotlib.colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from harness.files import write_bytes
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import estimate, is_number, number, signed_percent, slug, state_words
from harness.report.figures.svg import DRAWN, PRINTED, VARIABLES, inline_svg, standalone, standalone_pdf

WIDTH, LABELS, RIGHT = 5.0, 1.3, 0.12  # inches; narrow, so that the letters are still legible on a phone
LINE, GAP = 0.165, 0.12
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "pdf.fonttype": 42,  # TrueType, which publishers take and editors can edit
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.parse_math": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
# Names of colours. In the page each is a CSS variable, so that light and dark themes hold inside the figures.
INK, MUTED, RULE, PAGE = "report:ink", "report:muted", "report:rule", "report:paper"
ARMS = tuple(f"report:arm-{index}" for index in range(1, 7))
MARKERS = ("o", "s", "^", "D", "v", "P")
CLEAR = {"facecolor": PAGE, "edgecolor": "none", "pad": 1}
MARK: dict[str, Any] = {"markersize": 5.5, "linestyle": "none"}
LOGARITHMIC_FROM = 10.0
# Differences below these would fill a figure with what may be rounding: an axis spans at least 2 % of its values, and
# the heat map's full colours are never less than a change of 5 %.
LEAST_SPAN, LEAST_CHANGE = 0.02, 5.0


@dataclass(frozen=True)
class Picture:
    """A figure: its kind ("dots" or "heat"), SVG for the page, words for those who cannot see it, and what draws it.

    name: of its file beside the page, and of its ids in it.
    """

    kind: str
    name: str
    svg: str
    alt: str
    draw: Callable[[], Figure]

    @property
    def file(self) -> str:
        """Where it lies as a file of its own, seen from the page."""
        return f"figures/{self.name}.svg"

    def write(self, target: Path, pdf: bool) -> None:
        """Write it beside the page, and as PDF too or else no longer, for that would show older results."""
        path = target / self.file
        write_bytes(path, standalone(self.svg).encode())
        if pdf:
            write_bytes(path.with_suffix(".pdf"), pdf_of(self.draw))
        else:
            path.with_suffix(".pdf").unlink(missing_ok=True)


def picture(pivot: Pivot) -> Picture | None:
    """Return the figure of a table; None where nothing is measured.

    Of a table that mixes protocols without asking for it only what was measured by the most used one is drawn.
    """
    if not any(drawn(pivot, cell) for cell in pivot.cells):
        return None
    numeric = len(pivot.columns) > 1 and all(is_number(label) for label in (*pivot.columns, *_row_labels(pivot)))
    kind = "heat" if numeric and any(c.change and drawn(pivot, c) for c in pivot.cells) else "dots"
    alt = _alt(pivot)
    draw = _heat_map if kind == "heat" else _dot_plot
    return painted(kind, slug(pivot.table.name), alt, lambda: draw(pivot))


def painted(kind: str, name: str, alt: str, draw: Callable[[], Figure]) -> Picture:
    """Draw a figure with the page's settings and none of the reader's; name: unique on the page."""
    with our_look(DRAWN):
        return Picture(kind, name, inline_svg(draw(), f"figure-{name}", alt, VARIABLES), alt, draw)


def pdf_of(draw: Callable[[], Figure]) -> bytes:
    """Return a figure as a PDF of its own: in the colours of print, with its fonts; the same figure, the same bytes."""
    with our_look(PRINTED):
        return standalone_pdf(draw())


@contextmanager
def our_look(colours: Mapping[str, str]) -> Iterator[None]:
    """Draw with the page's settings, none of the reader's, and our names of colours."""
    known = matplotlib.colors.get_named_colors_mapping()
    named = {f"report:{name}": colour for name, colour in colours.items()}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        known.update(named)
        try:
            yield
        finally:
            for name in named:
                del known[name]


def plain_axes(axes: Axes, lines: Literal["x", "y", "both"] = "y") -> None:
    """Give axes the page's look: no box, light rules behind the marks along one direction or both."""
    axes.tick_params(which="both", color=RULE, labelcolor=MUTED, length=2.5, width=0.6)
    axes.grid(axis=lines, color=RULE, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["right", "top"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=RULE, linewidth=0.6)


def drawn(pivot: Pivot, cell: PivotCell) -> bool:
    """Tell whether a cell has a mean, by the protocol that the figure shows."""
    return cell.ours is not None and (not pivot.mixes or cell.letters[0] == next(iter(pivot.protocols)))


def _words(pivot: Pivot, cell: PivotCell) -> str:
    """What a figure says where it has no mark to draw."""
    return "other protocol" if cell.letters and not drawn(pivot, cell) else state_words(cell)


def _row_labels(pivot: Pivot) -> list[str]:
    return [row.label for row in pivot.rows]


def _alt(pivot: Pivot) -> str:
    parts = []
    for cell in pivot.cells:
        change = f" ({signed_percent(cell.change.percent)})" if cell.change else ""
        value = number(cell.ours.mean, pivot.metric.decimals) + change if cell.ours and drawn(pivot, cell) else ""
        parts.append(f"{cell.name} {value or _words(pivot, cell)}")
    return f"{pivot.metric.title} of each cell: {'; '.join(parts)}."


def _bands(pivot: Pivot) -> list[tuple[str, list[PivotCell]]]:
    """Rows of the table as bands of the plot, with what stands outside its rows first."""
    asides = [(cell.name, [cell]) for cell in pivot.asides]
    rows = [(row.label, [row.across] if row.across else [c for c in row.cells if c]) for row in pivot.rows]
    return [*asides, *rows]


def _dot_plot(pivot: Pivot) -> Figure:
    bands = _bands(pivot)
    legend = _legend(pivot)
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
            _draw_cell(axes, pivot, cell, y + (index + 0.5) * LINE)
        y += max(1, len(cells)) * LINE + GAP
        axes.axhline(y - GAP / 2, color=RULE, linewidth=0.4)
    for index, cell in enumerate(legend):
        place = (LABELS + 0.05) / WIDTH, 1 - (index + 0.5) * LINE / height
        figure.add_artist(Line2D([place[0]], [place[1]], transform=figure.transFigure, **_mark(pivot, cell)))
        figure.text(place[0] + 0.025, place[1], cell.column, va="center", color=INK)
    return figure


def _legend(pivot: Pivot) -> list[PivotCell]:
    """One cell of each column, where there are several columns to tell apart."""
    inside = [cell for row in pivot.rows for cell in row.cells if cell]
    return [next(c for c in inside if c.column == label) for label in pivot.columns] if len(pivot.columns) > 1 else []


def _mark(pivot: Pivot, cell: PivotCell) -> dict[str, Any]:
    """Colour and shape of a cell's column, so that colour is never the only sign; a baseline is in the ink's colour.

    Columns of baselines alone do not count: the other figures of the table number its arms likewise.
    """
    if cell.is_baseline or cell.column not in pivot.columns:
        return MARK | {"color": INK, "marker": "o"}
    arms = {other.column for other in pivot.cells if not other.is_baseline}
    index = [column for column in pivot.columns if column in arms].index(cell.column)
    return MARK | {"color": ARMS[index % len(ARMS)], "marker": MARKERS[(index + 1) % len(MARKERS)]}


def value_axis(axes: Axes, pivot: Pivot) -> None:
    """Set an axis to the values of a table, in plain numbers that tell its ticks apart."""
    values = [run.value for c in pivot.cells if drawn(pivot, c) for run in c.runs if run.value is not None]
    low, high = min(values), max(values)
    if low > 0 and high / low > LOGARITHMIC_FROM:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.25, high * 1.25)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        middle = (low + high) / 2
        half = max(0.58 * (high - low), LEAST_SPAN / 2 * abs(middle)) or 1.0
        axes.set_xlim(middle - half, middle + half)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_yticks([])
    better = f" ({pivot.metric.direction} is better)" if pivot.metric.direction else ""
    axes.set_xlabel(f"{pivot.metric.title}{better}", color=INK)
    axes.tick_params(axis="x", color=RULE, labelcolor=MUTED, length=2.5, width=0.6)
    axes.grid(axis="x", color=RULE, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set(color=RULE, linewidth=0.6)
    line = [cell.ours.mean for cell in pivot.baselines if cell.ours and drawn(pivot, cell)]
    if len(pivot.baselines) == 1 and line:
        axes.axvline(line[0], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))


def _band_label(axes: Axes, label: str, y: float) -> None:
    lines = textwrap.wrap(label, 20) or [""]
    for index, line in enumerate(lines):
        place = y + (index - (len(lines) - 1) / 2) * LINE * 0.9
        axes.text(-0.02, place, line, transform=axes.get_yaxis_transform(), ha="right", va="center", color=INK)


def _draw_cell(axes: Axes, pivot: Pivot, cell: PivotCell, y: float) -> None:
    if cell.ours is None or not drawn(pivot, cell):
        words = _words(pivot, cell)
        axes.text(
            0.01, y, words, transform=axes.get_yaxis_transform(), va="center", color=MUTED, style="italic", bbox=CLEAR
        )
        return
    mark = _mark(pivot, cell)
    mean, spread = cell.ours.mean, cell.ours.spread or 0.0
    axes.plot([mean - spread, mean + spread], [y, y], color=mark["color"], linewidth=0.8)
    axes.plot([mean], [y], **mark)
    seeds = [run.value for run in cell.runs if run.value is not None]
    hollow = {"markersize": 3.4, "markerfacecolor": "none", "markeredgewidth": 0.7}
    axes.plot(seeds, [y] * len(seeds), **(mark | hollow))


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
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return figure


def _worse(pivot: Pivot, cell: PivotCell | None) -> float | None:
    """Return a cell's change in percent, positive where it is worse; None where there is none by the drawn protocol."""
    if cell is None or cell.change is None or not drawn(pivot, cell):
        return None
    return cell.change.percent * (-1 if pivot.metric.direction == "higher" else 1)


def _tile_words(pivot: Pivot, cell: PivotCell | None) -> str:
    if cell is None:
        return ""
    value = estimate(cell.ours, pivot.metric.decimals) if cell.ours and drawn(pivot, cell) else ""
    if cell.change is None or not value:
        return value or _words(pivot, cell)
    return f"{signed_percent(cell.change.percent)}\n{value}"
