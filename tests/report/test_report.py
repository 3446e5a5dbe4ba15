"""The reading side: numbers against values worked out by hand, and every gap shown with its own words."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from PIL import Image
from support import synthetic_study as synthetic
from support.html_page import Page
from support.places import ROOT
from support.swept_studies import SEEDS, guided, surface_of
from support.synthetic_study import pivot_cell, pivot_of, write_values

from harness.cli import cli
from harness.config.grid import load_table
from harness.config.settings import SamplerSettings
from harness.config.spec import Process
from harness.errors import UserError
from harness.planning.plan import study_tables
from harness.report.figures.sample_pairs import sample_strips
from harness.report.figures.svg import DRAWN, PRINTED
from harness.report.figures.table_figure import drawn, our_look, picture, value_axis
from harness.report.rendering.captions import (
    SAMPLERS,
    mixed_sentences,
    one_run_sentences,
    planned_sentences,
    tap_note,
    taps_sentence,
)
from harness.report.rendering.our_choices import fixed_choices, stated_choices
from harness.report.rendering.page import make_report, report
from harness.report.rendering.study_summary import PROCESS_WORDS, facts, heading

TABLES = ("table2", "table3", "table4", "convergence")
FIGURES = {*TABLES, *(f"{name}-planes" for name in TABLES), "table3-surface", "table4-surface", "convergence-training"}


@pytest.fixture(scope="module")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("full")
    store, tables = synthetic.new_store(folder), [synthetic.table_of(name) for name in TABLES]
    synthetic.full_study(store, tables)
    return Page(make_report(store, tables, folder / "reports").read_text(encoding="utf-8"))


# Numbers


# Gaps


def test_what_the_paper_does_not_publish_is_said(full_page: Page) -> None:
    table4 = synthetic.table_of("table4")
    unpublished = sum(table4.paper(cell) is None for cell in table4.cells)
    assert unpublished == 11
    assert full_page.text.count("not available to us") == unpublished
    assert full_page.text.count("not in the paper") == 6  # of the convergence: epochs 0, 20 and 40, two arms


def test_a_row_of_ours_is_not_said_to_be_the_papers(tmp_path: Path) -> None:
    shutil.copytree(synthetic.GRIDS, tmp_path / "grids")
    grid = tmp_path / "grids" / "table3.yaml"
    text = grid.read_text(encoding="utf-8")
    grid.write_text(f"{text}\nours: {{block: [all]}}\n", encoding="utf-8")
    table = load_table(grid, "digits")
    assert [table.is_ours(cell) for cell in table.cells] == [False] * 5 + [True]
    grid.write_text(f"{text}\nours: {{block: [al]}}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"ours\.block: .*did you mean 'all'"):
        load_table(grid, "digits")


def test_a_study_that_never_ran_is_a_page_of_gaps(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2")
    page = Page(make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8"))
    assert "all 26 runs of this table: no job has begun this run" in page.text
    assert "Nothing of this table has been measured yet." in page.text
    assert not [tag for tag, _ in page.elements if tag in ("svg", "img")]


# Protocols


def test_protocols_are_never_mixed_silently(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    write_values(store, table, {"none": {0: 5.0, 1: 5.0}, "all": {0: 4.0, 1: 4.0}, "1 of 12": {0: 4.0, 1: 4.0}})
    other = {"features": "classifier-digits-ffffffffffff", "generated": 500}
    synthetic.write_measurement(store, synthetic.cell_of(table, "all").runs[0], 0.1, other)
    for run in synthetic.cell_of(table, "12 of 12").runs:
        synthetic.write_measurement(store, run, 0.2, other)
    laid_out = pivot_of(store, table)
    inside, whole = pivot_cell(laid_out, "all"), pivot_cell(laid_out, "12 of 12")
    assert inside.mixed
    assert inside.ours is None
    assert inside.change is None
    assert whole.ours
    assert whole.change is None
    assert not whole.is_best
    assert mixed_sentences(laid_out) == [
        "a: features classifier-digits-1a2b3c4d5e6f, images 1000 (5 values)",
        "b: features classifier-digits-ffffffffffff, images 500 (3 values)",
    ]
    page = Page(make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8"))
    assert "This table mixes protocols." in page.text
    assert "the baseline was measured otherwise" in page.text
    assert "other protocol" in page.text


def test_one_protocol_is_one_sentence(full_page: Page) -> None:
    assert "mixes protocols" not in full_page.text
    table = synthetic.table_of("table2")
    intervals = table.runs[0].evaluation.sampler.intervals
    said = re.sub(r"\s+", " ", full_page.text)
    assert "of 1,000 images with balanced labels against 1,437 images of digits/train" in said
    assert f"{intervals} intervals, {2 * intervals} network evaluations an image" in said


# The page


HOSTILE = '<script>alert("x")</script> & $\\frac{1}{2}$ {{ 7 * 7 }} </svg></style>'


def test_markup_and_formulas_in_names_and_reasons_are_text(tmp_path: Path) -> None:
    shutil.copytree(synthetic.GRIDS, tmp_path / "grids")
    grid = tmp_path / "grids" / "table3.yaml"
    quoted = "'" + HOSTILE + "'"
    text = grid.read_text(encoding="utf-8").replace("block: all", f"block: {quoted}").replace(", all]", f", {quoted}]")
    grid.write_text(text.replace("    all: {", f"    {quoted}: {{"), encoding="utf-8")
    store, table = synthetic.new_store(tmp_path), load_table(grid, "digits")
    write_values(store, table, {"none": {0: 5.0}, HOSTILE: {0: 4.0}})
    synthetic.write_error(store, synthetic.cell_of(table, "1 of 12").runs[0], "error", HOSTILE)
    html = make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8")
    page = Page(html)
    tags = Counter(tag for tag, _ in page.elements)
    assert tags["script"] == html.count("</script>") == 1
    assert tags["style"] == html.count("</style>") == 1
    assert tags["svg"] == html.count("</svg>") == 2  # the figure, and the plane of precision and recall
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
    assert tags["table"] == tags["caption"] == 2 + 1 + 2 * 4 + 1  # summary, objectives, tables and their tests, runs
    assert all("scope" in attributes for tag, attributes in full_page.elements if tag == "th")
    assert all(attributes["alt"] for tag, attributes in full_page.elements if tag == "img")
    labels = [attributes["aria-label"] for tag, attributes in full_page.elements if tag == "svg"]
    assert [label.partition(":")[0] for label in labels] == [
        *["FID of each cell", "Recall and precision of each cell"] * 3,
        "FID of each cell", "FID over training, by step. baseline", "Recall and precision of each cell",
        *["FID with its 95% interval"] * 2,  # of blocks, and of λ and τ
    ]  # fmt: skip
    assert labels[0].startswith("FID of each cell: baseline 4.79; ")


def test_the_paper_s_numbers_stand_beside_ours(full_page: Page) -> None:
    said = full_page.text.replace("\u202f", " ")
    for words in ("43.66", "+19.65 %", "32.35", "−11.35 %", "32.05", "−12.17 %", "L, secondary", "M, secondary"):
        assert words in said
    assert "high confidence; source: the paper" in " ".join(full_page.all("title"))


def test_readings_are_named_where_a_run_uses_them(full_page: Page, tmp_path: Path) -> None:
    for key in ("gap", "epsilon", "offdiagonal", "normalization"):
        assert f"regularizer.{key}" in full_page.text
    page = make_report(synthetic.new_store(tmp_path), [synthetic.table_of("convergence")], tmp_path).read_text("utf-8")
    assert "Our readings" not in page


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("convergence", {}),
        ("table3", {"Several blocks": "2 trainings"}),
        ("table7a", {"λ, τ and block with MeanFlow": "6 trainings"}),
        (
            "table7b",
            {
                "λ, τ and block with MeanFlow": "2 trainings",
                "Sizes of the steps in shortcut models": "2 trainings",
                "Labels and scale in IMM": "2 trainings",
                "The network of iCT": "2 trainings",
            },
        ),
        (
            "table2",
            {
                "Means for sums in the covariance loss": "6 trainings",
                "Pairs of a contrastive loss": "16 trainings",
                "j ≠ i in the contrastive hinge": "4 trainings",
                "Distance of the hinge": "6 trainings",
                "Labels of the two views": "16 trainings",
                "Denoising on the first view only": "16 trainings",
                "Restricted noise": "8 trainings",
                "λ and τ of contrastive losses": "16 trainings",
                "λ and τ of the other dispersive losses": "6 trainings",
            },
        ),
    ],
)
def test_fixed_readings_are_shown_for_the_runs_that_depend_on_them(
    tmp_path: Path, name: str, expected: dict[str, str]
) -> None:
    """Counted by hand: two seeds; Table 2 has four losses with two contrastive forms and a dispersive one each.

    Of Table 7a's four dispersive runs two are one training at two of its epochs.
    """
    table = synthetic.table_of(name)
    found = {choice.subject: choice for choice in fixed_choices(table.runs)}
    assert {subject: reading.runs for subject, reading in found.items()} == expected
    page = make_report(synthetic.new_store(tmp_path), [table], tmp_path).read_text("utf-8")
    subjects = [choice["subject"] for choice in stated_choices()]
    shown = [subject for subject in subjects if f"<dt>{subject}</dt>" in page]
    assert shown == [subject for subject in subjects if subject in expected]
    assert all(reading.sentence in page for reading in found.values())


def test_table_1_says_that_ours_takes_means(full_page: Page) -> None:
    said = re.sub(r"\s+", " ", full_page.text)
    assert "Where the covariance loss sums over features, as the paper prints it, ours takes means" in said


def test_a_scale_that_means_nothing_says_so(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2", "smoke")
    synthetic.full_study(store, [table])
    page = Page(make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8"))
    assert "These numbers mean nothing." in page.text
    assert "Better than our baseline" not in page.text
    assert "One seed, and so no spread." in page.text


def test_every_shipped_grid_is_drawn_at_smoke_scale(tmp_path: Path) -> None:
    """Twice: measured as it asks, and with one network for features in place of another halfway."""
    store = synthetic.new_store(tmp_path)
    tables = [synthetic.table_of(path.stem, "smoke") for path in sorted(synthetic.GRIDS.glob("*.yaml"))]
    synthetic.full_study(store, tables)
    page = Page(report(store, tmp_path / "reports").read_text(encoding="utf-8"))
    assert Counter(tag for tag, _ in page.elements)["svg"] == len(tables)
    assert "mixes protocols" not in page.text
    for run in tables[-1].runs[::2]:
        synthetic.write_measurement(store, run, 5.0, {"features": "classifier-digits-ffffffffffff"})
    assert "mixes protocols" in Page(report(store, tmp_path / "reports").read_text(encoding="utf-8")).text


def test_every_sampler_and_process_has_its_words() -> None:
    assert set(SAMPLERS) == set(get_args(SamplerSettings.model_fields["method"].annotation))
    assert set(PROCESS_WORDS) == set(get_args(Process))


def test_sampling_is_said_in_the_words_of_its_process(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table7a")
    synthetic.full_study(store, [table])
    laid_out = pivot_of(store, table)
    one_step = "MeanFlow sampler, 1 step, one network evaluation an image in fp32, guidance"
    assert planned_sentences(laid_out) == [
        ("a", f"{one_step} ω = 1, κ = 0.5 in the training target"),
        ("b", f"{one_step} ω = 0.2, κ = 0.92, t from 0 to 0.75 in the training target"),
    ]
    assert not laid_out.mixes
    assert mixed_sentences(laid_out) == []


def test_a_figure_s_four_ways_of_sampling_are_no_mixture(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("figure4")
    synthetic.full_study(store, [table])
    laid_out = pivot_of(store, table)
    assert [sentence.partition(" an image")[0] for _, sentence in planned_sentences(laid_out)] == [
        "DDPM ancestral sampler, 25 steps, 25 network evaluations",
        "DDPM ancestral sampler, 25 steps, 50 network evaluations",
        "Heun ODE sampler, 12 intervals, 24 network evaluations",
        "Heun ODE sampler, 12 intervals, 48 network evaluations",
    ]
    assert all(cell.change or cell.is_baseline for cell in laid_out.cells)
    assert all(drawn(laid_out, cell) for cell in laid_out.cells)
    assert mixed_sentences(laid_out) == []
    page = Page(make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8"))
    assert "Figure 4. DiT and SiT from S to XL" in page.text
    assert "model · guidance" in page.text
    assert "SiT-XL/2 · without guidance" in page.text
    path = store.eval_path(table.runs[0].train_id, table.runs[0].eval_id)
    path.write_text(path.read_text(encoding="utf-8").replace('"nfe": 25', '"nfe": 26'), encoding="utf-8")
    assert pivot_of(store, table).mixes


# Small networks and small differences


def test_cells_say_which_block_was_tapped_and_which_are_one_training(tmp_path: Path) -> None:
    for scale, notes, shared in (
        ("digits", ["", "= block 1 of 6", "= block 2 of 6", "= block 4 of 6", "= block 6 of 6", "= all 6 blocks"], []),
        (
            "smoke",
            ["", "= block 1 of 4", "= block 1 of 4", "= block 3 of 4", "= block 4 of 4", "= all 4 blocks"],
            ["“block 1 of 12” and “block 3 of 12 (default)” are the same run at this scale, and so one number."],
        ),
    ):
        store, table = synthetic.new_store(tmp_path / scale), synthetic.table_of("table3", scale)
        laid_out = pivot_of(store, table)
        assert [tap_note(laid_out, cell) for cell in laid_out.cells] == notes
        assert one_run_sentences(laid_out) == shared
        page = Page(make_report(store, [table], tmp_path / scale).read_text(encoding="utf-8"))
        assert all(sentence in page.text for sentence in [*notes, *shared])


def test_where_all_cells_tap_one_block_the_caption_says_it(tmp_path: Path) -> None:
    def sentence(name: str) -> str:
        return taps_sentence(pivot_of(synthetic.new_store(tmp_path), synthetic.table_of(name)))

    assert sentence("table2") == "The regulariser acts on the output of block 2 of 6."
    assert sentence("table3") == ""
    assert sentence("table7a") == (
        "The regulariser acts on the output of block 2 of 6 (MF-B/4, MF-B/2) and block 3 of 10 (MF-XL/2)."
    )


def _tile_colours(svg: str) -> set[str]:
    return set(re.findall(r'<path[^>]*style="fill: (#[0-9a-f]{6})', svg))


def test_tiny_changes_are_pale_in_the_heat_map(tmp_path: Path) -> None:
    """The lightness of the strongest tile, where the largest change is 0.01 % and where it is 20 %."""
    darkest = []
    for step in (0.0001, 0.2):
        store, table = synthetic.new_store(tmp_path / str(step)), synthetic.table_of("table4")
        for index, cell in enumerate(table.cells):
            for run in cell.runs:
                synthetic.write_measurement(store, run, 5.0 if cell.aside else 5.0 * (1 - step * (index % 2)))
        drawing = picture(pivot_of(store, table))
        assert drawing
        assert drawing.kind == "heat"
        darkest.append(min(sum(bytes.fromhex(colour[1:])) for colour in _tile_colours(drawing.svg)) / 765)
    assert darkest[0] > 0.95
    assert darkest[1] < 0.6


@pytest.mark.parametrize("values", [(45.4966, 45.4994), (4.0, 4.7), (0.0010, 0.0012), (30.0, 95.0), (5.0, 5.0)])
def test_ticks_of_a_narrow_range_are_few_different_and_true(tmp_path: Path, values: tuple[float, float]) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3", "smoke")
    write_values(store, table, {"none": {0: values[0]}, "all": {0: values[1]}})
    axes = Figure().add_subplot()
    with our_look(DRAWN):
        value_axis(axes, pivot_of(store, table))
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    labels = axes.xaxis.get_major_formatter().format_ticks(ticks)
    assert 2 <= len(ticks) <= 6
    assert [float(label) for label in labels] == pytest.approx(ticks, rel=1e-9)
    assert max(map(len, labels)) <= 7
    assert high - low >= 0.0199 * values[1]


def test_the_heat_map_s_axis_names_stand_upright(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table4")
    synthetic.full_study(store, [table])
    drawing = picture(pivot_of(store, table))
    assert drawing
    assert re.search(r"<text[^>]*>λ</text>", drawing.svg)
    assert "rotate(-90" not in drawing.svg


def test_lengths_and_names_read_as_meant(tmp_path: Path) -> None:
    tables = [synthetic.table_of(name) for name in ("convergence", "figure4", "table7a")]
    assert [table.name_in_words for table in tables] == ["FID over training", "Figure 4", "Table 7a"]
    assert [heading(table) for table in tables] == [
        "FID over training",
        "Figure 4. DiT and SiT from S to XL",
        "Table 7a. MeanFlow, one network evaluation",
    ]
    store = synthetic.new_store(tmp_path)
    said = {fact.term: fact.words for fact in facts([pivot_of(store, tables[0])])}
    assert said["Length"] == "0, 160, 320 and 640 steps stand for 0, 20, 40 and 80 of the paper’s epochs"
    said = {fact.term: fact.words for fact in facts([pivot_of(store, tables[1])])}
    assert said["Networks"].startswith("6 blocks of width 32 with 2 heads, patch 4, stand for DiT-S/2 and SiT-S/2; ")
    assert said["Processes"] == (
        "DiT: DDPM of 1,000 steps; the network predicts the noise and the variance; "
        "SiT: flow matching on straight paths; the network predicts the velocity"
    )


def test_lengths_that_are_stood_in_for_are_said(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table5")
    synthetic.full_study(store, [table])
    page = Page(make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8"))
    assert "Here 1,280 steps stand for the paper’s 800 epochs, 1,920 for 1,400." in page.text
    assert "640, 1,280 and 1,920 steps stand for 80, 800 and 1,400 of the paper’s epochs" in page.text
    assert "The paper's epochs are unequal" in page.text.replace("’", "'")
    plain = Page(make_report(store, [synthetic.table_of("table2")], tmp_path / "page").read_text(encoding="utf-8"))
    assert "epochs stand for the paper’s" not in plain.text


def test_the_noise_levels_of_guidance_are_said(tmp_path: Path) -> None:
    store = synthetic.new_store(tmp_path)
    for bounds, said in (
        (["guidance_from=0.2", "guidance_to=2"], "0.2 < σ ≤ 2"),
        (["guidance_to=2"], "σ ≤ 2"),
        (["guidance_from=0.2"], "0.2 < σ"),
    ):
        table = synthetic.table_of("figure4", "smoke", *[f"sampler.{bound}" for bound in bounds])
        synthetic.full_study(store, [table])
        laid_out = pivot_of(store, table)
        ways = [sentence.rpartition(", ")[2] for _, sentence in planned_sentences(laid_out)]
        assert ways == ["no guidance", f"guidance 1.5 on all channels at {said}"] * 2
        assert not laid_out.mixes


def test_tables_come_before_figures_and_both_before_our_own(tmp_path: Path) -> None:
    shutil.copytree(synthetic.GRIDS, tmp_path / "grids")
    ours = tmp_path / "grids" / "convergence.yaml"
    ours.write_text(ours.read_text(encoding="utf-8").replace("table: convergence", "table: early"), encoding="utf-8")
    store = synthetic.new_store(tmp_path)
    for name in ("convergence", "figure4", "table7a", "table2"):
        store.record_grid(name, tmp_path / "grids" / f"{name}.yaml", "smoke", [])
    assert [table.name for table in study_tables(store)] == ["table2", "table7a", "figure4", "convergence"]


def test_strips_are_of_one_seed_and_say_what_is_missing(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2")
    synthetic.full_study(store, [table])
    hinge = synthetic.cell_of(table, "Hinge", "dispersive").runs
    for run in hinge:
        picture = store.eval_path(run.train_id, run.eval_id).with_suffix(".png")
        picture.write_bytes(picture.read_bytes()[:-300])
    found = sample_strips(store, pivot_of(store, table))
    assert found
    names = [strip.name for strip in found.strips]
    losses = ("InfoNCE, ℓ2", "InfoNCE, cosine", "Hinge", "Covariance")
    assert names == ["baseline", *(f"{loss} · dispersive" for loss in losses)]
    sheets = [strip.sheet for strip in found.strips]
    assert [bool(sheet) for sheet in sheets] == [True, True, True, False, True]
    assert found.strips[3].missing == "the picture of its samples is unreadable"
    first = sheets[0]
    assert first
    assert first.alt == "20 samples of baseline, seed 0, in 2 rows of 10"
    assert (first.width, first.height, first.pixelated) == (80, 16, True)
    with Image.open(io.BytesIO(base64.b64decode(first.uri.partition(",")[2]))) as image:
        assert image.tobytes() == synthetic.noise_picture(0).tobytes()


def test_the_command_and_the_runs_are_listed(full_page: Page) -> None:
    assert "harness run grids/table4.yaml --scale digits --study synthetic" in full_page.text
    for run in synthetic.table_of("table2").runs:
        assert run.train_id in full_page.text
        assert run.eval_id in full_page.text


# The study


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
    assert [heading.partition(".")[0] for heading in headings[2:7]] == [
        "Table 1", "Table 2", "Table 3", "Table 4", "FID over training",
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
    asked = CliRunner().invoke(cli, ["report", "synthetic", "--pdf", "--watch"])
    assert isinstance(asked.exception, UserError)


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
        line = json.dumps(
            {"step": 20, "denoising": float(run.train.regularizer.tau or 1)} if run.train.regularizer else {}
        )
        synthetic.write_text(store.run_folder(run.train_id) / "train.jsonl", f"{line}\n")
    page = make_report(store, tables, tmp_path / "page").read_text(encoding="utf-8")
    for words in (
        '<section id="guidance">',
        '<section id="surfaces">',
        '<section id="pruning">',
        "on the edge of the grid",
    ):
        assert words in page
    assert page == make_report(store, tables, tmp_path / "again").read_text(encoding="utf-8")
