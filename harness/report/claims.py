"""What holds of the paper at this scale: each cell's change beside the paper's, counted by table."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.grid import Table
from harness.report.tables import Pivot, PivotCell
from harness.report.words import STATES, counted, listed, no_change_reason, share, signed_percent

Verdict = Literal["same sign", "contradicts", "within spread", "with one seed", "protocol differs", "without value"]
VERDICTS: Mapping[Verdict, str] = {
    "same sign": "our change has the sign of the paper’s, and is larger than its own spread over seeds",
    "contradicts": "our change has the opposite sign, and is larger than its own spread over seeds",
    "within spread": "our change is no larger than its own spread over seeds, and so says neither",
    "with one seed": "there is one change alone, and so nothing to tell it from chance",
    "protocol differs": "the cell or its baseline was not measured as the other was, and they are not compared",
    "without value": "the cell or its baseline has no value yet",
}
PAPER = ("1", "2", "3", "4", "figure 4", "5", "6", "7a", "7b")  # what the paper has; Table 1 holds formulas alone


@dataclass(frozen=True)
class Claim:
    """One cell whose change the paper gives: theirs, ours in words, and what the two together say."""

    cell: PivotCell
    verdict: Verdict
    ours: str
    paper: str


@dataclass(frozen=True)
class TableClaims:
    """The claims of one table; `unpublished` cells have a change of ours and none of the paper's."""

    name: str
    claims: tuple[Claim, ...]
    unpublished: int

    def count(self, verdict: Verdict) -> int:
        """Return how many cells have a verdict."""
        return sum(claim.verdict == verdict for claim in self.claims)


def table_claims(pivot: Pivot) -> TableClaims:
    """Compare every change that the paper gives with ours; a scale without meaning has no claims."""
    published = [cell for cell in pivot.cells if cell.paper and cell.paper.percent]
    claims = tuple(_claim(pivot, cell) for cell in published) if pivot.table.scale.meaningful else ()
    without = sum(bool(cell.change) and not (cell.paper and cell.paper.percent) for cell in pivot.cells)
    return TableClaims(pivot.table.name, claims, without if pivot.table.scale.meaningful else 0)


def verdicts_used(pivots: Sequence[Pivot]) -> list[Verdict]:
    """Return the verdicts that some cell has, in order."""
    found = {claim.verdict for pivot in pivots for claim in table_claims(pivot).claims}
    return [verdict for verdict in VERDICTS if verdict in found]


def _claim(pivot: Pivot, cell: PivotCell) -> Claim:
    assert cell.paper
    assert cell.paper.percent
    ours = signed_percent(cell.change.percent, 1, cell.change.spread) if cell.change else ""
    return Claim(cell, _verdict(pivot, cell), ours, signed_percent(cell.paper.percent, 2))


def _verdict(pivot: Pivot, cell: PivotCell) -> Verdict:
    if cell.change is None:
        otherwise = cell.mixed or no_change_reason(pivot, cell) == "the baseline was measured otherwise"
        return "protocol differs" if otherwise or _baseline_mixed(pivot, cell) else "without value"
    if cell.change.spread is None:
        return "with one seed"
    if abs(cell.change.percent) <= cell.change.spread or round(cell.change.percent, 1) == 0:
        return "within spread"
    assert cell.paper
    assert cell.paper.percent
    return "same sign" if cell.change.percent * cell.paper.percent > 0 else "contradicts"


def _baseline_mixed(pivot: Pivot, cell: PivotCell) -> bool:
    baseline = pivot.table.baseline(cell.source)
    return any(other.mixed for other in pivot.cells if other.source is baseline)


def summary_sentences(pivots: Sequence[Pivot]) -> list[str]:
    """Say how much of the paper holds at this scale, and what is missing."""
    meaningful = [pivot for pivot in pivots if pivot.table.scale.meaningful]
    if not meaningful:
        return ["Numbers at this scale mean nothing, so nothing is said of the paper’s claims."]
    claims = [claim for pivot in meaningful for claim in table_claims(pivot).claims]
    return [*_held(claims), *_runs_missing(pivots), *_tables_missing([pivot.table for pivot in pivots])]


def _held(claims: Sequence[Claim]) -> Iterable[str]:
    if not claims:
        yield "The paper’s change is known to us in no cell of these tables."
        return
    verdicts = Counter(claim.verdict for claim in claims)
    whole = len(claims)
    yield (
        f"The paper’s change is known to us in {counted(whole, 'cell')}. At this scale ours has the same sign beyond "
        f"its spread over seeds in {share(verdicts['same sign'], whole)}, and the opposite sign in "
        f"{share(verdicts['contradicts'], whole)}."
    )
    silent = [(verdict, verdicts[verdict]) for verdict in VERDICTS if verdict not in ("same sign", "contradicts")]
    if said := [f"{count} {verdict}" for verdict, count in silent if count]:
        yield f"The others say neither: {listed(said)}."


def _runs_missing(pivots: Sequence[Pivot]) -> Iterable[str]:
    runs = {run.eval_id: run for pivot in pivots for cell in pivot.cells for run in cell.runs}
    states = Counter(run.state for run in runs.values() if run.value is None)
    if not states:
        yield f"None of the {counted(len(runs), 'measurement')} is missing."
        return
    said = listed([f"{count:,} {state}" for state, count in states.most_common()])
    yield f"Of {counted(len(runs), 'measurement')}, {sum(states.values()):,} give no value: {said}."
    assert states.keys() <= STATES.keys(), states


def _tables_missing(tables: Iterable[Table]) -> Iterable[str]:
    here = {"1", *(table.file.table for table in tables)}
    absent = [f"Table {name}" if name[0].isdigit() else name.capitalize() for name in PAPER if name not in here]
    if absent:
        yield f"Not in this study: {listed(absent)}."
