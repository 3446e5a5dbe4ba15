"""What is taken away from a report: LaTeX, Markdown, CSV and JSON, the summary, and two studies side by side."""

import io
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from support import synthetic_study as synthetic
from support.synthetic_study import pivot_of, pivots_of

from harness.config.grid import load_table
from harness.report.analysis.pivot import Pivot
from harness.report.analysis.table_result import TableResult
from harness.report.analysis.text import estimate, percent_change
from harness.report.figures.by_size import lines
from harness.report.figures.run_curves import curves
from harness.report.rendering import markdown
from harness.report.rendering.data_files import csv_of, shown_as_text, study_record, summary, table_csv, write_takeaway
from harness.report.rendering.latex import escaped, latex_table
from harness.report.rendering.markdown import markdown_table
from harness.report.rendering.page import make_report
from harness.report.rendering.sheet import TableLayout, sheet
from harness.store.training_log import read_log

NAMES = ("table2", "table3", "table4", "table6", "table7b", "figure4")
HOSTILE = r"<b>x</b> & $\frac{1}{2}$ 100% a_b ^~#{} `c` | [d](e) *f* -- \end{table} “λ” ℓ₂ é 中"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> list[Pivot]:
    """A study of six tables with a gap in the second."""
    store, tables = synthetic.new_store(tmp_path_factory.mktemp("full")), [synthetic.table_of(name) for name in NAMES]
    synthetic.full_study(store, tables)
    run = synthetic.cell_of(tables[1], "1 of 12").runs[0]
    store.eval_path(run.train_id, run.eval_id).unlink()
    return pivots_of(store, tables)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Pivot:
    """Table 3 with a row whose name is markup, and a run that failed with the same words."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copytree(synthetic.GRIDS, folder / "grids")
    grid = folder / "grids" / "table3.yaml"
    quoted = "'" + HOSTILE + "'"
    text = grid.read_text(encoding="utf-8").replace("block: all", f"block: {quoted}").replace(", all]", f", {quoted}]")
    grid.write_text(text.replace("    all: {", f"    {quoted}: {{"), encoding="utf-8")
    store, table = synthetic.new_store(folder), load_table(grid, "digits")
    synthetic.full_study(store, [table])
    run = synthetic.cell_of(table, "1 of 12").runs[0]
    store.eval_path(run.train_id, run.eval_id).unlink()
    synthetic.write_error(store, run, "error", HOSTILE)
    return pivot_of(store, table)


def written(laid_out: TableLayout) -> list[list[str]]:
    """The words of a table's cells, row by row, lines one after the other."""
    return [[row.label, *("".join(cell.lines) for cell in row.cells)] for row in laid_out.rows]


# Formats


def test_the_csv_loads_with_the_numbers_of_the_page(full: list[Pivot]) -> None:
    for laid_out in full:
        frame = pd.read_csv(io.StringIO(table_csv(laid_out)), keep_default_na=False, na_values=[""])
        assert len(frame) == len(laid_out.cells)
        for (_, row), cell in zip(frame.iterrows(), laid_out.cells, strict=True):
            assert cell.ours
            assert (row["mean"], row["best"]) == (cell.ours.mean, cell.is_best)
            if cell.change:
                assert row["change_percent"] == cell.change.percent
            if cell.paper:
                assert (row["paper"], row["paper_confidence"]) == (cell.paper.value, cell.paper.confidence)
            assert dict(cell.source.at).items() <= {key: str(value) for key, value in row.items()}.items()
    facts = pd.read_csv(io.StringIO(table_csv(full[NAMES.index("table6")])), keep_default_na=False)
    assert facts["paper: extra parameters"].tolist()[1] == "1.1B"


def test_a_long_csv_is_what_pandas_writes() -> None:
    numbers = {
        "seed": pd.array([1, None, -2], dtype="Int64"),
        "value": [0.1, math.nan, -1e-7],
        "best": [True, False, True],
    }
    frame = pd.DataFrame({"words": ["a, b", 'say "c"', "two\nlines"], "none": ["", "d", ""]} | numbers)
    assert csv_of(frame) == frame.to_csv(index=False, lineterminator="\n")


def test_a_formula_is_text_in_every_csv_and_a_number_stays_one(tmp_path: Path) -> None:
    table, formula = synthetic.table_of("table3"), '=HYPERLINK("http://x")'
    for name in ("first", "second"):
        store = synthetic.new_store(tmp_path, name)
        synthetic.full_study(store, [table])
        for run in synthetic.cell_of(table, "1 of 12").runs:
            store.eval_path(run.train_id, run.eval_id).unlink()
            synthetic.write_error(store, run, "error", formula)
    path = make_report(store, [table], tmp_path / "report")
    frame = pd.read_csv(path.with_name("results.csv"))
    assert set(frame["reason"].dropna()) == {f"'{formula}"}
    assert frame["value"].dtype == float
    texts = ("=1+1", "+a", "-a", "@SUM(A1)", "\ta", "\ra")
    assert [shown_as_text(text) for text in texts] == [f"'{text}" for text in texts]
    assert [shown_as_text(value) for value in (-0.5, "-0.5", "−11 %", "a=b", None)] == [
        -0.5,
        "-0.5",
        "−11 %",
        "a=b",
        None,
    ]


@pytest.mark.parametrize("name", NAMES)
def test_markdown_renders_to_the_words_of_the_table(full: list[Pivot], name: str) -> None:
    laid_out = sheet(full[NAMES.index(name)])
    html = MarkdownIt("commonmark").enable("table").render(markdown_table(laid_out, "Heading"))
    assert cells_of(html) == [row + [""] * (1 + len(laid_out.columns) - len(row)) for row in written(laid_out)]


