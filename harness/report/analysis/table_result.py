"""All that is known of one table, computed once: cells with their verdicts, findings, and the tests of changes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.report.analysis.claims import judged
from harness.report.analysis.findings import findings
from harness.report.analysis.pivot import Pivot, PivotCell, Verdict
from harness.report.analysis.statistics import Change, smallest_flip_p
from harness.report.analysis.text import counted, listed, p_words


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
        return list(_test_sentences([cell.change for cell in self.tested if cell.change]))


def _test_sentences(changes: Sequence[Change]) -> Iterator[str]:
    if not changes:
        return
    yield (
        f"p is of Student’s t, the change over its standard error by seeds; Holm’s p is corrected for the "
        f"{counted(len(changes), 'change')} of this table, and claims rest on these two."
    )
    if counts := sorted({len(change.seeds) for change in changes if change.flip_p is not None}):
        smallest = listed([f"{p_words(smallest_flip_p(n))} with {n} seeds" for n in counts])
        yield (
            f"The sign-flip test assumes no more than that differences are spread alike on both sides of zero; it "
            f"cannot give less than {smallest}, so it is shown and decides nothing."
        )
