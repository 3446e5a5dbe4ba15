"""What a table shows, in sentences that are computed from its numbers."""

from collections import Counter
from collections.abc import Sequence
from statistics import median

from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.statistics import change_between
from harness.report.analysis.text import count, counted, is_number, listed, number, share, signed_percent


def findings(pivot: Pivot) -> list[str]:
    """Say what a table shows: which arms beat the baseline, the best, and whether the signs are the paper's."""
    if not pivot.table.scale.meaningful:
        return ["Numbers at this scale mean nothing, so nothing is found."]
    changed = [cell for cell in pivot.cells if cell.change]
    if not any(pivot.table.baseline(cell.source) for cell in pivot.cells):
        return [*_ordered(pivot), *_left_out(pivot)]
    if not changed:
        return ["No change against our baseline is known yet."]
    sentences = [*_against_baseline(pivot, changed), *_best(pivot, changed), *_columns(pivot)]
    return [*sentences, *_beyond_chance(changed), *_signs(changed), *_left_out(pivot)]


def _ordered(pivot: Pivot) -> list[str]:
    """Of a table without a baseline, the cells by their means."""
    ranked = pivot.ranked(pivot.cells)
    if len(ranked) < 2 or not pivot.metric.direction:
        return []
    means = listed([f"“{cell.name}” ({number(cell.mean, pivot.metric.decimals)})" for cell in ranked])
    alike = "" if len(pivot.protocols) < 2 else "; they are sampled or measured differently, as the letters say"
    return [f"From the best mean to the worst: {means}{alike}."]


def _left_out(pivot: Pivot) -> list[str]:
    without = sum(cell.ours is None for cell in pivot.cells)
    have = "has" if without == 1 else "have"
    return [f"Of its {counted(len(pivot.cells), 'cell')}, {count(without)} {have} no mean yet."] if without else []


def _against_baseline(pivot: Pivot, changed: Sequence[PivotCell]) -> list[str]:
    if not pivot.metric.direction:
        return []
    wordy = [label for label in pivot.columns if label and not is_number(label)]
    groups = {label: [cell for cell in changed if cell.column == label] for label in wordy}
    groups = {label: cells for label, cells in groups.items() if cells} or {"": list(changed)}
    parts = []
    for label, cells in groups.items():
        better = sum(pivot.improves(cell.change.percent) for cell in cells if cell.change)
        noun = "cell" if len(cells) == 1 else "cells"
        parts.append(f"{share(better, len(cells))} {f'under “{label}”' if label else noun}")
    return [f"A better mean than our baseline’s: {'; '.join(parts)}."]


def _best(pivot: Pivot, changed: Sequence[PivotCell]) -> list[str]:
    best = [cell for cell in pivot.cells if cell.is_best]
    if len(best) != 1 or len(pivot.protocols) > 1:
        return []
    if best[0].is_baseline:
        return ["The baseline’s own mean is best."]
    change = best[0].change
    return [f"The best mean is that of “{best[0].name}”{f' ({signed_percent(change.percent)})' if change else ''}."]


def _columns(pivot: Pivot) -> list[str]:
    """Which column wins its row how often, where rows have at least two cells that are no baseline, and how surely."""
    wins: Counter[str] = Counter()
    contests, told_apart = 0, 0
    for row in pivot.rows:
        rivals = [cell for cell in row.cells if cell and cell.change and not cell.is_baseline]
        if len(rivals) < 2 or len({cell.letters for cell in rivals}) > 1:
            continue
        contests += 1
        first, second, *_ = sorted(rivals, key=lambda cell: pivot.badness(cell.change.percent if cell.change else 0))
        wins[first.column] += 1
        between = change_between(first.values, second.values)
        told_apart += between is not None and between.beyond
    if not contests or is_number(pivot.columns[0]):
        return []
    parts = [f"“{label}” in {share(wins[label], contests)}" for label in pivot.columns if wins[label]]
    return [
        f"The best mean of its row stands under {listed(parts)}; the 95% interval tells it from the second best of the "
        f"row in {share(told_apart, contests)}."
    ]


def _beyond_chance(changed: Sequence[PivotCell]) -> list[str]:
    """How many changes are told from chance, alone and beside the others, and what pairing the seeds is worth."""
    tested = [cell.change for cell in changed if cell.change and cell.change.p is not None]
    if not tested:
        return ["With one seed, nothing tells these changes from chance."]
    beyond, survives = sum(change.beyond for change in tested), sum(change.survives for change in tested)
    sentence = f"The 95% interval of the change excludes zero in {share(beyond, len(tested))}"
    if beyond and len(tested) > 1:
        sentence += f", and after Holm’s correction over the table in {share(survives, len(tested))}"
    return [f"{sentence}.", *_pairing([change.narrowing for change in tested if change.narrowing is not None])]


def _pairing(widths: Sequence[float]) -> list[str]:
    if not widths:
        return []
    times = f"{median(widths):.2f} times as wide as"
    if len(widths) == 1:
        return [f"Comparing each seed with itself makes it {times} between unrelated runs."]
    return [f"Comparing each seed with itself makes these intervals {times} between unrelated runs (median)."]


def _signs(changed: Sequence[PivotCell]) -> list[str]:
    pairs = [(c.change.percent, c.paper.percent) for c in changed if c.change and c.paper and c.paper.percent]
    if not pairs:
        return []
    same = sum(ours * theirs > 0 for ours, theirs in pairs)
    if len(pairs) == 1:
        return [f"In the one cell where we know the paper’s change, ours has {'its' if same else 'the opposite'} sign."]
    return [f"It has the sign of the paper’s change in {share(same, len(pairs))} where we know the paper’s."]
