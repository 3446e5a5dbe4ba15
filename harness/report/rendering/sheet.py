"""Tables as plain words, laid out as the page prints them: what LaTeX and Markdown have in common."""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.report.analysis.pivot import Pivot, PivotCell, PivotRow
from harness.report.analysis.text import (
    change_note,
    estimate,
    length_sentence,
    note_mark,
    notes,
    number,
    percent_change,
    seeds_sentence,
    signed_percent,
    state_words,
    unpublished_words,
)
from harness.report.reading.run_facts import Fact
from harness.report.rendering.captions import (
    mixed_sentences,
    one_run_sentences,
    planned_sentences,
    protocol_sentence,
    tap_note,
    taps_sentence,
    untold_sentences,
)


@dataclass(frozen=True)
class LayoutCell:
    """One printed cell: its lines, the first of them bold where it is the best."""

    lines: tuple[str, ...]
    best: bool = False


@dataclass(frozen=True)
class LayoutRow:
    """A row: its label and a printed cell for each column; one cell alone goes `across` all of them."""

    label: str
    cells: tuple[LayoutCell, ...]
    across: bool = False
    aside: bool = False


@dataclass(frozen=True)
class TableLayout:
    """A table in words. `over` stands above all value columns, "" where there is nothing to say."""

    corner: str
    columns: tuple[str, ...]
    over: str
    rows: tuple[LayoutRow, ...]
    caption: str
    footnotes: tuple[str, ...]


def sheet(pivot: Pivot) -> TableLayout:
    """Lay a table out in words."""
    wide = len(pivot.columns) > 1
    beside = ("change", "paper", "its change") if pivot.baselines else ("paper",)
    single = (*pivot.table.file.facts, pivot.metric.title, *beside)
    caption = (protocol_sentence(pivot), seeds_sentence(pivot), length_sentence(pivot), taps_sentence(pivot))
    return TableLayout(
        corner=pivot.row_heading,
        columns=pivot.columns if wide else single,
        over=(pivot.table.file.columns or "") if wide else "",
        rows=tuple(_matrix(pivot) if wide else _column(pivot)),
        caption=" ".join(filter(None, caption)),
        footnotes=tuple(_footnotes(pivot)),
    )


def _matrix(pivot: Pivot) -> Iterator[LayoutRow]:
    for row in pivot.rows:
        yield _matrix_row(pivot, row)
    for cell in pivot.asides:
        yield LayoutRow(cell.name, (_stacked(pivot, cell),), across=True, aside=True)


def _matrix_row(pivot: Pivot, row: PivotRow) -> LayoutRow:
    if row.across:
        return LayoutRow(row.label, (_stacked(pivot, row.across),), across=True)
    return LayoutRow(row.label, tuple(_stacked(pivot, cell) if cell else LayoutCell(()) for cell in row.cells))


def _column(pivot: Pivot) -> Iterator[LayoutRow]:
    inside = [cell for row in pivot.rows for cell in row.cells if cell]
    for cell in (*inside, *pivot.asides):
        aside = cell in pivot.asides
        many = len(pivot.asides if aside else inside) > 1
        label = " ".join(filter(None, (cell.row if many else cell.name, tap_note(pivot, cell))))
        value = LayoutCell((value_words(pivot, cell),), cell.is_best)
        paper = paper_words(pivot, cell)
        single = (change_words(pivot, cell), paper, paper_change_words(cell)) if pivot.baselines else (paper,)
        facts = tuple(LayoutCell(tuple(_fact_lines(cell, fact))) for fact in cell.facts)
        yield LayoutRow(label, (*facts, value, *(LayoutCell((words,)) for words in single)), aside=aside)


def _fact_lines(cell: PivotCell, fact: Fact) -> Iterator[str]:
    yield fact.words or cell.missing[0].state
    if fact.paper:
        yield f"paper: {fact.paper.says} ({fact.paper.confidence}, {fact.paper.source})"


def _stacked(pivot: Pivot, cell: PivotCell) -> LayoutCell:
    value = " ".join(filter(None, (value_words(pivot, cell), tap_note(pivot, cell))))
    whose = "paper " if cell.paper or not pivot.table.is_ours(cell.source) else ""
    paper = f"{whose}{paper_words(pivot, cell, paper_change_words(cell))}"
    return LayoutCell(tuple(filter(None, (value, change_words(pivot, cell), paper))), cell.is_best)


def value_words(pivot: Pivot, cell: PivotCell) -> str:
    """Return "4.21 ± 0.12 (a)", with the states of the runs that give no value."""
    parts = []
    if cell.ours:
        letter = f" ({cell.letters[0]})" if len(pivot.protocols) > 1 else ""
        parts.append(estimate(cell.ours, pivot.metric.decimals) + letter)
        if len(cell.ours.seeds) == 1 < len(pivot.table.seeds):
            parts.append("one seed")
    elif cell.mixed:
        known = [run for run in cell.runs if run.value is not None]
        each = ", ".join(f"{number(run.value or 0.0, pivot.metric.decimals)} ({run.protocol})" for run in known)
        parts.append(f"mixed protocols: {each}")
    return "; ".join(filter(None, (*parts, state_words(cell))))


def change_words(pivot: Pivot, cell: PivotCell) -> str:
    """Return "−11.4 ± 2.1 %", "our baseline", or why there is no change."""
    if cell.change is None:
        return "our baseline" if cell.is_baseline else cell.no_change
    said = percent_change(cell.change)
    note = change_note(cell, cell.change)
    return f"{said} ({note})" if note else said


def paper_words(pivot: Pivot, cell: PivotCell, change: str = "") -> str:
    """Return the paper's value with our confidence in it and its source: "32.35 (H)", "15.95 (M, secondary)"."""
    if cell.paper is None:
        return unpublished_words(pivot, cell)
    source = "" if cell.paper.source == "paper" else f", {cell.paper.source}"
    mark = note_mark(pivot, cell)
    said = f"({cell.paper.confidence}{source}{f'; note {mark}' if mark else ''})"
    return " ".join(filter(None, (number(cell.paper.value, pivot.metric.decimals), change, said)))


def paper_change_words(cell: PivotCell) -> str:
    """Return the paper's own change, "" where it is not known."""
    return "" if cell.paper is None or cell.paper.percent is None else signed_percent(cell.paper.percent, 2)


def _footnotes(pivot: Pivot) -> Iterator[str]:
    if mixed := mixed_sentences(pivot):
        yield "This table mixes protocols; only numbers with the same letter can be compared."
        yield from mixed
    yield from (f"({letter}) {sentence}" for letter, sentence in planned_sentences(pivot))
    yield from untold_sentences(pivot)
    yield from pivot.encoders
    yield from one_run_sentences(pivot)
    yield from (f"Note {index}: {note}" for index, note in enumerate(notes(pivot), start=1))
