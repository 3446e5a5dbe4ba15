"""The protocol of every number: what differs unasked shows in words, and what a label varies does not."""

import shutil
from pathlib import Path

from support import synthetic_study as synthetic
from support.html_page import Page
from support.synthetic_study import pivot_cell, pivot_of, write_values

from harness.config.grid import Table, load_table
from harness.report.analysis.pivot import Pivot, kind_of, pivot
from harness.report.analysis.statistics import Change
from harness.report.analysis.table_result import TableResult
from harness.report.reading.collect import collect
from harness.report.rendering.captions import (
    caption,
    caption_parts,
    in_one,
    mixed_sentences,
    one_run_sentences,
    planned_sentences,
    shared_parts,
    tap_note,
    taps_sentence,
    untold_sentences,
)
from harness.report.rendering.page import make_report
from harness.report.rendering.sheet import table_layout


def grids_with(folder: Path, name: str, *replaced: tuple[str, str]) -> Path:
    """A copy of the grids in which one file says something else; return the folder."""
    shutil.copytree(synthetic.GRIDS, folder / "grids")
    path = folder / "grids" / name
    text = path.read_text(encoding="utf-8")
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return folder / "grids"


def full_pivot(folder: Path, table: Table) -> Pivot:
    store = synthetic.new_store(folder)
    synthetic.full_study(store, [table])
    return pivot(table, collect(store, [table]))


def test_the_caption_says_how_numbers_were_drawn_measured_and_trained(tmp_path: Path) -> None:
    sentence = caption(full_pivot(tmp_path, synthetic.table_of("table3")))[0]
    for words in (
        "1,000 images with balanced labels",
        "1,437 images of digits/train (0123456789ab)",
        "classifier-digits-1a2b3c4d5e6f",
        "Heun ODE sampler, 12 intervals, 24 network evaluations an image in fp32, no guidance",
        "averaged (EMA) weights; trained with precision fp32, AdamW’s β (0.9, 0.95), EMA 0.98",
        "pairs among groups of 16.",
    ):
        assert words in sentence
    assert sentence.count(". ") == 0


def test_equal_protocols_are_no_mixture(tmp_path: Path) -> None:
    laid_out = full_pivot(tmp_path, synthetic.table_of("figure4"))
    assert (laid_out.mixes, mixed_sentences(laid_out), untold_sentences(laid_out)) == (False, [], [])


def test_trainings_that_differ_unasked_are_said_under_the_table(tmp_path: Path) -> None:
    """The scale gives one family another EMA, which no label of the table says."""
    grids = grids_with(tmp_path, "scales/digits.yaml", ("DiT: {sampler:", "DiT: {ema: 0.9, sampler:"))
    store, table = synthetic.new_store(tmp_path), load_table(grids / "figure4.yaml", "digits")
    synthetic.full_study(store, [table])
    laid_out = pivot(table, collect(store, [table]))
    (sentence,) = untold_sentences(laid_out)
    assert sentence.startswith("Not all were trained alike, though no label says so: EMA 0.9 in “DiT-S/2")
    assert "; 0.98 in “SiT-S/2" in sentence
    assert sentence in table_layout(TableResult(laid_out)).footnotes
    assert "EMA 0.9 and 0.98" in caption(laid_out)[0]
    assert sentence in make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8")


def test_what_a_label_varies_is_no_mixture(tmp_path: Path) -> None:
    """Two labels set the group, the EMA and the number of images."""
    labels = (
        ("7 of 12: {", "7 of 12: {regularizer.group: 32, ema: 0.9, evaluation.samples: 500, "),
        ("12 of 12: {", "12 of 12: {optimizer.beta2: 0.99, "),
    )
    table = load_table(grids_with(tmp_path, "table3.yaml", *labels) / "table3.yaml", "digits")
    store = synthetic.new_store(tmp_path)
    synthetic.full_study(store, [table])
    fewer = synthetic.cell_of(table, "7 of 12").runs
    for run in fewer:
        synthetic.write_measurement(store, run, 4.0, {"generated": 500})
    laid_out = pivot(table, collect(store, [table]))
    assert not laid_out.mixes
    assert untold_sentences(laid_out) == []
    assert [sentence.rpartition(", ")[2] for _, sentence in planned_sentences(laid_out)] == [
        "images 1000",
        "images 500",
    ]
    assert caption(laid_out)[0].endswith("This is protocol a; the letters say what differs.")


