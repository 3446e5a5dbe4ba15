"""The protocol of every number: what differs unasked shows in words, and what a label varies does not."""

import shutil
from pathlib import Path

from support import synthetic_study as synthetic

from harness.config.grid import Table, load_table
from harness.report.analysis.pivot import Pivot, pivot
from harness.report.reading.collect import collect
from harness.report.rendering.captions import mixed_sentences, planned_sentences, protocol_sentence, untold_sentences
from harness.report.rendering.page import make_report
from harness.report.rendering.sheet import sheet


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
    said = protocol_sentence(full_pivot(tmp_path, synthetic.table_of("table3")))
    for words in (
        "1,000 images with balanced labels",
        "1,437 images of digits/train (0123456789ab)",
        "classifier-digits-1a2b3c4d5e6f",
        "Heun ODE sampler, 12 intervals, 24 network evaluations an image in fp32, no guidance",
        "averaged (EMA) weights; trained with precision fp32, AdamW’s β (0.9, 0.95), EMA 0.98",
        "pairs among groups of 16.",
    ):
        assert words in said
    assert said.count(". ") == 0


def test_equal_protocols_are_no_mixture(tmp_path: Path) -> None:
    laid_out = full_pivot(tmp_path, synthetic.table_of("figure4"))
    assert (laid_out.mixes, mixed_sentences(laid_out), untold_sentences(laid_out)) == (False, [], [])


def test_trainings_that_differ_unasked_are_said_under_the_table(tmp_path: Path) -> None:
    """The scale gives one family another EMA, which no label of the table says."""
    grids = grids_with(tmp_path, "scales/digits.yaml", ("DiT: {sampler:", "DiT: {ema: 0.9, sampler:"))
    store, table = synthetic.new_store(tmp_path), load_table(grids / "figure4.yaml", "digits")
    synthetic.full_study(store, [table])
    laid_out = pivot(table, collect(store, [table]))
    (said,) = untold_sentences(laid_out)
    assert said.startswith("Not all were trained alike, though no label says so: EMA 0.9 in “DiT-S/2")
    assert "; 0.98 in “SiT-S/2" in said
    assert said in sheet(laid_out).footnotes
    assert "EMA 0.9 and 0.98" in protocol_sentence(laid_out)
    assert said in make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8")


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
    assert protocol_sentence(laid_out).endswith("This is protocol a; the letters say what differs.")


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
