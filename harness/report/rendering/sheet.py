"""The layout of a table, the only one: its cells as lines of words, which HTML, LaTeX and Markdown print."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType

from harness.config.grid_file import CONFIDENCE, SOURCES, PublishedFigure, Sourced, setting_of_protocol
from harness.report.analysis import text
from harness.report.analysis.pivot import Pivot, PivotCell, PivotRow, RunState, kind_of
from harness.report.analysis.statistics import Change
from harness.report.analysis.table_result import TableResult
from harness.report.reading.run_facts import Fact
from harness.report.rendering import captions


@dataclass(frozen=True)
class Span:
    """Words of one kind, which is their class in HTML; `title` is what a pointer shows there.

    `plain` is how LaTeX and Markdown print them, with what divides them from the words before; by default a space.
    """

    text: str
    kind: str = ""
    title: str = ""
    plain: str | None = None


Line = tuple[Span, ...]
Fullest = Mapping[str, tuple[Pivot, PivotCell]]  # measurement → the table and cell with most seeds of its arm


def plain(line: Line) -> str:
    """Return a line without markup."""
    return "".join(f" {span.text}" if span.plain is None else span.plain for span in line).strip(" ;")


@dataclass(frozen=True)
class LayoutCell:
    """A printed cell: its lines by what each says, "best" or "fact" as its kind, and where its value leads to."""

    lines: Mapping[str, Line] = field(default_factory=dict)
    kind: str = ""
    link: str = ""


@dataclass(frozen=True)
class LayoutRow:
    """A row: its label and a cell for each column; one cell alone goes `across` all of them.

    heading: of the block of rows that begins with it; "" where none does.
    """

    label: Line
    cells: Sequence[LayoutCell]
    across: bool = False
    heading: str = ""

    @property
    def has_figures(self) -> bool:
        """Tell whether it has one that others published."""
        return any(cell.kind == "figure" for cell in self.cells)


@dataclass(frozen=True)
class ColumnGroup:
    """Neighbouring columns beneath a heading, each by what tells it from the others there."""

    heading: str
    columns: Sequence[str]


@dataclass(frozen=True)
class TableLayout:
    """A table in words.

    `over` stands above all value columns, "" where there is nothing to say; `foot` and `elsewhere`, the figures
    of other publications, are set apart. Where some of those are in rows, `groups` says again what the columns are; the
    last `published` columns are theirs.

    `mixed` says what its numbers do not share though they should; `notes` stand beneath it, `further_notes` where they
    can be looked up; `missing` has the state of each run that gives no value, and why.
    """

    result: TableResult
    heading: str
    corner: str
    columns: Sequence[str]
    over: str
    body: Sequence[LayoutRow]
    foot: Sequence[LayoutRow]
    elsewhere: Sequence[LayoutRow]
    sentences: Sequence[str]
    mixed: Sequence[str]
    notes: Sequence[Line]
    further_notes: Sequence[Line]
    missing: Sequence[tuple[str, str]]
    groups: Sequence[ColumnGroup] = ()
    published: int = 0

    @property
    def caption(self) -> str:
        """How its numbers were measured, in sentences."""
        return " ".join(self.sentences)

    @property
    def footnotes(self) -> list[str]:
        """All that stands beneath the table where nothing stands above it."""
        alarm = "This table mixes protocols; only numbers with the same letter can be compared."
        return [*([alarm, *self.mixed] if self.mixed else ()), *map(plain, (*self.notes, *self.further_notes))]


def table_layout(result: TableResult, fullest: Fullest = MappingProxyType({})) -> TableLayout:
    """Lay a table out: by rows and columns, or where there are no columns with all that is known of a cell in a row.

    fullest: the cell of the study with most seeds of each measurement; one with fewer says what that has.
    """
    pivot, file = result.pivot, result.pivot.table.file
    placed = [(cell, row.block) for row in pivot.rows for cell in (*row.cells, row.across) if cell]
    inside, blocks = [cell for cell, _ in placed], [block for _, block in placed]
    groups = _column_groups(pivot) if file.placed else ()
    if groups:
        columns, over = (*groups[0].columns, *groups[1].columns, *file.published_columns), ""
        body, foot = ([_published_row(pivot, cell, fullest) for cell in cells] for cells in (inside, pivot.asides))
    elif len(pivot.columns) > 1:
        columns, over = pivot.columns, file.columns or ""
        body = [_matrix_row(pivot, row, fullest) for row in pivot.rows]
        blocks = [row.block for row in pivot.rows]
        foot = [_matrix_row(pivot, PivotRow(cell.name, (), cell), fullest) for cell in pivot.asides]
    else:
        beside, whose = ("change",) * bool(pivot.baselines), "value"
        if pivot.table.beside_paper:
            beside, whose = (*beside, *(("paper", "its change") if pivot.baselines else ("paper",))), "ours"
        columns, over = (*file.facts, whose, *beside), ""
        body, foot = ([_column_row(pivot, cell, cells, fullest) for cell in cells] for cells in (inside, pivot.asides))
    return TableLayout(
        result=result,
        heading=captions.heading(pivot.table),
        corner=pivot.row_heading,
        columns=columns,
        over=over,
        body=_in_blocks(body, blocks),
        foot=foot,
        elsewhere=[_elsewhere(pivot, figure) for figure in captions.published_elsewhere(pivot)],
        sentences=captions.caption(pivot),
        mixed=captions.mixed_sentences(pivot),
        notes=list(_notes(pivot)),
        further_notes=list(_further_notes(pivot)),
        missing=captions.missing_list(pivot),
        groups=groups,
        published=len(file.published_columns) if groups else 0,
    )


def _in_blocks(rows: Sequence[LayoutRow], blocks: Sequence[str]) -> list[LayoutRow]:
    """Put the heading of each block above its first row; blocks: of each row."""
    changes = zip(rows, pairwise(["", *blocks]), strict=True)
    return [replace(row, heading=block if block != before else "") for row, (before, block) in changes]


def _column_groups(pivot: Pivot) -> list[ColumnGroup]:
    """What is ours, what a step has beside the plain one's, and protocols that differ in the sampler side by side."""
    file, protocols = pivot.table.file, pivot.table.file.published_columns
    whose = "ours" if pivot.table.beside_paper else "value"
    groups = [ColumnGroup("here", (whose, *("change",) * bool(pivot.baselines)))]
    groups += [ColumnGroup("what it takes" if file.facts else "", file.facts)]
    return [*groups, *(ColumnGroup(rest, samplers) for rest, samplers in _by_setting(protocols).items())]


