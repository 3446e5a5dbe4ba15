"""Cells as points: precision against recall, and a metric against what its training cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from harness.config.grid import Run
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import number, slug
from harness.report.figures.panels import Line, Panel, panels_figure
from harness.report.figures.picture import Chart, painted
from harness.report.figures.style import ArmStyle, ArmStyles, cell_styles
from harness.store.training_log import Logs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHORT = 0.5  # hours; what is shorter is said in minutes
MARK = {"linestyle": "none", "markersize": 5.5}
RING = {"linestyle": "none", "markersize": 11, "fillstyle": "none", "markeredgewidth": 0.8}


@dataclass(frozen=True)
class Plane:
    """Cells as points of a plane: what its axes are, and cell name → place."""

    x: str
    y: str
    decimals: tuple[int, int]
    points: Mapping[str, tuple[float, float]]


def scatter_chart(pivot: Pivot, logs: Logs, styles: ArmStyles) -> Chart | None:
    """Return what is known of each cell's precision and recall, and of its cost; None with fewer than two cells."""
    candidates = {"Precision and recall": precision_recall(pivot), f"{pivot.metric.title} and cost": cost(pivot, logs)}
    planes = {title: plane for title, plane in candidates.items() if len(plane.points) > 1}
    if not planes:
        return None
    title = "; ".join(planes)
    alt = " ".join(f"{_listed(plane)}." for plane in planes.values())
    best = sum(cell.is_best for cell in pivot.cells)
    ringed = f" A ring is around {'the best cell' if best == 1 else 'each best cell'}." if best else ""
    timed = (
        " Costs are of training until the measured step, by the speeds in its log, and medians over seeds: other work "
        "on the machine slows a run, so they are rough."
    )
    caption = (
        f"Means over seeds; the axes do not begin at zero.{ringed}{timed if len(candidates) == len(planes) else ''}"
    )
    by_cell, shown = cell_styles(pivot, styles), list(planes.values())
    name = f"{slug(pivot.table.name)}-planes"
    return Chart(title, caption, painted("chart", name, alt, lambda: _drawn(pivot, shown, by_cell)))


def precision_recall(pivot: Pivot) -> Plane:
    """Return the cells that have both precision and recall."""
    points = {}
    for cell in pivot.cells:
        both = [(run.metrics.get("recall"), run.metrics.get("precision")) for run in cell.runs]
        measured = [(x, y) for x, y in both if x is not None and y is not None]
        if measured and pivot.shows(cell):
            points[cell.name] = fmean(x for x, _ in measured), fmean(y for _, y in measured)
    return Plane("recall", "precision", (3, 3), points)


def cost(pivot: Pivot, logs: Logs) -> Plane:
    """Return the cells whose training was timed, on devices of one kind; else none."""
    cells = [cell for cell in pivot.cells if pivot.shows(cell)]
    timed = [(cell, *hours) for cell in cells if (hours := cell_hours(cell, logs))]
    kinds = {kind for _, _, kind in timed}
    kind = kinds.pop() if len(kinds) == 1 else ""
    short = all(hours < SHORT for _, hours, _ in timed)
    unit, per_hour = ("minutes", 60) if short else ("hours", 1)
    points = {cell.name: (hours * per_hour, cell.mean) for cell, hours, _ in timed} if kind else {}
    return Plane(f"{kind}-{unit}", pivot.metric.title, (2, pivot.metric.decimals), points)


def cell_hours(cell: PivotCell, logs: Logs) -> tuple[float, str] | None:
    """Return the median hours of a cell's measured runs, and of what; None where one has no times or another kind."""
    runs = zip(cell.source.runs, cell.runs, strict=True)
    hours = [_hours(logs, run) for run, state in runs if state.value is not None]
    timed = [each for each in hours if each]
    if not timed or len(timed) < len(hours) or len({kind for _, kind in timed}) > 1:
        return None
    return median(time for time, _ in timed), timed[0][1]


def _hours(logs: Logs, run: Run) -> tuple[float, str] | None:
    hours = logs.of(run.train_id).hours(run.train.batch, run.evaluation.step)
    environment = logs.environment(run.train_id)
    attempt = environment.last if environment else None
    return (hours * attempt.devices, attempt.unit) if hours and attempt else None


def _listed(plane: Plane) -> str:
    first, second = plane.decimals
    points = (f"{name} {number(x, first)}, {number(y, second)}" for name, (x, y) in plane.points.items())
    return f"{plane.x[:1].upper()}{plane.x[1:]} and {plane.y} of each cell: {'; '.join(points)}"


def _drawn(pivot: Pivot, planes: Sequence[Plane], styles: Mapping[str, ArmStyle]) -> "Figure":
    panels = []
    for plane in planes:
        shown = [cell for cell in pivot.cells if cell.name in plane.points]
        marks = [_mark(styles[cell.name], plane.points[cell.name], MARK) for cell in shown]
        rings = [_mark(ArmStyle(""), plane.points[cell.name], RING) for cell in shown if cell.is_best]
        panels.append(Panel(plane.x, plane.y, [*marks, *rings]))
    return panels_figure(panels, len(panels), height=2.3)


def _mark(style: ArmStyle, place: tuple[float, float], look: Mapping[str, Any]) -> Line:
    return Line(style, place[:1], place[1:], look=look)
