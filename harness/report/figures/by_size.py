"""Gain against the size of the network: how the change of one family moves from its smallest model to its largest."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import signed_percent, slug
from harness.report.figures.table_figure import ARMS, INK, MARKERS, WIDTH, Picture, drawn, painted, plain_axes

LEAST_SIZES = 3
HEIGHT, LINE = 2.4, 0.165  # inches, of the plot and of a line of its legend


@dataclass(frozen=True)
class Line:
    """One family under one guidance: its cells that have a change, from the smallest model to the largest."""

    label: str
    cells: tuple[PivotCell, ...]


def gain_picture(pivot: Pivot) -> Picture | None:
    """Return change against model size; None for a table of fewer than three sizes, or with one change a family."""
    shown = lines(pivot)
    if not shown or not pivot.table.scale.meaningful:
        return None
    alt = _alt(pivot, shown)
    return painted("gain", f"{slug(pivot.table.name)}-gain", alt, lambda: _drawn(shown))


def lines(pivot: Pivot) -> list[Line]:
    """Group the changes of a table by its rows without the size of their model, a line for each."""
    groups: dict[str, list[PivotCell]] = {}
    for cell in pivot.cells:
        if cell.change and drawn(pivot, cell):
            groups.setdefault(_label(pivot, cell), []).append(cell)
    if len({_size(cell) for cells in groups.values() for cell in cells}) < LEAST_SIZES:
        return []
    ordered = [Line(label, tuple(sorted(cells, key=_order))) for label, cells in groups.items()]
    return [line for line in ordered if len(line.cells) == len({_size(cell) for cell in line.cells}) > 1]


def _label(pivot: Pivot, cell: PivotCell) -> str:
    model = cell.source.settings.model
    arms = {other.column for other in pivot.cells if other.change}
    row = cell.row.replace(model, model.partition("-")[0])
    return f"{row} · {cell.column}" if len(arms) > 1 else row


def _size(cell: PivotCell) -> str:
    """The letters of a model's size: "XL" of "SiT-XL/2"."""
    return cell.source.settings.model.partition("-")[2].partition("/")[0]


def _order(cell: PivotCell) -> int:
    model = cell.source.runs[0].train.model
    return model.depth * model.width**2


def _drawn(shown: Sequence[Line]) -> Figure:
    top, bottom, left = len(shown) * LINE + 0.12, 0.42, 0.75
    height = top + HEIGHT + bottom
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((left / WIDTH, bottom / height, (WIDTH - left - 0.12) / WIDTH, HEIGHT / height))
    sizes = list(dict.fromkeys(_size(cell) for cell in sorted((c for line in shown for c in line.cells), key=_order)))
    for index, line in enumerate(shown):
        _draw_line(axes, line, sizes, index, (index - (len(shown) - 1) / 2) * 0.06)
    axes.set_ylim(*_frame(shown))  # intervals of few seeds run out of it
    axes.axhline(0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set_xlim(-0.4, len(sizes) - 0.6)
    axes.set_ylabel("change, %", color=INK)
    axes.set_xlabel("size of the model", color=INK)
    plain_axes(axes)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), frameon=False, labelcolor=INK, borderaxespad=0.2)
    return figure


def _frame(shown: Sequence[Line]) -> tuple[float, float]:
    """Return the ends of an axis that holds every change, ours and the paper's, each seed's spread, and zero."""
    values = [0.0]
    for cell in (cell for line in shown for cell in line.cells):
        if cell.change:
            spread = cell.change.spread or 0.0
            values += [cell.change.percent - spread, cell.change.percent + spread]
        if cell.paper and cell.paper.percent is not None:
            values.append(cell.paper.percent)
    room = 0.08 * (max(values) - min(values)) or 1.0
    return min(values) - room, max(values) + room


def _draw_line(axes: Axes, line: Line, sizes: Sequence[str], index: int, shift: float) -> None:
    """Our changes with their intervals as a line, the paper's as hollow marks of the same shape."""
    colour, marker = ARMS[index % len(ARMS)], MARKERS[index % len(MARKERS)]
    changes = [cell.change for cell in line.cells if cell.change]
    places = [sizes.index(_size(cell)) + shift for cell in line.cells]
    percents = [change.percent for change in changes]
    axes.plot(places, percents, color=colour, marker=marker, markersize=5, linewidth=1.2, label=line.label)
    for place, change in zip(places, changes, strict=True):
        if change.interval:
            axes.plot([place, place], [change.interval.low, change.interval.high], color=colour, linewidth=0.8)
    known = [(place, cell.paper.percent) for place, cell in zip(places, line.cells, strict=True) if cell.paper]
    theirs = [(place, percent) for place, percent in known if percent is not None]
    axes.plot(
        [place for place, _ in theirs], [percent for _, percent in theirs], linestyle="none", marker=marker,
        markersize=7, markerfacecolor="none", markeredgecolor=colour, markeredgewidth=0.9,
    )  # fmt: skip


def _alt(pivot: Pivot, shown: Sequence[Line]) -> str:
    said = []
    for line in shown:
        changes = (f"{_size(cell)} {signed_percent(cell.change.percent)}" for cell in line.cells if cell.change)
        said.append(f"{line.label}: {', '.join(changes)}")
    return f"Change of {pivot.metric.title} against our baseline by size of the model. {'; '.join(said)}."