def _by_setting(protocols: Sequence[str]) -> dict[str, list[str]]:
    """Return the samplers, with which protocols begin, by what follows them."""
    settings: dict[str, list[str]] = {}
    for protocol in protocols:
        settings.setdefault(setting_of_protocol(protocol), []).append(protocol.partition(", ")[0])
    return settings


def run_value(pivot: Pivot, run: RunState) -> str:
    """Return a run's number as its table prints it, with the letter of its protocol where there are several."""
    value = "" if run.value is None else text.number(run.value, pivot.metric.decimals)
    return f"{value} {run.protocol}" if run.protocol and len(pivot.protocols) > 1 else value


def _matrix_row(pivot: Pivot, row: PivotRow, fullest: Fullest) -> LayoutRow:
    cells = [row.across] if row.across else row.cells
    stacks = [_stacked(pivot, cell, fullest) if cell else LayoutCell() for cell in cells]
    return LayoutRow((Span(row.label),), stacks, across=row.across is not None)


def _stacked(pivot: Pivot, cell: PivotCell, fullest: Fullest) -> LayoutCell:
    """All that is known of a cell, line by line."""
    owner = Span("paper" if cell.paper or not pivot.table.is_ours(cell.source) else "", "whose")
    lines = {
        "value": _line(*_value(pivot, cell), _tap(pivot, cell)),
        "fuller": _line(_fuller(pivot, cell, fullest)),
        "change": () if cell.is_baseline and cell.column in ("baseline", "") else _change(pivot, cell),
        "paper": _line(owner, *_paper(pivot, cell, _paper_change(cell))) if pivot.table.beside_paper else (),
    }
    shown = {kind: line for kind, line in lines.items() if line}
    return LayoutCell(shown, "best" if cell.is_best else "", text.runs_anchor(pivot, cell))


