"""What holds of the paper at this scale: one verdict for each cell, from our change, its interval and the paper's."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from harness.config.grid import Table
from harness.config.settings import RegularizerSettings
from harness.report.analysis import text
from harness.report.analysis.pivot import Pivot, PivotCell, Verdict
from harness.report.analysis.statistics import Change

VERDICTS: Mapping[Verdict, str] = text.MEANINGS["verdicts"]
SILENT: Mapping[Verdict, str] = text.MEANINGS["verdicts that say neither"]
PAPER = ("1", "2", "3", "4", "figure 4", "5", "6", "7a", "7b")  # what the paper has; Table 1 holds formulas alone


def judged(pivots: Sequence[Pivot]) -> list[PivotCell]:
    """Return the cells that have a verdict."""
    return [cell for pivot in pivots for cell in pivot.cells if cell.verdict]


def verdicts_used(pivots: Sequence[Pivot]) -> list[Verdict]:
    """Return the verdicts that some cell has, in order."""
    used = {cell.verdict for cell in judged(pivots)}
    return [verdict for verdict in VERDICTS if verdict in used]


def summary_sentences(pivots: Sequence[Pivot]) -> list[str]:
    """Say how much of the paper holds at this scale, and what is missing."""
    meaningful = [pivot for pivot in pivots if pivot.table.scale.meaningful]
    if not meaningful:
        return ["Numbers at this scale mean nothing, so nothing is said of the paper’s claims."]
    return [
        *_default_loss(meaningful),
        *_main_claim(meaningful),
        *_verdict_sentences(judged(meaningful)),
        *_runs_missing(pivots),
        *_tables_missing([pivot.table for pivot in pivots]),
    ]


def _main_claim(pivots: Sequence[Pivot]) -> Iterable[str]:
    """Say whether the dispersive loss is better than the baseline here too; what tables share is counted once."""
    cells = [
        cell
        for pivot in pivots
        for cell in judged([pivot])
        if cell.source.settings.regularizer.loss != "none"
        and cell.source.settings.regularizer.kind == "dispersive"
        and cell.paper
        and cell.paper.percent
        and pivot.improves(cell.paper.percent)
    ]
    if not cells:
        return
    different = arms(cells)
    verdicts, whole = Counter(cell.verdict for cell in different), len(different)
    better, worse = verdicts["same sign"], verdicts["contradicts"]
    yield (
        f"The paper claims that a dispersive loss improves on the baseline, and we know its numbers for "
        f"{text.counted(whole, 'arm')} of this study. Here the 95% interval of the change is on the better side of "
        f"zero in {text.count(better)}, on the worse side in {text.count(worse)}, and on neither in "
        f"{text.count(whole - better - worse)}."
    )


def arms(cells: Sequence[PivotCell]) -> list[PivotCell]:
    """Return one cell of each arm, from the table with most of its seeds: the others hold some of the same runs."""
    distinct: list[tuple[frozenset[str], PivotCell]] = []
    runs = [(frozenset(run.eval_id for run in cell.runs), cell) for cell in cells]
    for own, cell in sorted(runs, key=lambda entry: -len(entry[0])):
        if not any(own <= larger for larger, _ in distinct):
            distinct.append((own, cell))
    return [cell for _, cell in distinct]


def _default_loss(pivots: Sequence[Pivot]) -> Iterable[str]:
    """Say what the paper's own choice does to the metric, where it has most seeds."""
    default = RegularizerSettings(loss="infonce-l2")
    changes = [
        (pivot, cell, cell.change)
        for pivot in pivots
        for cell in pivot.cells
        if cell.change and cell.source.settings.regularizer == default
    ]
    if not changes:
        return
    pivot, cell, change = max(changes, key=lambda entry: len(entry[2].seeds))
    base = next(other for other in pivot.cells if other.source is pivot.table.baseline(cell.source))
    before, after = (text.number(shown.mean, pivot.metric.decimals) for shown in (base, cell))
    theirs = cell.paper.percent if cell.paper else None
    paper = f"; in the paper it moves by {text.signed_percent(theirs, 2)}" if theirs is not None else ""
    yield (
        f"With the paper’s default loss (InfoNCE-ℓ2, its block, λ and τ) {pivot.metric.title} of "
        f"{cell.source.settings.model} goes from {before} to {after}, {text.percent_change(change)} over "
        f"{text.counted(len(change.seeds), 'seed')}{paper}."
    )


def _verdict_sentences(cells: Sequence[PivotCell]) -> Iterable[str]:
    published = [cell for cell in cells if cell.verdict != "unpublished"]
    if not published:
        yield "The paper’s change is known to us in no cell of these tables."
        return
    verdicts = Counter(cell.verdict for cell in published)
    whole, different = len(published), len(arms(published))
    shared = f", which hold {text.counted(different, 'different arm')}" if different < whole else ""
    yield (
        f"Of all losses, the paper’s change is known to us in {text.counted(whole, 'cell')} of these tables{shared}. "
        f"Here ours has the same sign, its 95% interval excluding zero, in "
        f"{text.share(verdicts['same sign'], whole)}, and the opposite sign in "
        f"{text.share(verdicts['contradicts'], whole)}."
    )
    yield from _surviving([cell.change for cell in published if cell.verdict in ("same sign", "contradicts")])
    if silent := [f"{verdicts[verdict]} {words}" for verdict, words in SILENT.items() if verdicts[verdict]]:
        yield f"The others say neither: {text.listed(silent)}."


def _surviving(beyond: Sequence[Change | None]) -> Iterable[str]:
    """Of the changes beyond chance alone, how many still are beside the others of their table."""
    if beyond:
        surviving = sum(change.survives for change in beyond if change)
        survive = "survives" if surviving == 1 else "survive"
        yield f"Of these, {text.share(surviving, len(beyond))} {survive} Holm’s correction over the cells of its table."


def _runs_missing(pivots: Sequence[Pivot]) -> Iterable[str]:
    runs = {run.eval_id: run for pivot in pivots for cell in pivot.cells for run in cell.runs}
    states = Counter(run.state for run in runs.values() if run.value is None)
    if not states:
        yield f"None of the {text.counted(len(runs), 'measurement')} is missing."
        return
    by_state = text.listed([f"{count:,} {state}" for state, count in states.most_common()])
    yield f"Of {text.counted(len(runs), 'measurement')}, {sum(states.values()):,} give no value: {by_state}."
    assert states.keys() <= text.STATES.keys(), states


def _tables_missing(tables: Iterable[Table]) -> Iterable[str]:
    here = {"1", *(table.file.table for table in tables)}
    absent = [f"Table {name}" if name[0].isdigit() else name.capitalize() for name in PAPER if name not in here]
    if absent:
        yield f"Not in this study: {text.listed(absent)}."
