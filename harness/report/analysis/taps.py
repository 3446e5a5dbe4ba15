"""Which blocks a regulariser taps, and which cells of a table are in truth one run."""

from collections.abc import Mapping
from typing import Any

from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import listed


def tapped(cell: PivotCell) -> str:
    """Return "block 2 of 6", "blocks 1, 2 and 3 of 6", "all 6 blocks"; "" without a regulariser."""
    train = cell.source.runs[0].train
    if train.regularizer is None:
        return ""
    blocks, depth = train.regularizer.blocks, train.model.depth
    if len(blocks) == depth > 1:
        return f"all {depth} blocks"
    return f"block{'s' if len(blocks) > 1 else ''} {listed([str(block) for block in blocks])} of {depth}"


def tap_note(pivot: Pivot, cell: PivotCell) -> str:
    """Return "= block 2 of 6" in a table whose cells ask for different blocks; else "", as `taps_sentence` says it."""
    words = tapped(cell)
    return f"= {words}" if words and _asks_for_blocks(pivot) else ""


def taps_sentence(pivot: Pivot) -> str:
    """Say which block the regulariser acts on, by model where they differ in depth; "" where each cell says it."""
    if _asks_for_blocks(pivot):
        return ""
    models: dict[str, dict[str, None]] = {}
    for cell in pivot.cells:
        if words := tapped(cell):
            models.setdefault(words, {})[cell.source.settings.model] = None
    if not models:
        return ""
    where = listed([f"{words}{_whose(names) if len(models) > 1 else ''}" for words, names in models.items()])
    return f"The regulariser acts on the output of {where}."


def one_run_sentences(pivot: Pivot) -> list[str]:
    """Say which cells are one run here, because a small network has fewer blocks than the paper's names tell apart."""
    cells: dict[tuple[str, ...], list[str]] = {}
    for cell in pivot.cells:
        cells.setdefault(tuple(run.eval_id for run in cell.runs), []).append(f"“{cell.name}”")
    shared = [listed(names) for names in cells.values() if len(names) > 1]
    return [f"{names} are the same run at this scale, and so one number." for names in shared]


def _asks_for_blocks(pivot: Pivot) -> bool:
    settings = [cell.source.settings.regularizer for cell in pivot.cells]
    return len({regularizer.blocks for regularizer in settings if regularizer.loss != "none"}) > 1


def _whose(names: Mapping[str, Any]) -> str:
    return f" ({', '.join(names)})"
