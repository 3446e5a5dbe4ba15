"""What holds of the paper at this scale: one verdict for each cell, from our change, its interval and the paper's."""

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.config.settings.loss_settings import RegularizerSettings
from harness.report.analysis import text
from harness.report.analysis.pivot import Pivot, PivotCell, Verdict
from harness.report.analysis.statistics import Change

VERDICTS: Mapping[Verdict, str] = text.MEANINGS["verdicts"]
BOTH = ("better in both", "worse in both", "worse here, better in the paper", "better here, worse in the paper")
OUTCOMES = (*BOTH, *VERDICTS)
SILENT: Mapping[Verdict, str] = text.MEANINGS["verdicts that say neither"]
PAPER = ("1", "2", "3", "4", "figure 4", "5", "6", "7a", "7b")  # what the paper has; Table 1 holds formulas alone


def judged(pivots: Sequence[Pivot]) -> list[PivotCell]:
    """Return the cells that have a verdict."""
    return [cell for pivot in pivots for cell in pivot.cells if cell.verdict]


def together(pivot: Pivot, cell: PivotCell) -> str:
    """Say what our change and the paper's say together, as "worse in both"; else the verdict that says neither."""
    if cell.verdict not in ("same sign", "contradicts") or not cell.change or not pivot.metric.direction:
        return cell.verdict or ""
    here, other = ("better", "worse") if pivot.improves(cell.change.percent) else ("worse", "better")
    return f"{here} in both" if cell.verdict == "same sign" else f"{here} here, {other} in the paper"


def outcomes_used(pivots: Sequence[Pivot]) -> list[str]:
    """Return what some cells and the paper say together, in order."""
    if not any(pivot.table.beside_paper for pivot in pivots):
        return []
    used = {together(pivot, cell) for pivot in pivots for cell in judged([pivot])}
    return [outcome for outcome in OUTCOMES if outcome in used]


def summary_sentences(pivots: Sequence[Pivot]) -> list[str]:
    """Say how much of the paper holds at this scale, and what is missing."""
    meaningful = [pivot for pivot in pivots if pivot.table.scale.meaningful]
    published = [cell for cell in judged(meaningful) if cell.verdict != "unpublished"]
    different = arms(published)
    of = {id(cell): pivot for pivot in meaningful for cell in pivot.cells}
    outcomes = Counter(together(of[id(cell)], cell) for cell in different)
    runs = {run.eval_id: run for pivot in pivots for cell in pivot.cells for run in cell.runs}
    missing = Counter(run.state for run in runs.values() if run.value is None)
    assert missing.keys() <= text.STATES.keys(), missing
    present = {"1", *(pivot.table.file.table for pivot in pivots)}
    return text.sentences(
        "claims.j2",
        meaningful=meaningful,
        beside_paper=any(pivot.table.beside_paper for pivot in pivots),
        default=default_loss(meaningful),
        claimed=Counter(cell.verdict for cell in arms(claimed_cells(meaningful))),
        different=len(different),
        both=[f"{text.in_words(outcomes[words])} {words}" for words in BOTH if outcomes[words]],
        surviving=[c.change.survives for c in different if c.change and c.verdict in ("same sign", "contradicts")],
        silent=[f"{outcomes[verdict]} {words}" for verdict, words in SILENT.items() if outcomes[verdict]],
        measurements=len(runs),
        missing=missing,
        by_state=[f"{count:,} {state}" for state, count in missing.most_common()],
        absent=[f"Table {name}" if name[0].isdigit() else name.capitalize() for name in PAPER if name not in present],
    )


def default_loss(pivots: Sequence[Pivot]) -> tuple[Pivot, PivotCell, Change] | None:
    """Return where the paper's own choice has most seeds: its table, its cell and its change."""
    changes = [(pivot, cell, cell.change) for pivot in pivots for cell in pivot.cells if cell.change]
    default = RegularizerSettings(loss="infonce-l2")
    ours = [entry for entry in changes if entry[1].source.settings.regularizer == default]
    return max(ours, key=lambda entry: len(entry[2].seeds), default=None)


def claimed_cells(pivots: Sequence[Pivot]) -> list[PivotCell]:
    """Return the cells of a dispersive loss that is better than the baseline in the paper."""
    return [
        cell
        for pivot in pivots
        for cell in judged([pivot])
        if cell.source.settings.regularizer.loss != "none"
        and cell.source.settings.regularizer.kind == "dispersive"
        and cell.paper_percent
        and pivot.improves(cell.paper_percent)
    ]


def arms(cells: Sequence[PivotCell]) -> list[PivotCell]:
    """Return one cell of each arm, from the table with most of its seeds: the others hold some of the same runs."""
    distinct: list[tuple[frozenset[str], PivotCell]] = []
    runs = [(frozenset(run.eval_id for run in cell.runs), cell) for cell in cells]
    for own, cell in sorted(runs, key=lambda entry: -len(entry[0])):
        if not any(own <= larger for larger, _ in distinct):
            distinct.append((own, cell))
    return [cell for _, cell in distinct]
