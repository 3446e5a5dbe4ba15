"""What each method adds to a training's operations, against what it changes."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from harness.report.analysis.text import number, signed_percent
from harness.report.figures.marks import cell_mark
from harness.report.figures.panels import Line, Panel, panels_figure
from harness.report.figures.picture import Picture
from harness.report.figures.style import MUTED, ArmStyle, ArmStyles, cell_styles
from harness.report.reading.run_facts import extra_share
from harness.report.rivals.contrasts import Contrast, Contrasts

LINEAR_TO = 1.0  # percent: below, what costs nothing has a place too
# Of the axes' width and height: a letter of a name, its distance from its point, and two names that can both be read.
LETTER, BESIDE, APART = 0.0125, 0.02, 0.055


def extra_operations(contrast: Contrast) -> float | None:
    """Return what a method adds to training, in percent; None where it is unknown, and of a second phase."""
    run = contrast.cell.source.runs[0]
    if run.train.soft_tokens:
        return None
    share = extra_share(run.train, run.evaluation.step)
    return None if share is None else 100 * share


def cost_chart(compared: Contrasts, styles: ArmStyles) -> Picture | None:
    """Return the picture of the methods alone, for a sum costs what its parts do; None with fewer than two."""
    known = [contrast for contrast in compared.alone if extra_operations(contrast) is not None]
    if len(known) < 2:
        return None
    points = [(contrast, extra_operations(contrast) or 0.0) for contrast in known]
    words = (f"{c.cell.name} {number(cost, 1)} %, {signed_percent(c.change.percent)}" for c, cost in points)
    alt = f"Extra operations of training and change of {compared.pivot.metric.title}: {'; '.join(words)}."
    name = f"{compared.pivot.table.name}-rivals"
    by_cell = cell_styles(compared.pivot, styles)
    return Picture("rivals", name, alt, lambda: _draw(compared, points, by_cell))


def _draw(compared: Contrasts, points: Sequence[tuple[Contrast, float]], by_cell: Mapping[str, ArmStyle]) -> Figure:
    lines = [
        Line(_unnamed(by_cell[c.cell.name]), [cost], [c.change.percent], [c.change.interval],
             {"linestyle": "none", "markersize": 6}, [cell_mark(compared.pivot, c.cell)])
        for c, cost in points
    ]  # fmt: skip
    ends = [end for c, _ in points if c.change.interval for end in (c.change.interval.low, c.change.interval.high)]
    up = f"change of {compared.pivot.metric.title}, %"
    figure = panels_figure([Panel("extra operations of training, %", up, lines, also=ends, at=0.0)], height=2.6)
    (axes,) = figure.axes
    axes.set_xscale("symlog", linthresh=LINEAR_TO)
    axes.set_xlim(-0.25 * LINEAR_TO, 2 * max(LINEAR_TO, *(cost for _, cost in points)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _name(axes, points)
    return figure


def _unnamed(style: ArmStyle) -> ArmStyle:
    """The same without an entry in the legend: names stand beside the points."""
    return ArmStyle("", style.colour, style.marker)


def _name(axes: Axes, points: Sequence[tuple[Contrast, float]]) -> None:
    """Write each method's name beside its point, as near as the names before it leave room."""
    to_axes = axes.transData + axes.transAxes.inverted()
    places = [to_axes.transform((cost, contrast.change.percent)) for contrast, cost in points]
    taken = [(x - BESIDE / 2, x + BESIDE / 2, y) for x, y in places]  # from where to where, and its height
    for (contrast, _), (x, y) in zip(points, places, strict=True):
        left, right, height = _free_place(x, y, LETTER * len(contrast.cell.name), taken)
        taken.append((left, right, height))
        axes.text(left, height, contrast.cell.name, transform=axes.transAxes, va="center", fontsize=7, color=MUTED)


def _free_place(
    x: float, y: float, length: float, taken: Sequence[tuple[float, float, float]]
) -> tuple[float, float, float]:
    """Return the nearest place beside a point, right before left, at which no other name is in the way."""
    sides = [start for start in (x + BESIDE, x - BESIDE - length) if start > 0 and start + length < 1]
    heights = sorted((y + APART * step for step in range(-6, 7)), key=lambda height: abs(height - y))
    places = [(start, start + length, height) for height in heights for start in sides or [x + BESIDE]]
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])


def _overlap(place: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    return place[0] < other[1] and other[0] < place[1] and abs(place[2] - other[2]) < 0.99 * APART
