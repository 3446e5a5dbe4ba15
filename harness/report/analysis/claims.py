"""What holds of the paper at this scale: one verdict for each cell, from our change, its interval and the paper's."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.config.grid import Table
from harness.config.grid_file import At
from harness.config.settings import RegularizerSettings
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import (
    STATES,
    count,
    counted,
    is_better,
    listed,
    no_change_reason,
    number,
    percent_change,
    share,
    signed_percent,
)

Verdict = Literal[
    "same sign",
    "contradicts",
    "zero within interval",
    "with one seed",
    "protocol differs",
    "without value",
    "unpublished",
]
VERDICTS: Mapping[Verdict, str] = {
    "same sign": "our change has the sign of the paper’s, and its 95% interval excludes zero",
    "contradicts": "our change has the opposite sign, and its 95% interval excludes zero",
    "zero within interval": "the 95% interval of our change contains zero, and so says neither",
    "with one seed": "there is one change alone, and so nothing to tell it from chance",
    "protocol differs": "the cell or its baseline was not measured as the other was, and they are not compared",
    "without value": "the cell or its baseline has not been run, or gave no value",
    "unpublished": "no source of the paper’s change is known to us, and there is nothing to hold ours against",
}
SILENT: Mapping[Verdict, str] = {
    "zero within interval": "whose interval contains zero",
    "with one seed": "with one seed",
    "protocol differs": "measured otherwise",
    "without value": "without a value",
}
PAPER = ("1", "2", "3", "4", "figure 4", "5", "6", "7a", "7b")  # what the paper has; Table 1 holds formulas alone


@dataclass(frozen=True)
class Claim:
    """One cell that has a baseline: our change and the paper's in words, and what the two together say."""

    cell: PivotCell
    verdict: Verdict
    ours: str
    paper: str


@dataclass(frozen=True)
class TableClaims:
    """The claims of one table."""

    name: str
    claims: tuple[Claim, ...]

    def count(self, verdict: Verdict) -> int:
        """Return how many cells have a verdict."""
        return sum(claim.verdict == verdict for claim in self.claims)


def table_claims(pivot: Pivot) -> TableClaims:
    """Judge every cell that has a baseline; a scale without meaning has no claims."""
    judged = [cell for cell in pivot.cells if pivot.table.baseline(cell.source)]
    claims = tuple(_claim(pivot, cell) for cell in judged) if pivot.table.scale.meaningful else ()
    return TableClaims(pivot.table.name, claims)


def verdicts_by_place(pivot: Pivot) -> dict[At, Verdict]:
    """Return the verdict of each judged cell by its place."""
    return {claim.cell.source.at: claim.verdict for claim in table_claims(pivot).claims}


def verdicts_used(pivots: Sequence[Pivot]) -> list[Verdict]:
    """Return the verdicts that some cell has, in order."""
    found = {claim.verdict for pivot in pivots for claim in table_claims(pivot).claims}
    return [verdict for verdict in VERDICTS if verdict in found]


def _claim(pivot: Pivot, cell: PivotCell) -> Claim:
    ours = percent_change(cell.change) if cell.change else ""
    paper = signed_percent(cell.paper.percent, 2) if cell.paper and cell.paper.percent is not None else ""
    return Claim(cell, _verdict(pivot, cell), ours, paper)


def _verdict(pivot: Pivot, cell: PivotCell) -> Verdict:
    if cell.paper is None or not cell.paper.percent:
        return "unpublished"
    if cell.change is None:
        otherwise = cell.mixed or no_change_reason(pivot, cell) == "the baseline was measured otherwise"
        return "protocol differs" if otherwise or _baseline_mixed(pivot, cell) else "without value"
    if cell.change.p is None:
        return "with one seed"
    if not cell.change.beyond:
        return "zero within interval"
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
    return [
        *_default_loss(meaningful),
        *_main_claim(meaningful),
        *_held(claims),
        *_runs_missing(pivots),
        *_tables_missing([pivot.table for pivot in pivots]),
    ]


