"""Response surfaces: how the metric moves with λ, τ and the block, where its plateau is, and the rule that follows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.config.setting_types import BlockWord
from harness.config.settings import RegularizerSettings
from harness.report.analysis.changes import change_between
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.statistics import ALPHA, holm, mean_interval
from harness.report.analysis.text import anchor, is_better, listed, number, percent_change, share, slug
from harness.report.figures.plots import Panel, Point, Series, panels_picture, point
from harness.report.figures.table_figure import Picture

PLATEAU = 0.01  # of the best
LEAST_SETTINGS = 3
APART = 0.06  # of the lines of a figure, so that no interval hides another
KNOBS = {"lambda_": "λ", "tau": "τ", "blocks": "block"}
Setting = float | BlockWord | tuple[BlockWord, ...]


@dataclass(frozen=True)
class Surface:
    """What one table shows of λ, τ or the block; `warning` is "" where the best lies inside the grid."""

    heading: str
    anchor: str
    warning: str
    sentences: tuple[str, ...]
    picture: Picture


def surfaces(pivots: Sequence[Pivot]) -> list[Surface]:
    """Return the surface of each table that varies λ, τ or the block, and nothing else of the loss."""
    found = []
    for pivot in pivots:
        cells = settings_of(pivot)
        knobs = varied(cells)
        if knobs and pivot.metric.direction and pivot.table.scale.meaningful and not pivot.mixes:
            name = anchor(pivot.table.name)
            words = tuple(_sentences(pivot, cells, knobs))
            heading = pivot.table.name_in_words
            found.append(
                Surface(heading, name, edge_warning(pivot, cells, knobs), words, _picture(pivot, cells, knobs))
            )
    return found


def settings_of(pivot: Pivot) -> list[PivotCell]:
    """Return the cells with a loss and a mean."""
    return [cell for cell in pivot.cells if cell.ours and cell.source.settings.regularizer.loss != "none"]


def varied(cells: Sequence[PivotCell]) -> list[str]:
    """Return which of λ, τ and the block differ between cells; empty where something else does too."""
    said = [cell.source.settings for cell in cells]
    if len(said) < LEAST_SETTINGS:
        return []
    bare = {settings.model_copy(update={"regularizer": _without_knobs(settings.regularizer)}) for settings in said}
    differing = [knob for knob in KNOBS if len({getattr(settings.regularizer, knob) for settings in said}) > 1]
    return differing if len(bare) == 1 else []


def _without_knobs(regularizer: RegularizerSettings) -> RegularizerSettings:
    default = RegularizerSettings()
    return regularizer.model_copy(update={knob: getattr(default, knob) for knob in KNOBS})


def _setting(cell: PivotCell, knob: str) -> Setting:
    found: Setting = getattr(cell.source.settings.regularizer, knob)
    return found


def best_of(pivot: Pivot, cells: Sequence[PivotCell]) -> PivotCell:
    """Return the cell with the best mean."""
    return (max if pivot.metric.direction == "higher" else min)(cells, key=lambda cell: cell.mean)


def plateau(pivot: Pivot, cells: Sequence[PivotCell]) -> list[PivotCell]:
    """Return the cells whose mean is within 1 % of the best, the best itself among them."""
    best = best_of(pivot, cells).mean
    return [cell for cell in cells if abs(cell.mean - best) <= PLATEAU * abs(best)]


def edge_warning(pivot: Pivot, cells: Sequence[PivotCell], knobs: Sequence[str]) -> str:
    """Say which of λ and τ is best at an end of the grid; "" where none is. The block has no beyond."""
    best, ends = best_of(pivot, cells), []
    for knob in (knob for knob in knobs if knob != "blocks"):
        values = sorted({_number(cell, knob) for cell in cells})
        if _number(best, knob) in (values[0], values[-1]) and len(values) > 1:
            end = "smallest" if _number(best, knob) == values[0] else "largest"
            ends.append(f"{KNOBS[knob]} = {_number(best, knob):g}, the {end} tried")
    return f"The best lies on the edge of the grid ({listed(ends)}): a better one may lie beyond." if ends else ""


def _number(cell: PivotCell, knob: str) -> float:
    value = _setting(cell, knob)
    assert isinstance(value, int | float)
    return float(value)


def _sentences(pivot: Pivot, cells: Sequence[PivotCell], knobs: Sequence[str]) -> Iterator[str]:
    best, flat = best_of(pivot, cells), plateau(pivot, cells)
    others = [f"“{cell.name}”" for cell in flat if cell is not best]
    mean = f"{pivot.metric.title} {number(best.mean, pivot.metric.decimals)}"
    beside = (
        f"within 1% of it {'is' if len(others) == 1 else 'are'} {listed(others)}" if others else "none is within 1%"
    )
    yield f"Best is “{best.name}” ({mean}); {beside}."
    yield from _lead(best, [cell for cell in cells if cell is not best])
    yield from _moves(pivot, cells, knobs)
    yield from _rule(pivot, cells, best, flat)


def _lead(best: PivotCell, others: Sequence[PivotCell]) -> Iterator[str]:
    changes = {cell.name: change_between(cell.values, best.values) for cell in others}
    known = holm({name: change.p for name, change in changes.items() if change and change.p is not None})
    if known:
        told = share(sum(p < ALPHA for p in known.values()), len(known))
        yield f"Its lead survives Holm’s correction over {told} others; it was chosen on these same numbers."


def _moves(pivot: Pivot, cells: Sequence[PivotCell], knobs: Sequence[str]) -> Iterator[str]:
    """How far the mean moves along each knob, averaged over the others."""
    ranges = {KNOBS[knob]: _range(cells, knob) for knob in knobs}
    said = listed([f"by {100 * span:.0f}\u202f% with {name}" for name, span in ranges.items()])
    first = max(ranges, key=lambda name: ranges[name])
    order = f": choose {first} first" if len(ranges) > 1 else ""
    yield f"From the best value of each to the worst, {pivot.metric.title} moves {said}{order}."


def _range(cells: Sequence[PivotCell], knob: str) -> float:
    groups: dict[Setting, list[float]] = {}
    for cell in cells:
        groups.setdefault(_setting(cell, knob), []).append(cell.mean)
    means = [fmean(values) for values in groups.values()]
    return (max(means) - min(means)) / abs(min(means) or 1.0)


def _rule(pivot: Pivot, cells: Sequence[PivotCell], best: PivotCell, flat: Sequence[PivotCell]) -> Iterator[str]:
    """What a user should do at this scale."""
    if best.change and not (best.change.beyond and is_better(pivot, best.change.percent)):
        costs = f"“{best.name}” costs least ({percent_change(best.change)})"
        yield f"No setting is better than the baseline beyond its interval. Rule of thumb: leave it out; {costs}."
        return
    default = next((cell for cell in cells if _is_default(cell)), None)
    change = change_between(default.values, best.values) if default else None
    if default is None or change is None:
        yield f"Rule of thumb: take “{best.name}”."
    elif default in flat:
        yield f"Rule of thumb: keep the paper’s setting, “{default.name}”; it is on the plateau."
    elif change.p is not None and not change.beyond:
        yield f"Rule of thumb: keep the paper’s setting, “{default.name}” ({percent_change(change)} from the best)."
    else:
        yield f"Rule of thumb: take “{best.name}”; the paper’s setting is {percent_change(change)} from it."


def _is_default(cell: PivotCell) -> bool:
    default = RegularizerSettings()
    return all(_setting(cell, knob) == getattr(default, knob) for knob in KNOBS)


def _picture(pivot: Pivot, cells: Sequence[PivotCell], knobs: Sequence[str]) -> Picture:
    """Draw the metric along the knob of most values, a line for each value of the other."""
    counts = {knob: len({_setting(cell, knob) for cell in cells}) for knob in knobs}
    across = max(counts, key=lambda knob: counts[knob])
    lines: dict[str, list[PivotCell]] = {}
    for cell in cells:
        others = [f"{KNOBS[knob]} = {_setting(cell, knob)}" for knob in knobs if knob != across]
        lines.setdefault(", ".join(others), []).append(cell)
    places = list(dict.fromkeys(_setting(cell, across) for cell in cells))
    base = [cell.ours.mean for cell in pivot.baselines if cell.ours]
    series = [
        Series(label, index, tuple(_point(places, c, across, (index - (len(lines) - 1) / 2) * APART) for c in found))
        for index, (label, found) in enumerate(lines.items())
    ]
    name = KNOBS[across]
    ticks = tuple(_tick(place) for place in places)
    panel = Panel(pivot.metric.title, name, tuple(series), base[0] if len(base) == 1 else None, ticks)
    return panels_picture("surface", f"{slug(pivot.table.name)}-surface", _alt(pivot, cells), [panel], 1)


def _point(places: Sequence[Setting], cell: PivotCell, knob: str, aside: float) -> Point:
    return point(places.index(_setting(cell, knob)) + aside, list(cell.values.values()))


def _tick(place: Setting) -> str:
    return f"{place:g}" if isinstance(place, float) else str(place)


def _alt(pivot: Pivot, cells: Sequence[PivotCell]) -> str:
    return f"{pivot.metric.title} with its 95% interval: {'; '.join(_point_words(pivot, cell) for cell in cells)}."


def _point_words(pivot: Pivot, cell: PivotCell) -> str:
    decimals, interval = pivot.metric.decimals, mean_interval(list(cell.values.values()))
    ends = f" from {number(interval.low, decimals)} to {number(interval.high, decimals)}" if interval else ""
    return f"{cell.name} {number(cell.mean, decimals)}{ends}"
