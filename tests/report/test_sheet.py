"""The layout of a table: what a cell says in a page, and how the same reads in LaTeX and Markdown."""

from csv import DictReader
from dataclasses import replace
from pathlib import Path

import yaml
from support import synthetic_study as synthetic
from support.places import GRIDS
from support.printed_tables import NAMES, layouts_of
from support.synthetic_study import pivots_of

from harness.config.grid import load_table
from harness.report.analysis.pivot import fullest_cells
from harness.report.analysis.table_result import TableResult
from harness.report.analysis.text import runs_anchor
from harness.report.rendering.data_files import table_csv
from harness.report.rendering.latex import latex_table
from harness.report.rendering.markdown import markdown_table
from harness.report.rendering.sheet import LayoutCell, Span, TableLayout, plain, table_layout


def value_of(layout: TableLayout, label: str) -> LayoutCell:
    """The cell with our value in the row of a label, where a table has a row for each cell."""
    row = next(row for row in layout.body if row.label[0].text == label)
    return next(cell for cell in row.cells if "value" in cell.lines)


def test_a_line_without_markup_divides_what_it_says() -> None:
    assert plain((Span("4.21", "ours"), Span("a", "letter", plain=" (a)"), Span("best", "tag", plain=""))) == "4.21 (a)"
    assert plain((Span("not run", "state", plain="; not run"),)) == "not run"
    assert plain((Span("paper", "whose"), Span("32.35"), Span("H", "source", plain=" (H; note 1)"))) == (
        "paper 32.35 (H; note 1)"
    )
    assert plain(()) == ""


def test_a_table_of_one_column_has_a_column_for_each_thing_that_is_known(full_layouts: list[TableLayout]) -> None:
    layout = full_layouts[NAMES.index("table3")]
    assert (layout.columns, layout.over) == (("ours", "change", "paper", "its change"), "")
    assert all(len(row.cells) == 4 and not row.across for row in layout.body)
    baseline = layout.body[0]
    assert [plain(line) for cell in baseline.cells[1:] for line in cell.lines.values()] == [
        "our baseline",
        "36.49 (H)",
        "",
    ]


def test_a_table_of_several_columns_stacks_what_is_known_of_a_cell(full_layouts: list[TableLayout]) -> None:
    layout = full_layouts[NAMES.index("table2")]
    first, *others = layout.body
    assert first.across
    assert len(first.cells) == 1
    assert all(len(row.cells) == len(layout.columns) for row in others)
    lines = {kind: plain(line) for kind, line in others[0].cells[0].lines.items()}
    assert list(lines) == ["value", "change", "paper"]
    assert lines["paper"] == "paper 43.66 +19.65\u202f% (H)"


def test_facts_stand_beside_the_paper_s_with_its_source(full_layouts: list[TableLayout]) -> None:
    layout = full_layouts[NAMES.index("table6")]
    repa = next(row for row in layout.body if row.label[0].text == "REPA")
    facts = [cell for cell in repa.cells if cell.kind == "fact"]
    assert len(facts) == len(layout.result.pivot.table.file.facts)
    assert plain(facts[1].lines["paper"]) == "paper: 1.1B (M, secondary)"
    (source,) = [span for span in facts[1].lines["paper"] if span.kind == "source"]
    assert source.title.startswith("medium confidence; source: ")


def test_figures_published_elsewhere_stand_beneath_with_how_they_were_measured(full_layouts: list[TableLayout]) -> None:
    """The release's README samples by ODE; DiverseDiT's table by SDE: each says so, and neither has a change."""
    layout = full_layouts[NAMES.index("table2")]
    rows = {row.label[0].text: [plain(line) for line in row.cells[0].lines.values()] for row in layout.elsewhere}
    assert rows["SiT-B/2 + Disp, PyTorch release"] == [
        "32.64 (H, official)",
        "ODE, no guidance, 80 epochs; λ 0.25, τ 1, last block, groups of 32",
    ]
    assert rows["DiverseDiT + Disp, SiT-B/2"] == ["24.98 (H, later)", "SDE, 250 steps, no guidance, 400K steps"]
    ways = [words[-1].partition(",")[0] for words in rows.values()]
    assert ways == sorted(ways)
    assert not layout.foot


