"""Claims that a grid states and tests: when each was stated, one test of each, and all of them in one Holm family.

A claim was stated before its result where the study recorded it, in the same words and of the same runs, before the
first attempt at any training that its table has a value of; else it was found after. What was edited is another claim.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from harness.config.grid import TestedClaim
from harness.metric_definitions import Definition, definition_of
from harness.report.analysis.answer import StudyAnswer
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.statistics import ALPHA, Change, change_between, holm
from harness.report.analysis.text import sentences
from harness.store.records import GridRecord, StatedClaim
from harness.store.store import Logs, Store

When = Literal["stated before", "found after", "no result yet"]
VERDICTS = ("holds", "not shown", "the opposite")  # of a claim that is tested


@dataclass(frozen=True)
class ClaimResult:
    """A claim and what became of it. p: one-sided, of the claimed direction; adjusted: Holm's beside all other claims.

    untested: why it has no p; "" where it has one.
    """

    pivot: Pivot
    claim: TestedClaim
    metric: Definition
    cell: PivotCell
    against: PivotCell
    when: When
    stated: str
    commit: str
    change: Change | None
    p: float | None = None
    untested: str = ""
    adjusted: float | None = None

    @property
    def verdict(self) -> str:
        """What the test says: "holds" and "not shown" by Holm's p, "the opposite" by its own, or why there is none."""
        if self.adjusted is None:
            return self.untested
        if self.adjusted < ALPHA:
            return "holds"
        return "the opposite" if self.p is not None and self.p > 1 - ALPHA / 2 else "not shown"


@dataclass(frozen=True)
class StatedClaims:
    """The claims of a study. withdrawn: the words of those that were stated once and are in no grid any more."""

    results: tuple[ClaimResult, ...]
    withdrawn: tuple[str, ...]

    @property
    def tested(self) -> int:
        """How many are in the family."""
        return sum(result.p is not None for result in self.results)


def claim_sentences(claims: StatedClaims) -> list[str]:
    """Say how many claims there are of each kind, how many hold, and which were withdrawn."""
    when = Counter(result.when for result in claims.results)
    holding = [result for result in claims.results if result.verdict == "holds"]
    return sentences(
        "stated_claims.j2",
        results=len(claims.results),
        before=when["stated before"],
        after=when["found after"],
        waiting=when["no result yet"],
        tested=claims.tested,
        holding=len(holding),
        holding_before=sum(result.when == "stated before" for result in holding),
        withdrawn=claims.withdrawn,
    )


def verdict_sentences(results: Sequence[ClaimResult]) -> list[str]:
    """Return the words of claims by what became of them: "Holds: It helps.", "Not shown: It harms."; one for each."""
    by_verdict: dict[str, list[str]] = {}
    for result in sorted(results, key=lambda result: [*VERDICTS, result.verdict].index(result.verdict)):
        by_verdict.setdefault(result.verdict, []).append(result.claim.claim.says)
    return [f"{verdict[:1].upper()}{verdict[1:]}: {' '.join(words)}" for verdict, words in by_verdict.items()]


def claims_answer(given: StudyAnswer, claims: StatedClaims) -> StudyAnswer:
    """Return the answer of a study that states claims and is not of the paper's loss: what became of them, and then
    what was given."""
    if not claims.tested or (given.headline and not given.headline.among):
        return given
    verdict = claim_sentences(replace(claims, withdrawn=()))[-1]
    return replace(given, verdict=verdict, further=[*verdict_sentences(claims.results), given.verdict, *given.further])


def claims_record(claims: StatedClaims) -> dict[str, Any]:
    """Return the claims as JSON holds them; nothing of a study that states none."""
    rows = [
        {
            "table": result.pivot.table.name,
            **result.claim.claim.model_dump(),
            "metric": result.claim.metric,
            "when": result.when,
            "stated": result.stated,
            "commit": result.commit,
            "change": asdict(result.change) if result.change else None,
            "p": result.p,
            "adjusted": result.adjusted,
            "verdict": result.verdict,
        }
        for result in claims.results
    ]
    return {"stated_claims": rows, "withdrawn_claims": list(claims.withdrawn)} if rows or claims.withdrawn else {}