def _main_claim(pivots: Sequence[Pivot]) -> Iterable[str]:
    """Say whether the dispersive loss is better than the baseline here too; what tables share is counted once."""
    claims = []
    for pivot, claim in ((one, claim) for one in pivots for claim in table_claims(one).claims):
        paper, regularizer = claim.cell.paper, claim.cell.source.settings.regularizer
        dispersive = regularizer.loss != "none" and regularizer.kind == "dispersive"
        if dispersive and paper and paper.percent and is_better(pivot, paper.percent):
            claims.append(claim)
    if not claims:
        return
    different = arms(claims)
    found, whole = Counter(claim.verdict for claim in different), len(different)
    better, worse = found["same sign"], found["contradicts"]
    yield (
        f"The paper claims that a dispersive loss improves on the baseline, and we know its numbers for "
        f"{counted(whole, 'arm')} of this study. Here the 95% interval of the change is on the better side of zero in "
        f"{count(better)}, on the worse side in {count(worse)}, and on neither in {count(whole - better - worse)}."
    )


def arms(claims: Sequence[Claim]) -> list[Claim]:
    """Return one claim of each arm, from the table with most of its seeds: the others hold some of the same runs."""
    kept: list[tuple[frozenset[str], Claim]] = []
    runs = [(frozenset(run.eval_id for run in claim.cell.runs), claim) for claim in claims]
    for own, claim in sorted(runs, key=lambda one: -len(one[0])):
        if not any(own <= others for others, _ in kept):
            kept.append((own, claim))
    return [claim for _, claim in kept]


def _default_loss(pivots: Sequence[Pivot]) -> Iterable[str]:
    """Say what the paper's own choice does to the metric, where it has most seeds."""
    default = RegularizerSettings(loss="infonce-l2")
    found = [
        (pivot, cell, cell.change)
        for pivot in pivots
        for cell in pivot.cells
        if cell.change and cell.source.settings.regularizer == default
    ]
    if not found:
        return
    pivot, cell, change = max(found, key=lambda one: len(one[2].seeds))
    base = next(other for other in pivot.cells if other.source is pivot.table.baseline(cell.source))
    before, after = (number(one.mean, pivot.metric.decimals) for one in (base, cell))
    theirs = cell.paper.percent if cell.paper else None
    paper = f"; in the paper it moves by {signed_percent(theirs, 2)}" if theirs is not None else ""
    yield (
        f"With the paper’s default loss (InfoNCE-ℓ2, its block, λ and τ) {pivot.metric.title} of "
        f"{cell.source.settings.model} goes from {before} to {after}, {percent_change(change)} over "
        f"{counted(len(change.seeds), 'seed')}{paper}."
    )


def _held(judged: Sequence[Claim]) -> Iterable[str]:
    claims = [claim for claim in judged if claim.verdict != "unpublished"]
    if not claims:
        yield "The paper’s change is known to us in no cell of these tables."
        return
    verdicts = Counter(claim.verdict for claim in claims)
    whole, different = len(claims), len(arms(claims))
    shared = f", which hold {counted(different, 'different arm')}" if different < whole else ""
    yield (
        f"Of all losses, the paper’s change is known to us in {counted(whole, 'cell')} of these tables{shared}. Here "
        f"ours has the same sign, its 95% interval excluding zero, in {share(verdicts['same sign'], whole)}, and the "
        f"opposite sign in {share(verdicts['contradicts'], whole)}."
    )
    yield from _surviving(claims)
    if said := [f"{verdicts[verdict]} {words}" for verdict, words in SILENT.items() if verdicts[verdict]]:
        yield f"The others say neither: {listed(said)}."


def _surviving(claims: Sequence[Claim]) -> Iterable[str]:
    """Of the claims beyond chance alone, how many still are beside the others of their table."""
    beyond = [claim for claim in claims if claim.verdict in ("same sign", "contradicts")]
    if beyond:
        kept = sum(claim.cell.change.survives for claim in beyond if claim.cell.change)
        survive = "survives" if kept == 1 else "survive"
        yield f"Of these, {share(kept, len(beyond))} {survive} Holm’s correction over the cells of its table."


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