def _column_row(pivot: Pivot, cell: PivotCell, among: Sequence[PivotCell], fullest: Fullest) -> LayoutRow:
    """A row for a cell, with a column for each thing that is known of it; alone, it has its whole name."""
    label = _line(Span(cell.row if len(among) > 1 else cell.name), _tap(pivot, cell))
    lines = {"value": _line(*_value(pivot, cell)), "fuller": _line(_fuller(pivot, cell, fullest))}
    shown = {kind: line for kind, line in lines.items() if line or kind == "value"}
    value = LayoutCell(shown, "best" if cell.is_best else "", text.runs_anchor(pivot, cell))
    change, paper, its_change = _change(pivot, cell), _paper(pivot, cell), (Span(_paper_change(cell), "number"),)
    beside = (change,) * bool(pivot.baselines)
    if pivot.table.beside_paper:
        beside += (paper, its_change) if pivot.baselines else (paper,)
    cells = [LayoutCell({"": line}) for line in beside]
    return LayoutRow(label, [*(_fact(cell, fact) for fact in cell.facts), value, *cells])


def _published_row(pivot: Pivot, cell: PivotCell, fullest: Fullest) -> LayoutRow:
    """A row for a cell with what is ours, its facts, and the figures of others by their protocols."""
    lines = {"value": _line(*_value(pivot, cell)), "fuller": _line(_fuller(pivot, cell, fullest))}
    shown = {kind: line for kind, line in lines.items() if line or kind == "value"}
    value = LayoutCell(shown, "best" if cell.is_best else "", text.runs_anchor(pivot, cell))
    change = [LayoutCell({"": _change(pivot, cell)})] * bool(pivot.baselines)
    facts = [_fact(cell, fact) for fact in cell.facts]
    figures = [_published(pivot, cell, protocol) for protocol in pivot.table.file.published_columns]
    return LayoutRow(_line(Span(cell.row), _tap(pivot, cell)), [value, *change, *facts, *figures])


def _published(pivot: Pivot, cell: PivotCell, protocol: str) -> LayoutCell:
    """What was published of a row by one protocol, with its change where its authors' own baseline is known."""
    file, decimals = pivot.table.file, pivot.metric.decimals
    figure = file.placed.get((cell.source.at, protocol))
    lines: dict[str, Line] = {}
    if protocol == file.paper_protocol and cell.paper:
        lines = {"paper": _paper(pivot, cell), "its-change": _line(Span(_paper_change(cell), "aside"))}
    elif figure:
        badge = replace(_source(figure), text=figure.confidence, kind="origin")  # in full it is wider than the number
        lines = {"paper": (Span(text.number(figure.value, decimals), "number"), badge)}
        lines["its-change"] = _line(Span(captions.own_change(pivot, figure), "aside"))
        lines["note"] = _line(Span(figure.note, "aside"))
    return LayoutCell({kind: line for kind, line in lines.items() if line}, "figure" if lines else "")


def _elsewhere(pivot: Pivot, figure: PublishedFigure) -> LayoutRow:
    """A figure with how it was measured: its neighbours in the table are no comparison."""
    value = Span(text.number(figure.value, pivot.metric.decimals), "number")
    own = _line(Span(captions.own_change(pivot, figure), "aside"))
    lines = {"paper": (value, _source(figure), *own), "protocol": (Span(figure.protocol, "aside"),)}
    return LayoutRow((Span(figure.of), Span("elsewhere", "aside", plain=" (elsewhere)")), [LayoutCell(lines)], True)


def _line(*spans: Span) -> Line:
    """The spans that have words."""
    return tuple(span for span in spans if span.text)


def _tap(pivot: Pivot, cell: PivotCell) -> Span:
    return Span(captions.tap_note(pivot, cell), "aside")


def _fact(cell: PivotCell, fact: Fact) -> LayoutCell:
    kind = "zero" if fact.words == "none" else ""
    lines: dict[str, Line] = {"": (Span(fact.words, kind) if fact.words else Span(cell.missing[0].state, "state"),)}
    if fact.paper:
        lines["paper"] = (Span("paper", "whose", plain="paper:"), Span(fact.paper.says), _source(fact.paper))
    return LayoutCell(lines, "fact")


