"""Sweeps: metrics by guidance scale, a metric along λ, τ or the block, and the change by the size of the network."""

from collections.abc import Mapping, Sequence
from itertools import chain
from statistics import fmean

from harness.metric_definitions import definition_of
from harness.report.analysis.guidance_sweep import Sweep, SweptArm
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.statistics import mean_interval
from harness.report.analysis.surfaces import KNOBS, Surface, setting
from harness.report.analysis.text import number, signed_percent
from harness.report.figures.marks import Mark, cell_mark
from harness.report.figures.panels import Line, Panel, averaged, changed, panels_figure
from harness.report.figures.picture import Picture
from harness.report.figures.style import ArmStyle, ArmStyles

FURTHER = ("recall", "coverage", "precision", "density")
FEWEST_SIZES = 3
HOLLOW = {"linestyle": "none", "markersize": 7, "fillstyle": "none", "markeredgewidth": 0.9, "label": None}


def guidance_picture(sweep: Sweep, styles: ArmStyles) -> Picture:
    """Draw the table's metric, its change and the further metrics by guidance scale, a line for each arm."""
    across, metric, title = "guidance scale", sweep.pivot.table.file.value, sweep.pivot.metric.title
    arms = (sweep.base, *sweep.arms)
    by_label = styles.of({arm.label: list(arm.cells.values()) for arm in arms})
    changes = [line for arm in sweep.arms if (line := changed(by_label[arm.label], sweep.pivot, arm.cells)).x]
    panels = [
        Panel(across, "", [_metric_line(sweep, by_label[arm.label], arm, metric) for arm in arms], title),
        Panel(across, "", changes, f"change of {title}, %", at=0.0),
    ]
    for further in FURTHER:
        lines = [_metric_line(sweep, by_label[arm.label], arm, further) for arm in arms]
        if further != metric and all(line.x for line in lines):
            panels.append(Panel(across, "", lines, definition_of(further).title))
    alt = f"{title} by guidance scale. {'; '.join(_arm_words(arm, sweep.pivot.metric.decimals) for arm in arms)}."
    return Picture("guidance", sweep.name, alt, lambda: panels_figure(panels))


def _metric_line(sweep: Sweep, style: ArmStyle, arm: SweptArm, name: str) -> Line:
    own, marks = name == sweep.pivot.table.file.value, {}
    values = {scale: list(arm.values(scale, name).values()) for scale in arm.cells}
    for scale, cell in arm.cells.items():
        words = "" if own else _further_words(name, values[scale])
        marks[scale] = cell_mark(sweep.pivot, cell, words)
    return averaged(style, values, marks)


def _further_words(name: str, values: Sequence[float]) -> str:
    metric = definition_of(name)
    return f"{metric.title} {number(fmean(values), metric.decimals)}, n={len(values)}" if values else "not measured"


def _arm_words(arm: SweptArm, decimals: int) -> str:
    means = (f"{number(cell.mean, decimals)} at {scale:g}" for scale, cell in arm.cells.items())
    return f"{arm.label}: {', '.join(means)}"


def surface_picture(surface: Surface, styles: ArmStyles) -> Picture:
    """Draw the metric along the knob of most values, a line for each value of the other."""
    pivot, cells, knobs = surface.pivot, surface.cells, surface.knobs
    across = max(knobs, key=lambda knob: len({setting(cell, knob) for cell in cells}))
    groups: dict[str, list[PivotCell]] = {}
    for cell in cells:
        settings = [f"{KNOBS[knob]} = {setting(cell, knob)}" for knob in knobs if knob != across]
        groups.setdefault(", ".join(settings), []).append(cell)
    places = list(dict.fromkeys(setting(cell, across) for cell in cells))
    lines = []
    for label, style in styles.of(groups).items():
        by_place = {float(places.index(setting(cell, across))): cell for cell in groups[label]}
        values = {place: list(cell.values.values()) for place, cell in by_place.items()}
        lines.append(averaged(style, values, {place: cell_mark(pivot, cell) for place, cell in by_place.items()}))
    base = [cell.mean for cell in pivot.baselines if cell.ours]
    ticks = [f"{place:g}" if isinstance(place, float) else str(place) for place in places]
    at = base[0] if len(base) == 1 else None
    panel = Panel(KNOBS[across], "", lines, pivot.metric.title, at=at, ticks=ticks)
    points = "; ".join(_point_words(cell, pivot.metric.decimals) for cell in cells)
    alt = f"{pivot.metric.title} with its 95% interval: {points}."
    return Picture("surface", f"{pivot.table.name}-surface", alt, lambda: panels_figure([panel]))


