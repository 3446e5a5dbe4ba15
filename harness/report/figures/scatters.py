"""Cells as points: precision against recall, and a metric against what its training cost."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from harness.config.grid import Run
from harness.errors import UserError
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import number
from harness.report.figures.marks import cell_mark
from harness.report.figures.panels import Line, Panel, panels_figure
from harness.report.figures.picture import Picture
from harness.report.figures.style import ArmStyle, ArmStyles, cell_styles
from harness.store.records import logged_hours
from harness.store.store import Logs

SHORT = 0.5  # hours; what is shorter is said in minutes
MARK = {"linestyle": "none", "markersize": 5.5}
RING = {"linestyle": "none", "markersize": 11, "fillstyle": "none", "markeredgewidth": 0.8, "label": None}
TIMED = (
    " Costs are of training until the measured step, by the speeds in its log, and medians over seeds: other work "
    "on the machine slows a run, so they are rough."
)


@dataclass(frozen=True)
class Plane:
    """Cells as points of a plane: what its axes are, cell name → place, and what must be said of it."""

    title: str
    x: str
    y: str
    decimals: tuple[int, int]
    points: Mapping[str, tuple[float, float]]
    note: str = ""

    def at(self, cell: PivotCell) -> str:
        """Say where a cell lies."""
        x, y = self.points[cell.name]
        return f"{self.x} {number(x, self.decimals[0])}, {self.y} {number(y, self.decimals[1])}"

    @property
    def words(self) -> str:
        """Its points for those who cannot see them."""
        first, second = self.decimals
        points = (f"{name} {number(x, first)}, {number(y, second)}" for name, (x, y) in self.points.items())
        return f"{self.x[:1].upper()}{self.x[1:]} and {self.y} of each cell: {'; '.join(points)}."


def scatter_chart(pivot: Pivot, logs: Logs, styles: ArmStyles) -> Picture | None:
    """Return what is known of each cell's precision and recall, and of its cost; None with fewer than two cells."""
    planes = [plane for plane in (precision_recall(pivot), cost(pivot, logs)) if len(plane.points) > 1]
    if not planes:
        return None
    by_cell = cell_styles(pivot, styles)
    panels = [_panel(pivot, plane, by_cell) for plane in planes]
    best = sum(cell.is_best for cell in pivot.cells)
    ringed = f" A ring is around {'the best cell' if best == 1 else 'each best cell'}." if best else ""
    caption = f"Means over seeds; the axes do not begin at zero.{ringed}{''.join(plane.note for plane in planes)}"
    name, alt = f"{pivot.table.name}-planes", " ".join(plane.words for plane in planes)
    title = "; ".join(plane.title for plane in planes)
    return Picture("planes", name, alt, lambda: panels_figure(panels, height=2.3), caption, title)


def precision_recall(pivot: Pivot) -> Plane:
    """Return the cells that have both precision and recall."""
    points = {}
    for cell in filter(pivot.shows, pivot.cells):
        both = [(run.metrics.get("recall"), run.metrics.get("precision")) for run in cell.runs]
        measured = [(x, y) for x, y in both if x is not None and y is not None]
        if measured:
            points[cell.name] = fmean(x for x, _ in measured), fmean(y for _, y in measured)
    return Plane("Precision and recall", "recall", "precision", (3, 3), points)


def cost(pivot: Pivot, logs: Logs) -> Plane:
    """Return the cells whose training was timed, on devices of one kind; else none."""
    timed = [(cell, *hours) for cell in filter(pivot.shows, pivot.cells) if (hours := cell_hours(cell, logs))]
    kinds = {kind for _, _, kind in timed}
    kind = kinds.pop() if len(kinds) == 1 else ""
    short = all(hours < SHORT for _, hours, _ in timed)
    unit, per_hour = ("minutes", 60) if short else ("hours", 1)
    points = {cell.name: (hours * per_hour, cell.mean) for cell, hours, _ in timed} if kind else {}
    metric = pivot.metric
    return Plane(f"{metric.title} and cost", f"{kind}-{unit}", metric.title, (2, metric.decimals), points, TIMED)


def cell_hours(cell: PivotCell, logs: Logs) -> tuple[float, str] | None:
    """Return the median hours of a cell's measured runs, and of what; None where one has no times or another kind."""
    runs = zip(cell.source.runs, cell.runs, strict=True)
    hours = [_hours(logs, run) for run, state in runs if state.value is not None]
    timed = [time for time in hours if time]
    if not timed or len(timed) < len(hours) or len({kind for _, kind in timed}) > 1:
        return None
    return median(time for time, _ in timed), timed[0][1]


def _hours(logs: Logs, run: Run) -> tuple[float, str] | None:
    hours = logged_hours(logs.of(run.train_id), run.train.batch, run.evaluation.step)
    attempt = None
    with suppress(UserError):  # an environment that cannot be read
        environment = logs.environment(run.train_id)
        attempt = environment.last if environment else None
    return (hours * attempt.devices, attempt.unit) if hours and attempt else None


def _panel(pivot: Pivot, plane: Plane, styles: Mapping[str, ArmStyle]) -> Panel:
    shown = [cell for cell in pivot.cells if cell.name in plane.points]
    marks = [_mark(pivot, plane, cell, styles[cell.name], MARK) for cell in shown]
    rings = [_mark(pivot, plane, cell, ArmStyle(styles[cell.name].label), RING) for cell in shown if cell.is_best]
    return Panel(plane.x, plane.y, [*marks, *rings])


def _mark(pivot: Pivot, plane: Plane, cell: PivotCell, style: ArmStyle, look: Mapping[str, Any]) -> Line:
    place = plane.points[cell.name]
    return Line(style, place[:1], place[1:], look=look, marks=[cell_mark(pivot, cell, plane.at(cell))])