def _value(pivot: Pivot, cell: PivotCell) -> Iterator[Span]:
    """Our value with its letter, or the values that mix protocols, and the states of the runs that give none."""
    decimals = pivot.metric.decimals
    if cell.ours:
        yield Span(text.estimate(cell.ours, decimals), "ours")
        if len(pivot.protocols) > 1:
            yield _letter(cell.letters[0])
        count = len(cell.ours.seeds)
        yield Span(f"n={count}", "count", plain="" if count == len(pivot.table.seeds) else f"; n={count}")
        if cell.is_best:
            yield Span("best", "tag", plain="")
    elif cell.mixed:
        yield Span("mixed protocols", "state")
        for run in cell.runs:
            if run.value is not None:
                value = text.number(run.value, decimals)
                yield from (Span(value, "aside", plain=f"; {value}"), _letter(run.protocol))
    if cell.missing:
        states = text.state_words(cell)
        yield Span(states, "state", cell.missing[0].reason, f"; {states}")


def _fuller(pivot: Pivot, cell: PivotCell, fullest: Fullest) -> Span:
    """What the same arm has in another table, where that has more of its seeds; no words where none has."""
    table, other = fullest.get(cell.runs[0].eval_id, (pivot, cell))
    if not cell.ours or not other.ours or len(other.ours.seeds) <= len(cell.ours.seeds):
        return Span("")
    mean = text.number(other.mean, table.metric.decimals)
    words = f"{mean} with n={len(other.ours.seeds)} in {table.table.name_in_words}"
    return Span(words, "aside", plain=f"({words})")


def _letter(letter: str) -> Span:
    return Span(letter, "letter", plain=f" ({letter})")


def _change(pivot: Pivot, cell: PivotCell) -> Line:
    """The change against our baseline, or why there is none."""
    if cell.change is None:
        baseline = "our baseline" if pivot.table.beside_paper else "baseline"
        return _line(Span(baseline if cell.is_baseline else cell.no_change, "aside"))
    note = _change_note(cell, cell.change)
    change = Span(text.percent_change(cell.change), kind_of(pivot, cell.change))
    return _line(change, Span(note, "aside", plain=f" ({note})"))


def _change_note(cell: PivotCell, change: Change) -> str:
    """Say what is unusual about a change; "" where all its seeds were compared with their own baseline."""
    if not change.paired:
        return "means of different seeds"
    if cell.ours and len(change.seeds) < len(cell.ours.seeds):
        return f"over {text.seed_words([str(seed) for seed in change.seeds])} alone"
    return ""


def _paper(pivot: Pivot, cell: PivotCell, change: str = "") -> Line:
    """The paper's value, its change, and our confidence in it with its source: "32.35 (H)", "15.95 (M, secondary)"."""
    if cell.paper is None:
        words = "not in the paper" if pivot.table.is_ours(cell.source) else "not available to us"
        return (Span("–", "unpublished", words, f" {words}"),)
    mark = str(captions.notes(pivot).index(cell.paper.note) + 1) if cell.paper.note else ""
    value = Span(text.number(cell.paper.value, pivot.metric.decimals), "number")
    source = _source(cell.paper, f"; note {mark}" if mark else "")
    return _line(value, Span(change, "number"), source, Span(mark, "letter", plain=""))


def _paper_change(cell: PivotCell) -> str:
    """The paper's own change, "" where it is not known."""
    return "" if cell.paper_percent is None else text.signed_percent(cell.paper_percent, 2)


def _source(paper: Sourced, further: str = "") -> Span:
    words = paper.confidence if paper.source == "paper" else f"{paper.confidence}, {paper.source}"
    title = f"{CONFIDENCE[paper.confidence]} confidence; source: {SOURCES[paper.source]}"
    return Span(words, "source", title, f" ({words}{further})")


def _notes(pivot: Pivot) -> Iterator[Line]:
    """What must be known to read the numbers: which were trained otherwise unasked, and which are one run."""
    for sentence in (*captions.untold_sentences(pivot), *captions.one_run_sentences(pivot)):
        yield (Span(sentence),)


def _further_notes(pivot: Pivot) -> Iterator[Line]:
    """What can be looked up: how images were drawn by letter, encoders, and notes on the paper's numbers."""
    for letter, sentence in captions.planned_sentences(pivot):
        yield Span(letter, "mark", plain=f"({letter})"), Span(sentence)
    for sentence in pivot.encoders:
        yield (Span(sentence),)
    for index, note in enumerate(captions.notes(pivot), start=1):
        yield Span(str(index), "mark", plain=f"Note {index}:"), Span(note)
