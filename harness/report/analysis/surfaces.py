"""Response surfaces: how the metric moves with λ, τ and the block, where its plateau is, and the rule that follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.config.settings.loss_settings import OfDistance, RegularizerSettings
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.statistics import ALPHA, change_between, holm
from harness.report.analysis.text import listed, sentences

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
            warning, shows = edge_warning(pivot, cells, knobs), tuple(_sentences(pivot, cells, knobs))
            shown.append(Surface(pivot, tuple(cells), tuple(knobs), warning, shows))
    return shown


def settings_of(pivot: Pivot) -> list[PivotCell]:
    """Return the cells with a loss, whose τ is a number, and a mean."""
    losses = [(cell, cell.source.settings.regularizer) for cell in pivot.cells if cell.ours]
    return [cell for cell, loss in losses if loss.loss != "none" and not isinstance(loss.tau, OfDistance)]


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


def _sentences(pivot: Pivot, cells: Sequence[PivotCell], knobs: Sequence[str]) -> list[str]:
    best, flat = pivot.ranked(cells)[0], plateau(pivot, cells)
    changes = {cell.name: change_between(cell.values, best.values) for cell in cells if cell is not best}
    leads = holm({name: change.p for name, change in changes.items() if change and change.p is not None})
    ranges = {KNOBS[knob]: _range(cells, knob) for knob in knobs}
    default = next((cell for cell in cells if cell.source.settings.regularizer == _with_default_knobs(cell)), None)
    return sentences(
        "surface.j2",
        pivot=pivot,
        best=best,
        near=[f"“{cell.name}”" for cell in flat if cell is not best],
        rivals=len(leads),
        beaten=sum(p < ALPHA for p in leads.values()),
        spans=[f"by {100 * span:.0f}\u202f% with {name}" for name, span in ranges.items()],
        first=max(ranges, key=lambda name: ranges[name]),
        default=default,
        on_plateau=default in flat,
        from_best=change_between(default.values, best.values) if default else None,
    )


def _range(cells: Sequence[PivotCell], knob: str) -> float:
    """How far the mean moves along a knob, averaged over the others, in terms of its best value."""
    means = pd.Series([cell.mean for cell in cells]).groupby([str(setting(cell, knob)) for cell in cells]).mean()
    return float((means.max() - means.min()) / abs(means.min() or 1.0))
