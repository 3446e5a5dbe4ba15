"""A metric over training: the same trainings measured at several of their lengths."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import estimate, slug
from harness.report.figures.charts import Chart, chart, legend, panels
from harness.report.figures.table_figure import ARMS, INK, LOGARITHMIC_FROM, MARKERS, drawn

LEAST_LENGTHS = 3


@dataclass(frozen=True)
class Course:
    """The cells of one set of trainings, from the shortest to the longest, named by what they have in common."""

    label: str
    is_baseline: bool
    cells: tuple[PivotCell, ...]


def length_chart(pivot: Pivot) -> Chart | None:
    """Return the metric by training step; None where no training was measured at three lengths."""
    found = courses(pivot)
    if not found or not pivot.table.scale.meaningful:
        return None
    title = f"{pivot.metric.title} over training"
    said = [
        f"{course.label}: "
        + ", ".join(f"{estimate(c.ours, pivot.metric.decimals)} at {c.step:,}" for c in course.cells if c.ours)
        for course in found
    ]
    alt = f"{title}, by step. {'; '.join(said)}."
    caption = "Each line is one set of trainings, measured on the way; bars are ± one standard deviation over seeds."
    return chart(title, f"{slug(pivot.table.name)}-training", alt, caption, lambda: _drawn(pivot, found))


def courses(pivot: Pivot) -> list[Course]:
    """Return the cells that are the same trainings at three lengths or more, measured by one protocol."""
    groups: dict[tuple[str, ...], list[PivotCell]] = {}
    for cell in pivot.cells:
        if cell.ours and drawn(pivot, cell):
            groups.setdefault((*cell.letters, *(run.train_id for run in cell.runs)), []).append(cell)
    ordered = [sorted(cells, key=lambda cell: cell.step) for cells in groups.values()]
    return [_course(cells) for cells in ordered if len({cell.step for cell in cells}) >= LEAST_LENGTHS]


def _course(cells: Sequence[PivotCell]) -> Course:
    common = set.intersection(*(set(cell.source.at) for cell in cells))
    labels = [label for place in cells[0].source.at if place in common and (label := place[1]) != "none"]
    is_baseline = all(cell.is_baseline for cell in cells)
    return Course(" · ".join(labels) or ("baseline" if is_baseline else "without loss"), is_baseline, tuple(cells))


def _drawn(pivot: Pivot, found: Sequence[Course]) -> Figure:
    figure, (axes,) = panels([("step", pivot.metric.title)], len(found))
    arms = iter(range(len(found)))
    for course in found:
        index = None if course.is_baseline else next(arms)
        known = [(cell.step, cell.ours) for cell in course.cells if cell.ours]
        axes.errorbar(
            [step for step, _ in known], [ours.mean for _, ours in known], [ours.spread or 0.0 for _, ours in known],
            color=INK if index is None else ARMS[index % len(ARMS)],
            marker="o" if index is None else MARKERS[(index + 1) % len(MARKERS)],
            markersize=4.5, linewidth=1.2, elinewidth=0.8, label=course.label,
        )  # fmt: skip
    means = [cell.ours.mean for course in found for cell in course.cells if cell.ours]
    if min(means) > 0 and max(means) > LOGARITHMIC_FROM * min(means):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_ylabel(f"{pivot.metric.title}, logarithmic")
    legend(figure, [axes])
    return figure
