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
from click.testing import CliRunner
from markdown_it import MarkdownIt
from support import synthetic_study as synthetic
from support.synthetic_study import pivot_of, pivots_of

from harness.cli import cli
from harness.config.grid import Table, load_table
from harness.errors import UserError
from harness.report.analysis.claims import VERDICTS, summary_sentences, table_claims
from harness.report.analysis.pivot import Pivot
from harness.report.analysis.text import estimate, percent_change
from harness.report.comparison import compare, counts, differing
from harness.report.figures.by_size import lines
from harness.report.figures.run_curves import curves
from harness.report.rendering import markdown
from harness.report.rendering.data_files import csv_of, shown_as_text, study_record, summary, table_csv, write_takeaway
from harness.report.rendering.latex import escaped, latex_table
from harness.report.rendering.markdown import markdown_table
from harness.report.rendering.page import make_report
from harness.report.rendering.sheet import TableLayout, sheet
from harness.store.store import Store
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
    html = MarkdownIt("gfm-like", {"linkify": False}).render(summary("study", [hostile]))
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
        write_takeaway("study", laid_outs, folder)
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
    record = json.loads(json.dumps(study_record("study", full), allow_nan=False))
    assert [len(table["cells"]) for table in record["tables"]] == [len(laid_out.cells) for laid_out in full]
    cell = record["tables"][1]["cells"][0]
    baseline = full[1].cells[0]
    assert baseline.ours
    assert (cell["ours"]["mean"], cell["baseline"], cell["verdict"]) == (baseline.ours.mean, True, None)
    assert [run["train_id"] for run in cell["runs"]] == [run.train_id for run in baseline.runs]
    assert any(HOSTILE in line for line in study_record("study", [hostile])["tables"][0]["missing"])


# Claims


def test_each_claim_is_judged_by_its_sign_and_interval(tmp_path: Path) -> None:
    """The paper's changes in Table 3 are all negative."""
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    values = {
        "none": {0: 5.0, 1: 5.0},
        "1 of 12": {0: 4.0, 1: 4.1},  # t = 19 with one degree of freedom, p = 0.033
        "3 of 12 (default)": {0: 6.0, 1: 6.001},  # p < 0.001
        "7 of 12": {0: 4.0, 1: 4.5},  # t = 3, p = 0.2
        "12 of 12": {0: 4.0},
    }
    for label, by_seed in values.items():
        for run in synthetic.cell_of(table, label).runs:
            if run.seed in by_seed:
                synthetic.write_measurement(store, run, by_seed[run.seed])
    laid_out = pivot_of(store, table)
    found = {claim.cell.row: claim.verdict for claim in table_claims(laid_out).claims}
    assert found == {
        "1 of 12": "same sign",
        "3 of 12 (default)": "contradicts",
        "7 of 12": "zero within interval",
        "12 of 12": "with one seed",
        "all": "without value",
    }
    sentences = summary_sentences([laid_out])
    assert sentences[0] == (
        "With the paper’s default loss (InfoNCE-ℓ2, its block, λ and τ) FID of SiT-B/2 goes from 5.00 to 6.00, "
        "+20.0\u202f% [+19.9,\u00a0+20.1]* over 2 seeds; in the paper it moves by −11.35\u202f%."
    )
    assert sentences[1] == (
        "The paper claims that a dispersive loss improves on the baseline, and we know its numbers for 5 arms of this "
        "study. Here the 95% interval of the change is on the better side of zero in one, on the worse side in one, "
        "and on neither in three."
    )
    assert sentences[2].endswith("excluding zero, in one of five, and the opposite sign in one of five.")
    assert sentences[3] == "Of these, one of two survives Holm’s correction over the cells of its table."
    said = "1 whose interval contains zero, 1 with one seed and 1 without a value"
    assert sentences[4] == f"The others say neither: {said}."
    assert sentences[5] == "Of 12 measurements, 3 give no value: 3 not run."
    assert sentences[6].startswith("Not in this study: Table 2, Table 4, Figure 4, Table 5")
    fewer = pivots_of(store, [synthetic.table_of("table3", "digits", "seeds=[0]")])[0]
    both = summary_sentences([fewer, laid_out])  # what tables share is counted once, where it has most seeds
    assert both[:2] == sentences[:2]
    assert "known to us in 10 cells of these tables, which hold 5 different arms." in both[2]