def test_figures_of_others_stand_in_their_rows_by_protocol_and_no_column_mixes_samplers(tmp_path: Path) -> None:
    """Against the grid's own text: each figure once, beneath its sampler and network, its change its authors' own."""
    grid = yaml.safe_load((GRIDS / "table8.yaml").read_text("utf-8"))
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table8", "digits", "seeds=[0]")
    layout = layouts_of(store, [table])[0]
    heads = [f"{short}, {group.heading}" for group in layout.groups[2:] for short in group.columns]
    assert heads == list(layout.columns[-layout.published :])
    printed = {
        (row.label[0].text, head): [plain(line) for line in cell.lines.values()]
        for row in layout.body
        for head, cell in zip(heads, row.cells[-len(heads) :], strict=True)
        if cell.lines
    }
    expected = {}
    for figure in [*grid["paper"], *(figure for figure in grid["references"] if "at" in figure)]:
        source = "" if figure["source"] == "paper" else f", {figure['source']}"
        words = [f"{figure['value']:.2f} ({figure['confidence']}{source})"]
        if base := figure.get("baseline"):
            words.append(f"−{100 - 100 * figure['value'] / base:.1f}\u202f% of\u00a0{base:.2f}")
        if figure is grid["paper"][1]:
            words.append("−11.35\u202f%")
        words += [figure["note"]] if "note" in figure else []
        expected[figure["at"]["method"], figure.get("protocol", grid["paper_protocol"])] = words
    assert printed == expected
    headings = {row.heading: row.label[0].text for row in layout.body if row.heading}
    assert headings == {heading: labels[0] for heading, labels in grid["blocks"].items()}
    order = [row.label[0].text for row in layout.body]
    assert order == ["none", *(label for labels in grid["blocks"].values() for label in labels)]
    markdown, latex, csv = markdown_table(layout), latex_table(layout), table_csv(layout)
    assert markdown.count("| **Sums** |") == latex.count(r"\textit{Sums}") // 2 == 1
    for text in (markdown, latex):
        assert text.count("7.27 (H, public)") == text.count("of~36.19" if text is latex else "of\u00a036.19") == 1
    rows = {row["method"]: row for row in DictReader(csv.splitlines())}
    assert rows["SRA 2"]["SDE, SiT-B/2, 400K steps: own baseline"] == "33.02"
    assert rows["REPA"]["block"] == "With an external encoder"


def test_gaps_and_mixtures_stand_in_the_cell_of_the_value(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    gone, mixed = synthetic.cell_of(table, "1 of 12").runs[0], synthetic.cell_of(table, "all").runs[0]
    store.eval_path(gone.train_id, gone.eval_id).unlink()
    synthetic.write_error(store, gone, "error", "out of memory")
    synthetic.write_measurement(store, mixed, 0.1, {"generated": 500})
    layout = layouts_of(store, [table])[0]
    cell = value_of(layout, "1 of 12")
    assert plain(cell.lines["value"]).endswith("(a); n=1; seed 0 failed")
    assert [span.title for span in cell.lines["value"] if span.kind == "state"] == ["out of memory"]
    assert plain(value_of(layout, "all").lines["value"]).startswith("mixed protocols; 0.10 (b); ")
    assert layout.footnotes[0].startswith("This table mixes protocols")
    assert layout.footnotes[1:3] == list(layout.mixed)


def test_each_cell_leads_to_runs_of_its_own(full_layouts: list[TableLayout]) -> None:
    for layout in full_layouts:
        pivot = layout.result.pivot
        anchors = [runs_anchor(pivot, cell) for cell in pivot.cells]
        links = [cell.link for row in (*layout.body, *layout.foot) for cell in row.cells if cell.link]
        assert len(set(anchors)) == len(anchors)
        assert sorted(links) == sorted(anchors)


def test_a_mean_of_fewer_seeds_names_the_table_that_has_more(tmp_path: Path) -> None:
    store = synthetic.new_store(tmp_path)
    few, many = (
        synthetic.table_of(*table)
        for table in (("table3", "digits", "seeds=[0,1]"), ("table2", "digits", "seeds=[0,1,2]"))
    )
    synthetic.full_study(store, [few, many])
    pivots = pivots_of(store, [few, many])
    layouts = [table_layout(TableResult(pivot), fullest_cells(pivots)) for pivot in pivots]
    baseline, means = value_of(layouts[0], "none"), [pivot.cells[0].mean for pivot in pivots]
    assert plain(baseline.lines["value"]).startswith(f"{means[0]:.2f}")
    assert plain(baseline.lines["fuller"]) == f"({means[1]:.2f} with n=3 in Table 2)"
    assert means[0] != means[1]
    assert not any("fuller" in cell.lines for row in layouts[1].body for cell in row.cells)


def test_a_table_of_ours_without_numbers_of_the_paper_has_no_column_for_them(tmp_path: Path) -> None:
    table = synthetic.table_of("table3")
    own = replace(table, file=table.file.model_copy(update={"table": "own", "paper": ()}))
    (layout,) = layouts_of(synthetic.new_store(tmp_path), [own])
    assert layout.columns == ("value", "change")
    assert {len(row.cells) for row in layout.body} == {2}


def test_a_baseline_beside_a_single_column_keeps_its_row(tmp_path: Path) -> None:
    path = tmp_path / "single.yaml"
    axes = (
        "axes: {arm: {none: {regularizer.loss: none}, with: {}}, λ: {none: {}, '1': {regularizer.lambda: 1}, '2': {}}}"
    )
    head = "table: single\ntitle: One\nquestion: One?\nrows: λ\ncolumns: arm\nbaseline: {λ: none, arm: none}\n"
    vary = "vary: [{row: {λ: none, arm: none}}, {product: {λ: ['1', '2'], arm: [with]}}]"
    base = "base: {preset: paper, model: SiT-B/2, epochs: 80, regularizer: {loss: infonce-l2, lambda: 2}}"
    path.write_text(f"{head}{base}\n{axes}\n{vary}\n", encoding="utf-8")
    (layout,) = layouts_of(synthetic.new_store(tmp_path), [load_table(path, "digits")])
    assert [row.label[0].text for row in layout.body] == ["none", "1", "2"]
