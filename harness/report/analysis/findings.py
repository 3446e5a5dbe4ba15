"""What a table shows, in sentences that are computed from its numbers."""

from collections import Counter
from collections.abc import Sequence
from statistics import median

from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.statistics import change_between
from harness.report.analysis.text import is_number, number, sentences, share


def findings(pivot: Pivot) -> list[str]:
    """Say what a table shows: which arms beat the baseline, the best, and whether the signs are the paper's."""
    changed = [cell for cell in pivot.cells if cell.change]
    changes = [cell.change for cell in changed if cell.change]
    tested = [change for change in changes if change.p is not None]
    widths = [change.narrowing for change in tested if change.narrowing is not None]
    best = [cell for cell in pivot.cells if cell.is_best]
    wins, told_apart = _wins(pivot)
    signs = [(c.change.percent, c.paper_percent) for c in changed if c.change and c.paper_percent]
    return sentences(
        "findings.j2",
        pivot=pivot,
        has_baseline=any(cell.baseline for cell in pivot.cells),
        changes=changes,
        ranked=[f"“{c.name}” ({number(c.mean, pivot.metric.decimals)})" for c in pivot.ranked(pivot.cells)],
        better=_better(pivot, changed),
        best=best[0] if len(best) == 1 == len(pivot.protocols) else None,
        wins=wins,
        told_apart=told_apart,
        tested=len(tested),
        beyond=sum(change.beyond for change in tested),
        surviving=sum(change.survives for change in tested),
        widths=widths,
        width=number(median(widths or [0]), 2),
        same_signs=[ours * theirs > 0 for ours, theirs in signs],
        without=sum(cell.ours is None for cell in pivot.cells),
    )


def _better(pivot: Pivot, changed: Sequence[PivotCell]) -> list[str]:
    """How many cells have a better mean than the baseline: under each column where those have words for names."""
    wordy = [label for label in pivot.columns if label and not is_number(label)]
    groups = {label: [cell for cell in changed if cell.column == label] for label in wordy}
    groups = {label: cells for label, cells in groups.items() if cells} or {"": list(changed)}
    parts = []
    for label, cells in groups.items():
        better = sum(pivot.improves(cell.change.percent) for cell in cells if cell.change)
        noun = "cell" if len(cells) == 1 else "cells"
        parts.append(f"{share(better, len(cells))} {f'under “{label}”' if label else noun}")
    return parts


def _wins(pivot: Pivot) -> tuple[list[str], str]:
    """Which column wins its row how often, where rows have at least two cells that are no baseline, and how surely."""
    wins: Counter[str] = Counter()
    sure = 0
    for row in pivot.rows:
        rivals = [cell for cell in row.cells if cell and cell.change and not cell.is_baseline]
        if len(rivals) < 2 or len({cell.letters for cell in rivals}) > 1:
            continue
        first, second, *_ = sorted(rivals, key=lambda cell: pivot.badness(cell.change.percent if cell.change else 0))
        wins[first.column] += 1
        between = change_between(first.values, second.values)
        sure += between is not None and between.beyond
    if not wins or is_number(pivot.columns[0]):
        return [], ""
    contests = wins.total()
    return [f"“{c}” in {share(wins[c], contests)}" for c in pivot.columns if wins[c]], share(sure, contests)