def test_values_of_another_protocol_make_no_claim(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    for label, seeds in (("all", (0, 1)), ("7 of 12", (1,))):
        for run in synthetic.cell_of(table, label).runs:
            if run.seed in seeds:
                synthetic.write_measurement(store, run, 4.0, {"generated": 500})
    claims = {claim.cell.row: claim.verdict for claim in table_claims(pivot_of(store, table)).claims}
    assert [row for row, verdict in claims.items() if verdict == "protocol differs"] == ["7 of 12", "all"]


def test_a_scale_without_meaning_claims_nothing(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2", "smoke")
    synthetic.full_study(store, [table])
    laid_out = pivot_of(store, table)
    assert table_claims(laid_out).claims == ()
    assert "mean nothing" in summary_sentences([laid_out])[0]
    assert not any(verdict in summary("study", [laid_out]) for verdict in VERDICTS)


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


def shifted_copy(tmp_path: Path) -> tuple[Store, Store, Table]:
    first, table = synthetic.new_store(tmp_path, "first"), synthetic.table_of("table2")
    second = synthetic.new_store(tmp_path, "second")
    synthetic.full_study(first, [table])
    shutil.copytree(first.root, second.root)
    for run in synthetic.cell_of(table, "Hinge", "dispersive").runs:
        path = second.eval_path(run.train_id, run.eval_id)
        content = json.loads(path.read_text(encoding="utf-8"))
        content["metrics"]["fid"] *= 1.1
        path.write_text(json.dumps(content), encoding="utf-8")
    return first, second, table


def test_a_comparison_finds_the_shifted_arm_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(synthetic.GRIDS.parent)
    first, second, table = shifted_copy(tmp_path)
    tables = compare(first, second)
    (found,) = [cell for _, cell in differing(tables)]
    assert found.cell == "Hinge · dispersive"
    assert found.change
    assert found.change.percent == pytest.approx(10, abs=1e-6)
    assert counts(tables) == {"differs": 1, "equal": len(table.cells) - 1}
    words = ["report", "--compare", "first", "second", "--results", str(first.results), "--reports", str(tmp_path)]
    said = CliRunner().invoke(cli, words, catch_exceptions=False).output
    assert said.count("Table 2.") == 1
    frame = pd.read_csv(tmp_path / "first-and-second" / "differences.csv")
    assert frame["cell"][frame["verdict"] == "differs"].tolist() == ["Hinge · dispersive"]
    assert "Hinge · dispersive" in (tmp_path / "first-and-second" / "index.html").read_text(encoding="utf-8")


def test_a_comparison_says_what_it_cannot_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(synthetic.GRIDS.parent)
    first, second, table = shifted_copy(tmp_path)
    gone, other, lone = (
        synthetic.cell_of(table, loss, "dispersive") for loss in ("Hinge", "Covariance", "InfoNCE, ℓ2")
    )
    for run in gone.runs:
        first.eval_path(run.train_id, run.eval_id).unlink()
    for run in other.runs:
        synthetic.write_measurement(second, run, 1.0, {"generated": 500})
    synthetic.write_measurement(second, lone.runs[0], 1.0)
    second.eval_path(lone.runs[1].train_id, lone.runs[1].eval_id).unlink()
    more = synthetic.table_of("table3")
    second.record_grid(more.name, Path("grids/table3.yaml"), "digits", [])
    found = {cell.cell: cell.verdict for cell in compare(first, second)[0].cells if cell.verdict != "equal"}
    assert found == {
        "Hinge · dispersive": "without value",
        "Covariance · dispersive": "protocol differs",
        "InfoNCE, ℓ2 · dispersive": "too few seeds",
    }
    assert {cell.verdict for cell in compare(first, second)[1].cells} == {"only in one"}


@pytest.mark.parametrize("words", [[], ["one", "--compare", "one", "two"]])
def test_a_report_is_of_one_study_or_compares_two(words: list[str]) -> None:
    with pytest.raises(UserError, match="STUDY or --compare A B is expected"):
        CliRunner().invoke(cli, ["report", *words], catch_exceptions=False)


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
