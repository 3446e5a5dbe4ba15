"""The layout of a table, the only one: its cells as lines of words, which HTML, LaTeX and Markdown print."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from harness.config.grid import CONFIDENCE, SOURCES
from harness.config.grid_file import PaperFact
from harness.report.analysis.pivot import PaperNumber, Pivot, PivotCell, PivotRow
from harness.report.analysis.table_result import TableResult
from harness.report.analysis.text import (
    anchor,
    change_note,
    estimate,
    interval_words,
    missing_list,
    note_mark,
    notes,
    number,
    p_words,
    percent_change,
    signed_percent,
    standing,
    state_words,
    unpublished_words,
)
from harness.report.reading.run_facts import Fact
from harness.report.rendering.captions import (
    caption,
    heading,
    mixed_sentences,
    one_run_sentences,
    planned_sentences,
    tap_note,
    untold_sentences,
)


@dataclass(frozen=True)
class Span:
    """Words of one kind within a line; the kind is their class in HTML, `title` what a pointer shows there.

    `plain` is how LaTeX and Markdown read, with what divides it from the words before; by default a space.
    """

    text: str
    kind: str = ""
    title: str = ""
    plain: str | None = None


@dataclass(frozen=True)
class Line:
    """A line of a cell: `link` leads from its words to a place of the page, and `aside` stands behind the link."""

    spans: tuple[Span, ...]
    kind: str = ""
    link: str = ""
    aside: str = ""

    @property
    def plain(self) -> str:
        """The line without markup."""
        words = "".join(f" {span.text}" if span.plain is None else span.plain for span in self.spans)
        return f"{words} {self.aside}".strip(" ;")


@dataclass(frozen=True)
class LayoutCell:
    """One printed cell; the first of its lines is bold where it is the best."""

    lines: tuple[Line, ...] = ()
    best: bool = False
    kind: str = ""


@dataclass(frozen=True)
class LayoutRow:
    """A row: its label and a cell for each column; one cell alone goes `across` all of them."""

    label: Line
    cells: tuple[LayoutCell, ...]
    across: bool = False


@dataclass(frozen=True)
class TableLayout:
    """A table in words. `over` stands above all value columns, "" where there is nothing to say; `foot` is set apart.

    `mixed` says what its numbers do not share though they should; `notes` stand beneath it.
    """

    result: TableResult
    heading: str
    corner: str
    columns: tuple[str, ...]
    over: str
    body: tuple[LayoutRow, ...]
    foot: tuple[LayoutRow, ...]
    caption: str
    mixed: tuple[str, ...]
    notes: tuple[Line, ...]
    missing: tuple[tuple[str, str], ...]

    @property
    def pivot(self) -> Pivot:
        """The numbers."""
        return self.result.pivot

    @property
    def name(self) -> str:
        """The table's name, that of its files."""
        return self.pivot.table.name

    @property
    def short_heading(self) -> str:
        """The heading without the title, "Table 2"."""
        return self.pivot.table.name_in_words

    @property
    def footnotes(self) -> list[str]:
        """All that stands beneath the table where nothing stands above it."""
        alarm = "This table mixes protocols; only numbers with the same letter can be compared."
        return [*([alarm, *self.mixed] if self.mixed else ()), *(note.plain for note in self.notes)]


def table_layout(result: TableResult) -> TableLayout:
    """Lay a table out: by rows and columns, or where there are no columns with all that is known of a cell in a row."""
    pivot, file = result.pivot, result.pivot.table.file
    if len(pivot.columns) > 1:
        columns, over = pivot.columns, file.columns or ""
        body = [_matrix_row(pivot, row) for row in pivot.rows]
        foot = [_across(pivot, cell.name, cell) for cell in pivot.asides]
    else:
        columns, over = (
            (*file.facts, "ours", *(("change", "paper", "its change") if pivot.baselines else ("paper",))),
            "",
        )
        inside = [cell for row in pivot.rows for cell in row.cells if cell]
        body, foot = ([_column_row(pivot, cell, cells) for cell in cells] for cells in (inside, pivot.asides))
    return TableLayout(
        result=result,
        heading=heading(pivot.table),
        corner=pivot.row_heading,
        columns=columns,
        over=over,
        body=tuple(body),
        foot=tuple(foot),
        caption=caption(pivot),
        mixed=tuple(mixed_sentences(pivot)),
        notes=tuple(_notes(pivot)),
        missing=tuple(missing_list(pivot)),
    )


def runs_anchor(pivot: Pivot, cell: PivotCell) -> str:
    """Return the name that a cell's runs have in links within the page."""
    place = next(index for index, other in enumerate(pivot.cells) if other.source is cell.source)
    return f"runs-{anchor(pivot.table.name)}-{place}"


@dataclass(frozen=True)
class WordRow:
    """A cell in a list: the place of its runs, its name, and words about it."""

    link: str
    name: str
    words: tuple[str, ...]


def verdict_rows(result: TableResult) -> list[WordRow]:
    """Return each judged cell with our change, the paper's, and what the two say together."""
    return [
        WordRow(
            link=runs_anchor(result.pivot, cell),
            name=cell.name,
            words=(percent_change(cell.change) if cell.change else "", _paper_change(cell), cell.verdict or ""),
        )
        for cell in result.judged
    ]


def test_rows(result: TableResult) -> list[WordRow]:
    """Return each change that has an interval: its seeds, its tests, what pairing is worth, and the cell's verdict."""
    rows = []
    for cell in result.tested:
        change = cell.change
        assert change
        assert change.interval
        words = (
            str(len(change.seeds)) if change.paired else "unpaired",
            signed_percent(change.percent),
            interval_words(change.interval),
            *map(p_words, (change.p, change.adjusted, change.flip_p)),
            "" if change.narrowing is None else number(change.narrowing, 2),
            cell.verdict or "",
        )
        rows.append(WordRow(runs_anchor(result.pivot, cell), cell.name, words))
    return rows


