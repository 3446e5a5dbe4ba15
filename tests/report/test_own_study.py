"""A study of somebody's own, without a table or a number of the paper: its words are those of its grid."""

import re
from html import unescape
from pathlib import Path

import pytest
from support import synthetic_study as synthetic

from harness.config.grid import load_table
from harness.report.rendering.our_choices import CHOICES, sentence_of
from harness.report.rendering.page import make_report

GRID = (
    synthetic.DECAYS
    + """    slow: {ema: 0.98, regularizer.loss: hinge}
vary:
  - product: {decay: [fast, slow]}
claims: A slower average is better.
"""
)
OF_THE_PAPER = re.compile(r"\b(?:paper|Wang|Dispersive Loss|ours|unpublished|not available to us)\b|–", re.IGNORECASE)


def report_of(folder: Path, grid: str) -> Path:
    (folder / "mine.yaml").write_text(grid, encoding="utf-8")
    table, store = load_table(folder / "mine.yaml", "digits", ["seeds=[0,1,2]"]), synthetic.new_store(folder, "faces")
    synthetic.full_study(store, [table])
    return make_report(store, [table], folder / "out").parent


def words(page: str, *left_out: str) -> str:
    """What a page shows, without some of its sections."""
    for name in left_out:
        page = re.sub(rf'(?s)<section id="{name}">.*?</section>', " ", page)
    page = re.sub(r"(?s)<(style|script)>.*?</\1>|<p class=\"limits\">.*?</p>", " ", page)  # limits: words of the scale
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_of(tmp_path_factory.mktemp("own"), GRID)


def test_a_study_of_ones_own_speaks_of_its_grid_and_never_of_the_paper(out: Path) -> None:
    shown = words((out / "index.html").read_text(encoding="utf-8"))
    printed = {"index.html": shown} | {
        name: (out / name).read_text(encoding="utf-8")
        for name in (
            "summary.md",
            "tables/mine.md",
            "tables/mine.tex",
            "tables/mine.csv",
            "tables/table1.md",
            "tables/table1.tex",
        )
    }
    assert {name: OF_THE_PAPER.findall(text) for name, text in printed.items()} == {name: [] for name in printed}
    assert shown.startswith(" Two decays: study faces")
    names = CHOICES["settings"] | {choice["id"]: choice["sentence"] for choice in CHOICES["fixed"]}
    assert [name for name, words in names.items() if OF_THE_PAPER.search(sentence_of(name, words, False))] == []
    assert "How Cov is" not in shown  # no such loss
    assert "The margin ε is a choice. The setting is: margin" in shown
    terms = [line for line in printed["tables/table1.md"].splitlines() if line.endswith("trainings |")]
    assert [line.split(" | ")[0] for line in terms] == ["| Hinge, dispersive"]
    assert "The claim: A slower average is better. Here:" in shown
    assert "Does a slower moving average help?" in shown
    assert "| decay | value | change |" in printed["tables/mine.md"]
    assert r"\textbf{decay} & \textbf{value} & \textbf{change} \\" in printed["tables/mine.tex"]


def test_a_title_of_the_report_and_numbers_of_the_paper_stand_beside_ours(tmp_path: Path) -> None:
    paper = "paper: [{at: {decay: fast}, value: 36.49, source: paper, confidence: H}]"
    out = report_of(tmp_path, f"{GRID}report_title: Averages\n{paper}\n")
    assert words((out / "index.html").read_text(encoding="utf-8")).startswith(" Averages: study faces")
    table = (out / "tables/mine.md").read_text(encoding="utf-8")
    assert "| decay | ours | change | paper | its change |" in table
    assert "36.49 (H)" in table
    assert "not in the paper" in table
