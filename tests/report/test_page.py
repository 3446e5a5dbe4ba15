"""The page: whole in itself, every gap in words, and the same bytes wherever it is made."""

import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from support import synthetic_study as synthetic
from support.html_page import Page
from support.places import ROOT
from support.printed_tables import table_with_row
from support.swept_studies import SEEDS, guided, surface_of
from support.synthetic_study import write_values

from harness.cli import cli
from harness.config.settings.term_settings import OWN_KEYS, TERMS
from harness.errors import UserError
from harness.report.figures.picture import PRINTED
from harness.report.rendering.page import make_report, report

TABLES = ("table2", "table3", "table4", "convergence")
FIGURES = {*TABLES, *(f"{name}-planes" for name in TABLES), "table3-surface", "table4-surface", "convergence-training"}


@pytest.fixture(scope="module")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("full")
    store, tables = synthetic.new_store(folder), [synthetic.table_of(name) for name in TABLES]
    synthetic.full_study(store, tables)
    return Page(make_report(store, tables, folder / "reports").read_text(encoding="utf-8"))


def test_what_the_paper_does_not_publish_is_said(full_page: Page) -> None:
    table4 = synthetic.table_of("table4")
    unpublished = sum(table4.paper(cell) is None for cell in table4.cells)
    assert unpublished == 11
    words = "Where the paper’s is missing, {}."
    assert full_page.text.count(words.format("none is available to us")) == 1  # Table 4
    assert full_page.text.count(words.format("it has none")) == 1  # of the convergence: epochs 0, 20 and 40, two arms


