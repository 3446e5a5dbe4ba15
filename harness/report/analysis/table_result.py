"""All that is known of one table, computed once: cells with their verdicts, findings, and the tests of changes."""

from dataclasses import dataclass
from functools import cached_property

from harness.report.analysis.claims import judged
from harness.report.analysis.findings import findings
from harness.report.analysis.pivot import Pivot, PivotCell, Verdict
from harness.report.analysis.statistics import smallest_flip_p
from harness.report.analysis.text import p_words, sentences


@dataclass(frozen=True)
class TableResult:
    """A table between computing and printing; HTML, LaTeX, Markdown, CSV and JSON are all made of it."""

    pivot: Pivot

    @cached_property
    def findings(self) -> list[str]:
        """What the table shows, in sentences."""
        return findings(self.pivot)

    @cached_property
    def judged(self) -> list[PivotCell]:
        """The cells that have a verdict; none at a scale without a meaning."""
        return judged([self.pivot])

    def count(self, verdict: Verdict) -> int:
        """Return how many cells have a verdict."""
        return sum(cell.verdict == verdict for cell in self.judged)

    @cached_property
    def tested(self) -> list[PivotCell]:
        """The cells whose change has an interval; none at a scale without a meaning."""
        meaningful = self.pivot.table.scale.meaningful
        return [cell for cell in self.pivot.cells if meaningful and cell.change and cell.change.interval]

    @cached_property
    def test_sentences(self) -> list[str]:
        """What must be said of the tests of its changes."""
        changes = [cell.change for cell in self.tested if cell.change]
        counts = sorted({len(change.seeds) for change in changes if change.flip_p is not None})
        smallest = [f"{p_words(smallest_flip_p(n))} with {n} seeds" for n in counts]
        return sentences("tests.j2", tested=len(changes), smallest=smallest)