def _matrix_row(pivot: Pivot, row: PivotRow) -> LayoutRow:
    if row.across:
        return _across(pivot, row.label, row.across)
    cells = tuple(_stacked(pivot, cell) if cell else LayoutCell() for cell in row.cells)
    return LayoutRow(Line((Span(row.label),)), cells)


def _across(pivot: Pivot, label: str, cell: PivotCell) -> LayoutRow:
    return LayoutRow(Line((Span(label),)), (_stacked(pivot, cell),), across=True)


def _stacked(pivot: Pivot, cell: PivotCell) -> LayoutCell:
    """All that is known of a cell, line by line."""
    whose = [Span("paper", "whose")] if cell.paper or not pivot.table.is_ours(cell.source) else []
    lines = (
        Line((*_value(pivot, cell),), "", runs_anchor(pivot, cell), tap_note(pivot, cell)),
        Line((*_change(pivot, cell),), "change"),
        Line((*whose, *_paper(pivot, cell, _paper_change(cell))), "paper"),
    )
    return LayoutCell(tuple(line for line in lines if line.spans), cell.is_best)


def _column_row(pivot: Pivot, cell: PivotCell, among: Sequence[PivotCell]) -> LayoutRow:
    """A row for a cell, with a column for each thing that is known of it; alone, it has its whole name."""
    value = LayoutCell((Line((*_value(pivot, cell),), link=runs_anchor(pivot, cell)),), cell.is_best)
    change, paper, its_change = _change(pivot, cell), _paper(pivot, cell), [Span(_paper_change(cell), "number")]
    beside = (change, paper, its_change) if pivot.baselines else (paper,)
    label = Line((Span(cell.row if len(among) > 1 else cell.name),), aside=tap_note(pivot, cell))
    return LayoutRow(label, (*map(partial(_fact, cell), cell.facts), value, *map(_of_spans, beside)))


def _of_spans(spans: Iterable[Span]) -> LayoutCell:
    return LayoutCell((Line(tuple(spans)),))


def _fact(cell: PivotCell, fact: Fact) -> LayoutCell:
    lines = [Line((Span(fact.words) if fact.words else Span(cell.missing[0].state, "state"),))]
    if fact.paper:
        whose = Span("paper", "whose", plain="paper:")
        lines.append(Line((whose, Span(fact.paper.says), _source(fact.paper)), "paper"))
    return LayoutCell(tuple(lines), kind="fact")


def _value(pivot: Pivot, cell: PivotCell) -> Iterator[Span]:
    """Our value with its letter, or the values that mix protocols, and the states of the runs that give none."""
    decimals = pivot.metric.decimals
    if cell.ours:
        yield Span(estimate(cell.ours, decimals), "ours")
        if len(pivot.protocols) > 1:
            yield _letter(cell.letters[0])
        if cell.is_best:
            yield Span("best", "tag", plain="")
        if len(cell.ours.seeds) == 1 < len(pivot.table.seeds):
            yield Span("one seed", "aside", plain="; one seed")
    elif cell.mixed:
        yield Span("mixed protocols", "state")
        for run in cell.runs:
            if run.value is not None:
                value = number(run.value, decimals)
                yield Span(value, "aside", plain=f"; {value}")
                yield _letter(run.protocol)
    if cell.missing:
        states = state_words(cell)
        yield Span(states, "state", cell.missing[0].reason, f"; {states}")


def _letter(letter: str) -> Span:
    return Span(letter, "letter", plain=f" ({letter})")


def _change(pivot: Pivot, cell: PivotCell) -> Iterator[Span]:
    """The change against our baseline, or why there is none."""
    if cell.change:
        yield Span(percent_change(cell.change), standing(pivot, cell.change))
        if note := change_note(cell, cell.change):
            yield Span(note, "aside", plain=f" ({note})")
    elif words := "our baseline" if cell.is_baseline else cell.no_change:
        yield Span(words, "aside")


def _paper(pivot: Pivot, cell: PivotCell, change: str = "") -> Iterator[Span]:
    """The paper's value, its change, and our confidence in it with its source: "32.35 (H)", "15.95 (M, secondary)"."""
    if cell.paper is None:
        yield Span(unpublished_words(pivot, cell), "unpublished")
        return
    yield Span(number(cell.paper.value, pivot.metric.decimals), "number")
    if change:
        yield Span(change, "number")
    mark = note_mark(pivot, cell)
    yield _source(cell.paper, f"; note {mark}" if mark else "")
    if mark:
        yield Span(mark, "letter", plain="")


def _paper_change(cell: PivotCell) -> str:
    """The paper's own change, "" where it is not known."""
    return "" if cell.paper is None or cell.paper.percent is None else signed_percent(cell.paper.percent, 2)


def _source(paper: PaperNumber | PaperFact, further: str = "") -> Span:
    words = paper.confidence if paper.source == "paper" else f"{paper.confidence}, {paper.source}"
    title = f"{CONFIDENCE[paper.confidence]} confidence; source: {SOURCES[paper.source]}"
    return Span(words, "source", title, f" ({words}{further})")


def _notes(pivot: Pivot) -> Iterator[Line]:
    for letter, sentence in planned_sentences(pivot):
        yield Line((Span(letter, "mark", plain=f"({letter})"), Span(sentence)))
    for sentence in (*untold_sentences(pivot), *pivot.encoders, *one_run_sentences(pivot)):
        yield Line((Span(sentence),))
    for index, note in enumerate(notes(pivot), start=1):
        yield Line((Span(str(index), "mark", plain=f"Note {index}:"), Span(note)))
