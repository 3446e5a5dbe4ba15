"""The answer that a study gives, at first sight: its question, one change in words, and all changes of its kind."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.analysis.claims import arms, claimed_cells, default_loss
from harness.report.analysis.pivot import Pivot, PivotCell, kind_of
from harness.report.analysis.statistics import Change
from harness.report.analysis.text import MEANINGS, number, sentences

QUESTION = "Does Dispersive Loss make generated images better?"
MOST_ROWS = 20  # changes that one screen holds


@dataclass(frozen=True)
class Headline:
    """The change that answers a study's question: of the paper's own loss, else of the best of `among` arms."""

    pivot: Pivot
    cell: PivotCell
    change: Change
    among: int = 0

    @property
    def baseline(self) -> PivotCell:
        """The cell that it is a change against."""
        assert self.cell.baseline
        return self.cell.baseline


@dataclass(frozen=True)
class StudyAnswer:
    """A question, the answer in sentences, what the scale can say, and the changes behind it by their tables.

    counts: how many of these changes are for the better and worse; left_out: how many more there are.
    """

    question: str
    verdict: str
    further: Sequence[str]
    limits: Sequence[str]
    headline: Headline | None
    groups: Sequence[tuple[Pivot, Sequence[PivotCell]]]
    counts: str
    left_out: int


def answer(pivots: Sequence[Pivot]) -> StudyAnswer:
    """Answer the question of a study, as far as its results go."""
    meaningful = [pivot for pivot in pivots if pivot.table.scale.meaningful]
    headline = headline_of(meaningful)
    groups = _changes(meaningful, headline) if headline else []
    scales = {pivot.table.scale.scale: pivot.table.scale for pivot in meaningful}.values()
    verdict, *further = _sentences(pivots, meaningful, headline)
    return StudyAnswer(
        question=_question(pivots, headline),
        verdict=verdict,
        further=further,
        limits=[words for scale in scales if (words := scale.limits or scale.note)],
        headline=headline,
        groups=_first(groups, MOST_ROWS),
        counts=" ".join(sentences("answer_counts.j2", kinds=Counter(_kinds(groups)), claimed=_all_claimed(groups))),
        left_out=max(0, sum(len(cells) for _, cells in groups) - MOST_ROWS),
    )


def headline_of(pivots: Sequence[Pivot]) -> Headline | None:
    """Return the change that answers the question; None where there is no change."""
    if default := default_loss([pivot for pivot in pivots if pivot.table.beside_paper]):
        return Headline(*default)
    for pivot in pivots:
        changes = [(cell, cell.change) for cell in pivot.cells if cell.change and pivot.shows(cell)]
        if changes:
            cell, change = min(changes, key=lambda pair: pivot.badness(pair[1].percent))
            return Headline(pivot, cell, change, len(changes))
    return None


def _question(pivots: Sequence[Pivot], headline: Headline | None) -> str:
    """Return the question of the grid that gives the report its title, of the paper, or else of the first table."""
    files = [pivot.table.file for pivot in pivots]
    own = next((file.question for file in files if file.report_title), "")
    return own or (QUESTION if headline and not headline.among else files[0].question)


def _is_claimed(headline: Headline | None) -> bool:
    return headline is not None and not headline.among and headline.cell.paper_percent is not None


def _all_claimed(groups: Sequence[tuple[Pivot, Sequence[PivotCell]]]) -> bool:
    """True where the paper says of every change that it is for the better."""
    percents = [(pivot, cell.paper_percent) for pivot, cells in groups for cell in cells]
    return all(percent is not None and pivot.improves(percent) for pivot, percent in percents)


def _changes(pivots: Sequence[Pivot], headline: Headline) -> list[tuple[Pivot, list[PivotCell]]]:
    """Return each arm once by its table: those that the paper says help, else the arms of the headline's table."""
    claimed = arms(claimed_cells(pivots)) if _is_claimed(headline) else []
    chosen = {id(cell) for cell in (claimed if len(claimed) > 1 else arms(headline.pivot.cells))}
    groups = [(pivot, [cell for cell in pivot.cells if id(cell) in chosen and cell.change]) for pivot in pivots]
    return [(pivot, cells) for pivot, cells in groups if cells]


def _first(groups: Sequence[tuple[Pivot, list[PivotCell]]], most: int) -> list[tuple[Pivot, list[PivotCell]]]:
    shown = []
    for pivot, cells in groups:
        if most > 0:
            shown.append((pivot, cells[:most]))
        most -= len(cells)
    return shown


def _kinds(groups: Sequence[tuple[Pivot, Sequence[PivotCell]]]) -> list[str]:
    return [kind_of(pivot, cell.change) for pivot, cells in groups for cell in cells if cell.change]


def _sentences(pivots: Sequence[Pivot], meaningful: Sequence[Pivot], headline: Headline | None) -> list[str]:
    runs = {run.eval_id: run for pivot in pivots for cell in pivot.cells for run in cell.runs}
    ranked = [(pivot, cells) for pivot in meaningful if len(cells := pivot.ranked(pivot.cells)) > 1]
    return sentences(
        "answer.j2",
        meaningful=meaningful,
        headline=headline,
        ranked=ranked[0] if ranked else None,
        gloss=MEANINGS["metrics in a few words"].get(headline.pivot.table.file.value, "") if headline else "",
        paper=headline.cell.paper_percent if headline else None,
        size=size_words(headline.change) if headline else "",
        runs=len(runs),
        valued=sum(run.value is not None for run in runs.values()),
        states=Counter(run.state for run in runs.values() if run.value is None),
    )


def size_words(change: Change) -> str:
    """Return "27 % (95 % interval 15 to 40)": the size of a change whose direction is said in words."""
    if not change.interval:
        return f"{number(abs(change.percent), 0 if abs(change.percent) >= 10 else 1)} %"
    low, high = sorted(abs(end) for end in (change.interval.low, change.interval.high))
    decimals = 0 if low >= 1 else 1
    size, ends = number(abs(change.percent), decimals), f"{number(low, decimals)} to {number(high, decimals)}"
    return f"{size} % (95\u00a0%\u00a0interval {ends})"