def _point_words(cell: PivotCell, decimals: int) -> str:
    interval = mean_interval(list(cell.values.values()))
    ends = f" from {number(interval.low, decimals)} to {number(interval.high, decimals)}" if interval else ""
    return f"{cell.name} {number(cell.mean, decimals)}{ends}"


def size_picture(pivot: Pivot, styles: ArmStyles) -> Picture | None:
    """Return change against model size; None for a table of fewer than three sizes, or with one change a family.

    Our changes and their intervals are lines, the paper's hollow marks of the same shape.
    """
    arms = cells_by_size(pivot)
    if not arms or not pivot.table.scale.meaningful:
        return None
    cells = sorted(chain.from_iterable(arms.values()), key=_parameters)
    sizes = list(dict.fromkeys(_size(cell) for cell in cells))
    lines = []
    for label, style in styles.of(arms).items():
        by_place = {float(sizes.index(_size(cell))): cell for cell in arms[label]}
        published = {place: percent for place, cell in by_place.items() if (percent := cell.paper_percent) is not None}
        marks = [_paper_mark(pivot, by_place[place], percent) for place, percent in published.items()]
        hollow = Line(style, list(published), list(published.values()), look=HOLLOW, marks=marks)
        lines += [changed(style, pivot, by_place), hollow]
    spreads = [(c.percent + sign * (c.spread or 0.0)) for cell in cells if (c := cell.change) for sign in (-1, 1)]
    better = f" ({pivot.metric.direction} is better)" if pivot.metric.direction else ""
    panel = Panel(
        "size of the model", f"change of {pivot.metric.title}, %{better}", lines, also=spreads, at=0.0, ticks=sizes
    )
    alt = f"Change of {pivot.metric.title} against our baseline by size of the model. {_sized_words(arms)}."
    return Picture("gain", f"{pivot.table.name}-gain", alt, lambda: panels_figure([panel], height=2.4))


def _paper_mark(pivot: Pivot, cell: PivotCell, percent: float) -> Mark:
    return cell_mark(pivot, cell, f"the paper’s change of {pivot.metric.title} is {signed_percent(percent)}")


def cells_by_size(pivot: Pivot) -> dict[str, list[PivotCell]]:
    """Return a table's cells with a change by their rows without the size of their model, from the smallest model.

    Empty for fewer than three sizes; a family with one change is left out.
    """
    groups: dict[str, list[PivotCell]] = {}
    several = len({cell.column for cell in pivot.cells if cell.change}) > 1
    for cell in pivot.cells:
        if cell.change and pivot.shows(cell):
            model = cell.source.settings.model
            row = cell.row.replace(model, model.partition("-")[0])
            groups.setdefault(f"{row} · {cell.column}" if several else row, []).append(cell)
    if len({_size(cell) for cells in groups.values() for cell in cells}) < FEWEST_SIZES:
        return {}
    arms = {label: sorted(cells, key=_parameters) for label, cells in groups.items()}
    return {label: cells for label, cells in arms.items() if len(cells) == len({_size(cell) for cell in cells}) > 1}


def _size(cell: PivotCell) -> str:
    """The letters of a model's size: "XL" of "SiT-XL/2"."""
    return cell.source.settings.model.partition("-")[2].partition("/")[0]


def _parameters(cell: PivotCell) -> int:
    """What the number of parameters goes with."""
    model = cell.source.runs[0].train.model
    return model.depth * model.width**2


def _sized_words(arms: Mapping[str, Sequence[PivotCell]]) -> str:
    parts = []
    for label, cells in arms.items():
        changes = (f"{_size(cell)} {signed_percent(cell.change.percent)}" for cell in cells if cell.change)
        parts.append(f"{label}: {', '.join(changes)}")
    return "; ".join(parts)