def test_markup_in_a_name_is_text_in_markdown(hostile: Pivot) -> None:
    html = MarkdownIt("gfm-like", {"linkify": False}).render(summary("study", [TableResult(hostile)]))
    assert html.count(HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")) == 2
    assert not re.findall("<(?!/?(h1|h2|p|table|thead|tbody|tr|th|td|ul|li|br|strong)>)", html)


def cells_of(html: str) -> list[list[str]]:
    rows = re.findall("<tr>(.*?)</tr>", html, re.DOTALL)[1:]
    plain = [[re.sub("<[^>]*>", "", cell) for cell in re.findall("<td>(.*?)</td>", row)] for row in rows]
    return [[cell.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for cell in row] for row in plain]


def test_latex_has_a_cell_for_every_column_and_balanced_braces(full: list[Pivot], hostile: Pivot) -> None:
    for laid_out in (*full, hostile):
        words = sheet(laid_out)
        text = latex_table(words, laid_out)
        bare = re.sub(r"\\[{}&\\]", "", text)
        assert bare.count("{") == bare.count("}")
        body = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0]
        rows = [line for line in body.splitlines() if line != "\\midrule"]
        assert len(rows) == len(words.rows)
        for line, row in zip(rows, words.rows, strict=True):
            assert len(re.findall(r"(?<!\\)&", line)) == (1 if row.across else len(words.columns))


def test_what_tex_would_read_as_its_own_is_escaped() -> None:
    assert escaped("a_b 5% \\x{y} $1 #2 ~^") == (
        r"a\_b 5\% \textbackslash{}x\{y\} \$1 \#2 \textasciitilde{}\textasciicircum{}"
    )
    assert escaped("--scale λ ± ℓ₂ 中\n[x]") == r"-{}-scale $\lambda$ $\pm$ $\ell$$_2$ \texttt{U+4E2D} {[}x{]}"


@pytest.mark.integration
def test_all_tables_compile_with_a_plain_tex(
    full: list[Pivot], hostile: Pivot, needs: Callable[..., None], tmp_path: Path
) -> None:
    needs("pdflatex")
    for index, laid_outs in enumerate((full, [hostile])):
        folder = tmp_path / str(index)
        write_takeaway("study", [TableResult(laid_out) for laid_out in laid_outs], folder)
        words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
        done = subprocess.run(words, cwd=folder / "tables", capture_output=True, check=False)
        log = done.stdout.decode(errors="replace")
        assert done.returncode == 0, log[-2000:]
        assert (folder / "tables" / "all.pdf").read_bytes().startswith(b"%PDF")
        assert f"({len(laid_outs) + 1} pages" in log
        if laid_outs is full:
            assert "Overfull" not in log
            assert "Float too large" not in log


def test_the_record_holds_every_cell_and_run(full: list[Pivot], hostile: Pivot) -> None:
    record = json.loads(
        json.dumps(study_record("study", [TableResult(laid_out) for laid_out in full]), allow_nan=False)
    )
    assert [len(table["cells"]) for table in record["tables"]] == [len(laid_out.cells) for laid_out in full]
    cell = record["tables"][1]["cells"][0]
    baseline = full[1].cells[0]
    assert baseline.ours
    assert (cell["ours"]["mean"], cell["baseline"], cell["verdict"]) == (baseline.ours.mean, True, None)
    assert [run["train_id"] for run in cell["runs"]] == [run.train_id for run in baseline.runs]
    assert any(HOSTILE in line for line in study_record("study", [TableResult(hostile)])["tables"][0]["missing"])


# Claims


def test_gains_are_ordered_by_size_for_each_family(full: list[Pivot]) -> None:
    found = {line.label: [cell.source.settings.model for cell in line.cells] for line in lines(full[-1])}
    sizes = ("S", "B", "L", "XL")
    assert found == {
        f"{family} · {guidance}": [f"{family}-{size}/2" for size in sizes]
        for family in ("DiT", "SiT")
        for guidance in ("without guidance", "CFG 1.5")
    }
    assert [lines(laid_out) for laid_out in full[:-1]] == [[]] * (len(NAMES) - 1)


def test_curves_outlive_torn_lines_and_repeated_steps(tmp_path: Path) -> None:
    log = tmp_path / "train.jsonl"
    records = [{"step": step, "denoising": 9.0 - step, "loss": 9.0 - step} for step in (1, 2, 3, 2)]
    records.append({"step": 4, "denoising": "nan", "loss": float("nan")})
    log.write_text("".join(f"{json.dumps(record)}\n" for record in records) + '{"step": 5, "den', encoding="utf-8")
    (curve,) = curves(read_log(log), "abc")
    assert curve.points == "0.0,0.0 140.0,45.0 280.0,90.0"
    assert (curve.low, curve.high, curve.last) == ("6", "8", "3")
    assert curves(read_log(tmp_path / "none.jsonl"), "abc") == ()
    log.write_text("".join(f'{{"step": {step}, "gradient_share": 0.{step}}}\n' for step in (1, 2)), encoding="utf-8")
    assert [curve.title for curve in curves(read_log(log), "abc")] == ["regulariser’s share of the gradient"]


# Two studies


def test_the_numbers_of_the_markdown_are_those_of_the_page(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2")
    synthetic.full_study(store, [table])
    page = make_report(store, [table], tmp_path / "page")
    html, text = page.read_text(encoding="utf-8"), (page.parent / "tables" / "table2.md").read_text(encoding="utf-8")
    for cell in pivot_of(store, table).cells:
        assert cell.ours
        assert estimate(cell.ours, 2) in html
        assert estimate(cell.ours, 2) in text
        if cell.change:
            assert percent_change(cell.change) in html
            assert markdown.escaped(percent_change(cell.change)) in text
