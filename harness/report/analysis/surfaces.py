"""Response surfaces: how the metric moves with λ, τ and the block, where its plateau is, and the rule that follows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from harness.config.settings import RegularizerSettings
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.statistics import ALPHA, change_between, holm
from harness.report.analysis.text import listed, number, percent_change, share

PLATEAU = 0.01  # of the best
LEAST_SETTINGS = 3
KNOBS = {"lambda_": "λ", "tau": "τ", "blocks": "block"}


@dataclass(frozen=True)
class Surface:
    """What one table shows of λ, τ or the block; `warning` is "" where the best lies inside the grid."""

    pivot: Pivot
    cells: tuple[PivotCell, ...]
    knobs: tuple[str, ...]
    warning: str
    sentences: tuple[str, ...]


def surfaces(pivots: Sequence[Pivot]) -> list[Surface]:
    """Return the surface of each table that varies λ, τ or the block, and nothing else of the loss."""
    shown = []
    for pivot in pivots:
        cells = settings_of(pivot)
        knobs = varied(cells)
        if knobs and pivot.metric.direction and pivot.table.scale.meaningful and not pivot.mixes:
            warning, sentences = edge_warning(pivot, cells, knobs), tuple(_sentences(pivot, cells, knobs))
            shown.append(Surface(pivot, tuple(cells), tuple(knobs), warning, sentences))
    return shown


def settings_of(pivot: Pivot) -> list[PivotCell]:
    """Return the cells with a loss and a mean."""
    return [cell for cell in pivot.cells if cell.ours and cell.source.settings.regularizer.loss != "none"]


def varied(cells: Sequence[PivotCell]) -> list[str]:
    """Return which of λ, τ and the block differ between cells; empty where something else does too."""
    if len(cells) < LEAST_SETTINGS:
        return []
    bare = {cell.source.settings.model_copy(update={"regularizer": _with_default_knobs(cell)}) for cell in cells}
    return [knob for knob in KNOBS if len({setting(cell, knob) for cell in cells}) > 1] if len(bare) == 1 else []


def _with_default_knobs(cell: PivotCell) -> RegularizerSettings:
    default = RegularizerSettings()
    return cell.source.settings.regularizer.model_copy(update={knob: getattr(default, knob) for knob in KNOBS})


def setting(cell: PivotCell, knob: str) -> Any:
    """Return a cell's λ or τ, a number, or its block, a word or several."""
    return getattr(cell.source.settings.regularizer, knob)


def plateau(pivot: Pivot, cells: Sequence[PivotCell]) -> list[PivotCell]:
    """Return the cells whose mean is within 1 % of the best, the best itself among them."""
    best = pivot.ranked(cells)[0].mean
    return [cell for cell in cells if abs(cell.mean - best) <= PLATEAU * abs(best)]


def edge_warning(pivot: Pivot, cells: Sequence[PivotCell], knobs: Sequence[str]) -> str:
    """Say which of λ and τ is best at an end of the grid; "" where none is. The block has no beyond."""
    best, ends = pivot.ranked(cells)[0], []
    for knob in (knob for knob in knobs if knob != "blocks"):
        values, value = [setting(cell, knob) for cell in cells], setting(best, knob)
        if min(values) < max(values) and value in (min(values), max(values)):
            end = "smallest" if value == min(values) else "largest"
            ends.append(f"{KNOBS[knob]} = {value:g}, the {end} tried")
    return f"The best lies on the edge of the grid ({listed(ends)}): a better one may lie beyond." if ends else ""


def _sentences(pivot: Pivot, cells: Sequence[PivotCell], knobs: Sequence[str]) -> Iterator[str]:
    best, flat = pivot.ranked(cells)[0], plateau(pivot, cells)
    near = [f"“{cell.name}”" for cell in flat if cell is not best]
    mean = f"{pivot.metric.title} {number(best.mean, pivot.metric.decimals)}"
    beside = f"within 1% of it {'is' if len(near) == 1 else 'are'} {listed(near)}" if near else "none is within 1%"
    yield f"Best is “{best.name}” ({mean}); {beside}."
    yield from _lead(best, [cell for cell in cells if cell is not best])
    yield from _moves(pivot, cells, knobs)
    yield from _rule(pivot, cells, best, flat)


def _lead(best: PivotCell, rivals: Sequence[PivotCell]) -> Iterator[str]:
    changes = {cell.name: change_between(cell.values, best.values) for cell in rivals}
    p_values = holm({name: change.p for name, change in changes.items() if change and change.p is not None})
    if p_values:
        beaten = share(sum(p < ALPHA for p in p_values.values()), len(p_values))
        yield f"Its lead survives Holm’s correction over {beaten} others; it was chosen on these same numbers."


def _moves(pivot: Pivot, cells: Sequence[PivotCell], knobs: Sequence[str]) -> Iterator[str]:
    """How far the mean moves along each knob, averaged over the others."""
    ranges = {KNOBS[knob]: _range(cells, knob) for knob in knobs}
    spans = listed([f"by {100 * span:.0f}\u202f% with {name}" for name, span in ranges.items()])
    first = max(ranges, key=lambda name: ranges[name])
    order = f": choose {first} first" if len(ranges) > 1 else ""
    yield f"From the best value of each to the worst, {pivot.metric.title} moves {spans}{order}."


def _range(cells: Sequence[PivotCell], knob: str) -> float:
    groups: dict[Any, list[float]] = {}
    for cell in cells:
        groups.setdefault(setting(cell, knob), []).append(cell.mean)
    means = [fmean(values) for values in groups.values()]
    return (max(means) - min(means)) / abs(min(means) or 1.0)


def _rule(pivot: Pivot, cells: Sequence[PivotCell], best: PivotCell, flat: Sequence[PivotCell]) -> Iterator[str]:
    """What a user should do at this scale."""
    if best.change and not (best.change.beyond and pivot.improves(best.change.percent)):
        costs = f"“{best.name}” costs least ({percent_change(best.change)})"
        yield f"No setting is better than the baseline beyond its interval. Rule of thumb: leave it out; {costs}."
        return
    default = next((cell for cell in cells if cell.source.settings.regularizer == _with_default_knobs(cell)), None)
    change = change_between(default.values, best.values) if default else None
    if default is None or change is None:
        yield f"Rule of thumb: take “{best.name}”."
    elif default in flat:
        yield f"Rule of thumb: keep the paper’s setting, “{default.name}”; it is on the plateau."
    elif change.p is not None and not change.beyond:
        yield f"Rule of thumb: keep the paper’s setting, “{default.name}” ({percent_change(change)} from the best)."
    else:
        yield f"Rule of thumb: take “{best.name}”; the paper’s setting is {percent_change(change)} from it."