def test_the_same_difference_that_no_label_asks_for_is_a_mixture(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    for run in synthetic.cell_of(table, "7 of 12").runs:
        synthetic.write_measurement(store, run, 4.0, {"generated": 500, "autoencoder": "abcdef012345"})
    laid_out = pivot(table, collect(store, [table]))
    assert laid_out.mixes
    assert mixed_sentences(laid_out) == [
        "a: images 1000, autoencoder not said (10 values)",
        "b: images 500, autoencoder abcdef012345 (2 values)",
    ]


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
    assert all(laid_out.shows(cell) for cell in laid_out.cells)
    assert mixed_sentences(laid_out) == []
    page = Page(make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8"))
    assert "Figure 4. DiT and SiT from S to XL" in page.text
    assert "model · guidance" in page.text
    assert "SiT-XL/2 · without guidance" in page.text
    path = store.eval_path(table.runs[0].train_id, table.runs[0].eval_id)
    path.write_text(path.read_text(encoding="utf-8").replace('"nfe": 25', '"nfe": 26'), encoding="utf-8")
    assert pivot_of(store, table).mixes


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


def test_the_noise_levels_of_guidance_are_said(tmp_path: Path) -> None:
    store = synthetic.new_store(tmp_path)
    for bounds, words in (
        (["guidance_from=0.2", "guidance_to=2"], "0.2 < σ ≤ 2"),
        (["guidance_to=2"], "σ ≤ 2"),
        (["guidance_from=0.2"], "0.2 < σ"),
    ):
        table = synthetic.table_of("figure4", "smoke", *[f"sampler.{bound}" for bound in bounds])
        synthetic.full_study(store, [table])
        laid_out = pivot_of(store, table)
        ways = [sentence.rpartition(", ")[2] for _, sentence in planned_sentences(laid_out)]
        assert ways == ["no guidance", f"guidance 1.5 on all channels at {words}"] * 2
        assert not laid_out.mixes


def test_a_change_has_a_colour_where_its_interval_excludes_zero_and_it_prints_as_one(tmp_path: Path) -> None:
    laid_out = pivot_of(synthetic.new_store(tmp_path), synthetic.table_of("table3"))
    for p, kinds in ((0.01, ["better", "same", "same", "same", "worse"]), (0.2, ["same"] * 5), (None, ["same"] * 5)):
        changes = [Change(percent, None, (0,), paired=False, p=p) for percent in (-0.06, -0.04, 0.0, 0.04, 0.06)]
        assert [kind_of(laid_out, change) for change in changes] == kinds


def test_what_half_of_the_tables_share_is_said_once(tmp_path: Path) -> None:
    store, names = synthetic.new_store(tmp_path), ("table2", "table3", "table4", "table5")
    tables = [synthetic.table_of(name) for name in names]
    synthetic.full_study(store, tables)
    captions = [caption(pivot) for pivot in synthetic.pivots_of(store, tables)]
    shared = shared_parts(captions)
    once = in_one(shared.values())
    assert once.startswith("FID (lower is better) of 1,000 images")
    assert "Heun ODE sampler, 12 intervals, 24 network evaluations an image in fp32, no guidance, averaged" in once
    assert "The regulariser acts on the output of block 2 of 6." in once
    own = [{words for part, words in caption_parts(c).items() if shared.get(part) != words} for c in captions]
    assert own[:3] == [set(), set(), set()]
    assert own[3] == {
        "Here 1,280 steps stand for the paper’s 800 epochs, 1,920 for 1,400",
        "The regulariser acts on the output of block 3 of 10",
    }