def stated_claims(store: Store, pivots: Sequence[Pivot], logs: Logs) -> StatedClaims:
    """Test the claims of a study's grids, each once."""
    results: list[ClaimResult] = []
    withdrawn: list[str] = []
    for pivot in pivots:
        recorded = _recorded(store, pivot)
        first = _first_attempt(pivot, logs)
        claims = pivot.table.tested_claims
        results += [_result(pivot, claim, recorded.get(claim.words), first) for claim in claims]
        withdrawn += [_says(words) for words in recorded.keys() - {claim.words for claim in claims}]
    return one_family([StatedClaims(tuple(results), tuple(sorted(withdrawn)))])[0]


def one_family(parts: Sequence[StatedClaims]) -> list[StatedClaims]:
    """Return claims with Holm's p beside all of them."""
    every = {f"{part} {place}": r for part, claims in enumerate(parts) for place, r in enumerate(claims.results)}
    adjusted = holm({name: result.p for name, result in every.items() if result.p is not None})
    return [
        replace(c, results=tuple(replace(r, adjusted=adjusted.get(f"{n} {i}")) for i, r in enumerate(c.results)))
        for n, c in enumerate(parts)
    ]


def _recorded(store: Store, pivot: Pivot) -> Mapping[str, StatedClaim]:
    record = GridRecord.peek(store.root / "grids" / f"{pivot.table.name}.json")
    return {claim.claim: claim for claim in (record and record.claims) or ()}


def _says(words: str) -> str:
    try:
        return str(json.loads(words)["says"])
    except (ValueError, KeyError, TypeError):
        return words


def _first_attempt(pivot: Pivot, logs: Logs) -> str | None:
    """Return when the first training began that the table has a value of; "" where that is not known, None without."""
    valued = {run.train_id for cell in pivot.cells for run in cell.runs if run.metrics}
    environments = [logs.environment(train_id) for train_id in sorted(valued)]
    starts = [env.attempts[0].start if env and env.attempts else "" for env in environments]
    return min(starts, default=None)


def _result(pivot: Pivot, claim: TestedClaim, recorded: StatedClaim | None, first: str | None) -> ClaimResult:
    by_place = {cell.source.at: cell for cell in pivot.cells}
    cell, against = by_place[claim.cell.at], by_place[claim.against.at]
    when: When = "no result yet" if first is None else "found after"
    if first and recorded and recorded.stated <= first:
        when = "stated before"
    made = ClaimResult(
        pivot, claim, definition_of(claim.metric), cell, against, when,
        recorded.stated if recorded else "", (recorded and recorded.commit) or "", None,
    )  # fmt: skip
    return _tested(made)


def _tested(made: ClaimResult) -> ClaimResult:
    """Add the change and its p, or why there is none."""
    values = [_values(cell, made.claim.metric) for cell in (made.cell, made.against)]
    common = values[0].keys() & values[1].keys()
    if not common:
        return replace(made, untested="without value")
    if len({*made.cell.letters, *made.against.letters}) > 1:
        return replace(made, untested="protocol differs")
    change = change_between(*({seed: value[seed] for seed in sorted(common)} for value in values))
    if not made.pivot.table.scale.meaningful:
        return replace(made, change=change, untested="numbers at this scale mean nothing")
    p = _one_sided(change, made.claim) if change else None
    return replace(made, change=change, p=p, untested="" if p is not None else "too few seeds")


def _values(cell: PivotCell, metric: str) -> dict[int, float]:
    return {run.seed: run.metrics[metric] for run in cell.runs if metric in run.metrics}


def _one_sided(change: Change, claim: TestedClaim) -> float | None:
    """Return the p of a change so large in the claimed direction: half of that of both directions, or the rest."""
    both = change.flip_p if claim.claim.test == "sign-flip" else change.p
    if both is None:
        return None
    as_claimed = change.percent < 0 if claim.claim.direction == "lower" else change.percent > 0
    return both / 2 if as_claimed else 1 - both / 2
