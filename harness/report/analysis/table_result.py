"""All that is known of one table, computed once: cells with their verdicts, findings, and the tests of changes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from harness.report.analysis.claims import arms, judged, together
from harness.report.analysis.pivot import Pivot, PivotCell, kind_of
from harness.report.analysis.statistics import change_between, smallest_flip_p
from harness.report.analysis.text import is_number, number, p_words, sentences, share


@dataclass(frozen=True)
class TableResult:
    """A table between computing and printing; HTML, LaTeX, Markdown, CSV and JSON are all made of it."""

    pivot: Pivot

    @cached_property
    def findings(self) -> list[str]:
        """What the table shows, in sentences: which arms beat the baseline, the best, whether signs are the paper's."""
        cells, decimals = self.pivot.cells, self.pivot.metric.decimals
        changed = [cell for cell in cells if cell.change]
        tested = [cell.change for cell in changed if cell.change and cell.change.p is not None]
        widths = [change.narrowing for change in tested if change.narrowing is not None]
        wins, told_apart = _wins(self.pivot)
        return sentences(
            "findings.j2",
            pivot=self.pivot,
            changed=changed,
            ranked=[f"“{cell.name}” ({number(cell.mean, decimals)})" for cell in self.pivot.ranked(cells)],
            better=_better(self.pivot, changed),
            wins=wins,
            told_apart=told_apart,
            tested=tested,
            widths=widths,
            width=number(median(widths or [0]), 2),
            same_signs=[c.change.percent * c.paper_percent > 0 for c in changed if c.change and c.paper_percent],
        )

    @cached_property
    def plain_findings(self) -> list[str]:
        """The same in at most two sentences, which count each arm once."""
        changed = [cell for cell in arms(self.pivot.cells) if cell.change and self.pivot.metric.direction]
        papers = [cell.paper_percent for cell in changed if cell.paper_percent]
        kinds = Counter(kind_of(self.pivot, cell.change) for cell in changed if cell.change)
        seeds = sorted({len(cell.change.seeds) for cell in changed if cell.change})
        return sentences(
            "plain_findings.j2",
            meaningful=self.pivot.table.scale.meaningful,
            kinds=kinds,
            changed=len(changed),
            seeds=seeds,
            papers=len(papers),
            paper_better=sum(map(self.pivot.improves, papers)),
            findings=self.findings,
        )

    @cached_property
    def claim_and_findings(self) -> str:
        """The claim of the table in words, where it has none that is tested, and `plain_findings`."""
        table, found = self.pivot.table, " ".join(self.plain_findings)
        return found if table.tested_claims else f"The claim: {table.file.claim_text} Here: {found}"

    @cached_property
    def judged(self) -> list[PivotCell]:
        """The cells that have a verdict; none at a scale without a meaning."""
        return judged([self.pivot])

    def count(self, outcome: str) -> int:
        """Return of how many cells that is what they and the paper say together."""
        return sum(together(self.pivot, cell) == outcome for cell in self.judged)

    @cached_property
    def tested(self) -> list[PivotCell]:
        """The cells whose change has an interval; none at a scale without a meaning."""
        meaningful = self.pivot.table.scale.meaningful
        return [cell for cell in self.pivot.cells if meaningful and cell.change and cell.change.interval]

    @cached_property
    def test_sentences(self) -> list[str]:
        """What must be said of the tests of its changes."""
        counts = sorted({len(c.change.seeds) for c in self.tested if c.change and c.change.flip_p is not None})
        smallest = [f"{p_words(smallest_flip_p(n))} with {n} seeds" for n in counts]
        return sentences("tests.j2", tested=len(self.tested), smallest=smallest)


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