def test_a_study_that_never_ran_is_a_page_of_gaps(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2")
    page = Page(make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8"))
    assert "all 26 runs of this table: no job has begun this run" in page.text
    assert "Nothing of this table has been measured yet." in page.text
    assert not [tag for tag, _ in page.elements if tag in ("svg", "img")]


def test_one_protocol_is_one_sentence(full_page: Page) -> None:
    assert "mixes protocols" not in full_page.text
    table = synthetic.table_of("table2")
    intervals = table.runs[0].evaluation.sampler.intervals
    text = re.sub(r"\s+", " ", full_page.text)
    assert "of 1,000 images with balanced labels against 1,437 images of digits/train" in text
    assert f"{intervals} intervals, {2 * intervals} network evaluations an image" in text


HOSTILE = '<script>alert("x")</script> & $\\frac{1}{2}$ {{ 7 * 7 }} </svg></style>'


def test_markup_and_formulas_in_names_and_reasons_are_text(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), table_with_row(tmp_path, HOSTILE)
    write_values(store, table, {"none": {0: 5.0}, HOSTILE: {0: 4.0}})
    synthetic.write_error(store, synthetic.cell_of(table, "1 of 12").runs[0], "error", HOSTILE)
    html = make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8")
    page = Page(html)
    tags = Counter(tag for tag, _ in page.elements)
    assert tags["script"] == html.count("</script>") == 1
    assert tags["style"] == html.count("</style>") == 1
    assert (
        tags["svg"] == html.count("</svg>") == 3
    )  # a change on the first screen; the figure, and the plane of precision and recall
    assert f"(seed 0): {HOSTILE}" in page.text
    assert HOSTILE in " ".join(page.all("aria-label"))
    drawings = re.findall("<svg.*?</svg>", html, flags=re.DOTALL)
    assert all(r"$\frac{1}{2}$" in re.sub('aria-label="[^"]*"', "", drawing) for drawing in drawings)


def test_the_page_is_whole_in_itself(full_page: Page) -> None:
    outside = [url for name in ("src", "href", "action", "poster") for url in full_page.all(name)]
    assert {url for url in outside if not url.startswith(("#", "data:"))} == {
        "results.csv", "report.json", "summary.md", "tables/all.tex",
        *(f"tables/{name}.{suffix}" for name in TABLES for suffix in ("tex", "md", "csv")),
        *(f"figures/{name}.svg" for name in FIGURES),
    }  # fmt: skip
    ids = full_page.all("id")
    assert len(ids) == len(set(ids))
    assert {url[1:] for url in outside if url.startswith("#")} <= set(ids)
    pointed = re.findall(r"url\(#([^)]+)\)", " ".join(full_page.all("clip-path")))
    assert pointed
    assert set(pointed) <= set(ids)


def test_tables_and_pictures_can_be_read_without_seeing_them(full_page: Page) -> None:
    tags = Counter(tag for tag, _ in full_page.elements)
    tables = [attributes for tag, attributes in full_page.elements if tag == "table"]
    named = sum("aria-label" in attributes for attributes in tables)
    assert named == len(TABLES)
    # The first screen, claims, objectives, tests, figures elsewhere, surfaces' none, and runs have captions.
    assert tags["table"] <= tags["caption"] + named
    assert all("scope" in attributes for tag, attributes in full_page.elements if tag == "th")
    assert all(attributes["alt"] for tag, attributes in full_page.elements if tag == "img")
    labels = [attributes["aria-label"] for tag, attributes in full_page.elements if tag == "svg"]
    changes, labels = labels[:8], labels[8:]  # of the first screen: Table 2's four, and Table 3's but for the default
    assert all(label.startswith(("Table 2, ", "Table 3, ")) for label in changes)
    assert [label.partition(":")[0] for label in labels] == [
        *["FID of each cell", "Recall and precision of each cell"] * 3,
        "FID over training, by step. baseline", "FID of each cell", "Recall and precision of each cell",
        *["FID with its 95% interval"] * 2,  # of blocks, and of λ and τ
    ]  # fmt: skip
    assert labels[0].startswith("FID of each cell: baseline 4.79; ")


def test_the_paper_s_numbers_stand_beside_ours(full_page: Page) -> None:
    text = full_page.text.replace("\u202f", " ")
    for words in ("43.66", "+19.65 %", "32.35", "−11.35 %", "32.05", "−12.17 %", "L, secondary", "M, secondary"):
        assert words in text
    assert "medium confidence; source: one secondary text" in " ".join(full_page.all("title"))


def test_table_1_says_that_ours_takes_means(full_page: Page) -> None:
    text = re.sub(r"\s+", " ", full_page.text)
    assert "Where the covariance loss sums over features, as the paper prints it, ours takes means" in text


def test_a_scale_that_means_nothing_says_so(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2", "smoke")
    synthetic.full_study(store, [table])
    page = Page(make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8"))
    assert "These numbers mean nothing." in page.text
    assert "Better than our baseline" not in page.text
    assert "One seed, and so no spread." in page.text


def test_every_shipped_grid_is_drawn_at_smoke_scale(tmp_path: Path) -> None:
    """And the last one again: with one network for features in place of another halfway."""
    store = synthetic.new_store(tmp_path)
    tables = [synthetic.table_of(path.stem, "smoke") for path in sorted(synthetic.GRIDS.glob("*.yaml"))]
    synthetic.full_study(store, tables)
    page, rivals = Page(report(store, tmp_path / "reports").read_text("utf-8")), len(TERMS.built_in) - len(OWN_KEYS)
    assert Counter(tag for tag, _ in page.elements)["svg"] == len(tables) + 4 + rivals  # REPA, iREPA, SARA, SoftREPA
    assert "mixes protocols" not in page.text
    for run in tables[-1].runs[::2]:
        synthetic.write_measurement(store, run, 5.0, {"features": "classifier-digits-ffffffffffff"})
    mixed = Page(make_report(store, tables[-1:], tmp_path / "mixed").read_text(encoding="utf-8"))
    assert "mixes protocols" in mixed.text


def test_lengths_that_are_stood_in_for_are_said(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table5")
    synthetic.full_study(store, [table])
    page = Page(make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8"))
    assert "Here 1,280 steps stand for the paper’s 800 epochs, 1,920 for 1,400." in page.text
    assert "640, 1,280 and 1,920 steps stand for 80, 800 and 1,400 of the paper’s epochs" in page.text
    assert "The paper's epochs are unequal" in page.text.replace("’", "'")
    plain = Page(make_report(store, [synthetic.table_of("table2")], tmp_path / "page").read_text(encoding="utf-8"))
    assert "epochs stand for the paper’s" not in plain.text


def test_the_command_and_the_runs_are_listed(full_page: Page) -> None:
    assert "harness run grids/table4.yaml --scale digits --study synthetic" in full_page.text
    for run in synthetic.table_of("table2").runs:
        assert run.train_id in full_page.text
        assert run.eval_id in full_page.text


def test_a_report_needs_a_study(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no study here"):
        report(synthetic.new_store(tmp_path), tmp_path / "reports")
    assert not (tmp_path / "reports").exists()


PROGRAM = """
import sys
from pathlib import Path
from harness.report.rendering.page import report
from harness.store.store import Store
folder = Path(sys.argv[1])
report(Store(folder / "results", folder / "scratch", "synthetic"), folder / "reports")
loaded = sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "torchvision", "timm", "sklearn"})
print(loaded, sorted(name for name in sys.modules if name.startswith("harness.measure")))
"""


def test_the_report_has_equal_bytes_in_any_process_and_folder_and_needs_no_torch(tmp_path: Path) -> None:
    store = synthetic.new_store(tmp_path / "first")
    synthetic.full_study(store, [synthetic.table_of(name) for name in TABLES])
    run = synthetic.cell_of(synthetic.table_of("table2"), "Hinge", "dispersive").runs[0]
    store.eval_path(run.train_id, run.eval_id).unlink()
    shutil.copytree(tmp_path / "first", tmp_path / "second" / "elsewhere")
    pages = []
    for folder, seed in ((tmp_path / "first", "1"), (tmp_path / "second" / "elsewhere", "2")):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        words = [sys.executable, "-c", PROGRAM, str(folder)]
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "[] []\n"), done.stderr
        target = folder / "reports" / "synthetic"
        pages.append({p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()})
    assert pages[0] == pages[1]
    names = ["index.html", "report.json", "results.csv", "summary.md", "tables/all.tex", "tables/table1.md"]
    assert set(names) < set(pages[0])
    assert not [name for name, content in pages[0].items() if str(tmp_path).encode() in content]
    headings = re.findall(r"<h2>(.*?)</h2>", pages[0]["index.html"].decode())
    assert [re.split(r"\.| <", heading)[0] for heading in headings[:4]] == [
        "Table 2", "Table 3", "Table 4", "FID over training",
    ]  # fmt: skip


def test_figures_as_pdf_are_in_the_colours_of_print_and_go_when_they_are_not_asked_for(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2")
    synthetic.full_study(store, [table])
    path, pdf = tmp_path / "page" / "index.html", tmp_path / "page" / "figures" / "table2.pdf"
    make_report(store, [table], path.parent, pdf=True)
    content, page = pdf.read_bytes(), path.read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/CIDFontType2" in content
    assert b"CreationDate" not in content
    streams = re.findall(rb"FlateDecode[^\n]*\nstream\n(.*?)\nendstream", content, re.DOTALL)
    drawn_in = b"".join(zlib.decompress(part) for part in streams)
    blue = " ".join(f"{value / 255:.10f}".rstrip("0") for value in bytes.fromhex(PRINTED["arm-1"][1:]))
    assert f"{blue} rg".encode() in drawn_in
    make_report(store, [table], path.parent, pdf=True)
    assert pdf.read_bytes() == content
    make_report(store, [table], path.parent)
    assert not pdf.exists()
    assert path.read_bytes() == page
    result = CliRunner().invoke(cli, ["report", "synthetic", "--pdf", "--watch"])
    assert isinstance(result.exception, UserError)


def test_figures_beside_the_page_stand_alone(tmp_path: Path) -> None:
    store, tables = synthetic.new_store(tmp_path), [synthetic.table_of(name) for name in TABLES]
    synthetic.full_study(store, tables)
    make_report(store, tables, tmp_path / "page")
    files = list((tmp_path / "page" / "figures").iterdir())
    assert {file.stem for file in files} == FIGURES
    for file in files:
        content = file.read_text(encoding="utf-8")
        assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in content


def test_the_page_has_all_three(tmp_path: Path) -> None:
    store, table = guided(tmp_path, 0.05, 0.0)
    surface_of(tmp_path, ("1.0", "0.5"), ("1.0", "1.0"))
    tables = [table, synthetic.table_of("table4", "digits", SEEDS)]
    for run in tables[1].runs:
        tau = float(run.train.regularizer.tau) if run.train.regularizer else None
        blown_up = {"overshoot": 17.4, "distance_start": 0.25, "tau": tau} if tau == 2.0 else {}
        line = json.dumps({"step": 20, "denoising": tau, **blown_up} if tau else {})
        synthetic.write_text(store.run_folder(run.train_id) / "train.jsonl", f"{line}\n")
    page = make_report(store, tables, tmp_path / "page").read_text(encoding="utf-8")
    for words in (
        '<section id="guidance">',
        '<section id="surfaces">',
        '<section id="pruning">',
        "on the edge of the grid",
        "λ 0.5 · τ 2.0: D has grown 17-fold in 20 steps; τ = 2 is 8 times the features",
    ):
        assert words in page
    assert page.count("D has grown") == 3  # of the arms with that τ, each once
    assert page == make_report(store, tables, tmp_path / "again").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", ["report one", "collect one", "bundle one", "report --compare one two"])
@pytest.mark.parametrize("link", ["{target}", "{target}/tables", "{target}/runs"])
def test_no_command_writes_a_report_through_a_link(words: str, link: str, tmp_path: Path) -> None:
    table = synthetic.table_of("table3")
    for study in ("one", "two"):
        synthetic.full_study(synthetic.new_store(tmp_path, study), [table], pictures=lambda _: None)
    elsewhere, target = tmp_path / "elsewhere", "one-and-two" if "--compare" in words else "one"
    elsewhere.mkdir()
    (elsewhere / "page.html").write_text("mine", encoding="utf-8")
    place = tmp_path / "reports" / link.format(target=target)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(elsewhere)
    folders = ["--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports")]
    output = ["--output", str(tmp_path / "one.zip")] if "bundle" in words else []
    done = CliRunner().invoke(cli, [*words.split(), *folders, *output])
    assert isinstance(done.exception, UserError)
    assert f"{place}: a link to {elsewhere}" in str(done.exception)
    assert [path.read_text(encoding="utf-8") for path in elsewhere.iterdir()] == ["mine"]
