"""Columns of facts: each from what a run left, against what it must say."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support import synthetic_study as synthetic

from harness.config.grid import Cell, Table, load_table
from harness.config.grid_file import FactName
from harness.errors import UserError
from harness.files import write_json
from harness.planning import flops
from harness.report.analysis.pivot import Pivot, pivot
from harness.report.reading.collect import collect
from harness.report.reading.run_facts import extra_share, in_short
from harness.report.rendering.page import make_report
from harness.store.store import Store

OWN = {
    "name": "own-vit", "parameters": 253_258, "sha256": "ab" * 32, "accuracy": 0.99155, "data": "digits",
    "images": 1442, "images_seen": 51_200,
}  # fmt: skip
DINO = {"name": "vit_base_patch14_dinov2.lvd142m", "parameters": 85_724_928, "sha256": "cd" * 32, "published": True}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return synthetic.new_store(tmp_path)


def write_facts(store: Store, cell: Cell, encoder: dict[str, object] | None, projector: int = 68_000) -> None:
    content = {"parameters": 674_816_272, "projector_parameters": projector if encoder else None, "encoder": encoder}
    for run in cell.runs:
        synthetic.write_measurement(store, run, 4.0 + run.seed)
        write_json(store.run_folder(run.train_id) / "facts.json", content)


def stated(laid_out: Pivot, label: str) -> list[str]:
    return [fact.words for cell in laid_out.cells if cell.row == label for fact in cell.facts]


def table_with(facts: list[FactName], name: str = "table6", scale: str = "digits") -> Table:
    table = synthetic.table_of(name, scale)
    return replace(table, file=table.file.model_copy(update={"facts": tuple(facts)}))


def test_table_six_states_what_each_run_used(store: Store) -> None:
    table = synthetic.table_of("table6")
    for label, encoder in (("SiT-XL/2", None), ("REPA", OWN), ("Dispersive", None)):
        write_facts(store, synthetic.cell_of(table, label), encoder)
    results = collect(store, [table])
    laid_out = pivot(table, results)
    assert stated(laid_out, "SiT-XL/2") == stated(laid_out, "Dispersive") == ["none", "none", "none"]
    assert stated(laid_out, "REPA") == [
        "35.5 epochs on digits, with labels", "321K (253K encoder, 68K projector)", "none"
    ]  # fmt: skip
    (sentence,) = laid_out.encoders
    assert sentence.startswith(
        "The output of block 3 of 10 is aligned with a ViT of 253K parameters that learned the labels of digits for "
        "35.5 epochs (99.2% test accuracy)."
    )
    assert not any("fact" in key for result in results for key in result.protocol)
    assert not laid_out.mixes
    page = make_report(store, [table], store.root / "report").read_text()
    for words in (
        '<th scope="col">pre-training</th><th scope="col">extra parameters</th><th scope="col">external data</th>',
        '<td class="fact">35.5 epochs on digits, with labels',
        "142M images <abbr",
        sentence,
        "clip gradients to norm 1",
    ):
        assert words in page


@pytest.mark.parametrize(
    ("encoder", "data", "external", "pretraining"),
    [
        (DINO, "imagenet256", "142M images (LVD-142M)", "distilled from a ViT-g of 1.1B"),
        (DINO | {"published": False}, "imagenet256", "not known to us", "not known to us"),
        (DINO | {"name": "vit_base_patch16_224.tag_of_nobody"}, "imagenet256", "not known to us", "not known to us"),
        (DINO | {"name": "vit_base_patch16_224.mae"}, "imagenet256", "none", "masked autoencoder"),
        (DINO | {"name": "vit_base_patch16_224.mae"}, "digits", "1.28M images (ImageNet-1k)", "epochs not known to us"),
        (OWN | {"data": "cifar10"}, "cifar10", "none", "on cifar10, with labels"),
    ],
)
def test_external_data_are_the_encoders_and_not_the_data_sets_own(
    store: Store, encoder: dict[str, object], data: str, external: str, pretraining: str
) -> None:
    table = synthetic.table_of("table6", "cifar10" if data == "cifar10" else data)
    write_facts(store, synthetic.cell_of(table, "REPA"), encoder, 8_131_328)
    pretraining_words, extra, images = stated(pivot(table, collect(store, [table])), "REPA")
    assert pretraining in pretraining_words
    assert images == external
    if encoder["parameters"] == DINO["parameters"]:
        assert extra == "93.9M (85.7M encoder, 8.13M projector)"


def test_table_eight_states_what_each_term_costs(store: Store) -> None:
    """Of the paper's networks: counted from the specs, and the parameters from what the runs recorded."""
    table = synthetic.table_of("table8", "imagenet256")
    for label, encoder, own in (
        ("none", None, None), ("Dispersive", None, None), ("LayerSync", None, None), ("SRA", None, 2_361_600),
        ("SRA 2", None, 8_288_272), ("REPA", DINO, 7_344_896), ("Dispersive + SRA", None, 2_361_600),
    ):  # fmt: skip
        content: dict[str, object] = {"parameters": 130_000_000, "projector_parameters": own, "encoder": encoder}
        for run in synthetic.cell_of(table, label).runs:
            synthetic.write_measurement(store, run, 30.0)
            write_json(store.run_folder(run.train_id) / "facts.json", content)
    for run in synthetic.cell_of(table, "SoftREPA, a reading").runs:
        synthetic.write_measurement(store, run, 30.0)
        write_json(store.run_folder(run.train_id) / "facts.json", content | {"projector_parameters": 10_137_600})
    laid_out = pivot(table, collect(store, [table]))
    assert stated(laid_out, "SoftREPA, a reading") == [
        "10.1M", "4 (whole network, in a second phase)", "13.73% of the first phase", "none", "none",
    ]  # fmt: skip
    teacher = "1 (blocks 1 to 8 of 12, no gradient)"
    assert stated(laid_out, "none") == stated(laid_out, "LayerSync") == ["none"] * 5
    assert stated(laid_out, "Dispersive") == ["none", "none", "under 0.01%", "none", "none"]
    assert stated(laid_out, "SRA") == ["2.36M", teacher, "24.85%", "none", "none"]
    assert stated(laid_out, "SRA 2") == ["8.29M", "none", "9.22%", "none", "none"]
    assert stated(laid_out, "Dispersive + SRA") == ["2.36M", teacher, "24.86%", "none", "none"]
    assert stated(laid_out, "REPA") == [
        "93.1M (85.7M encoder, 7.34M projector)", "1 (encoder)", "41.74%",
        "self-supervised; the smaller models distilled from a ViT-g of 1.1B parameters; epochs not known to us",
        "142M images (LVD-142M)",
    ]  # fmt: skip


def test_seeds_that_disagree_say_so_and_what_is_missing_is_missing(store: Store) -> None:
    table = synthetic.table_of("table6")
    repa, baseline = synthetic.cell_of(table, "REPA"), synthetic.cell_of(table, "SiT-XL/2")
    write_facts(store, repa, OWN)
    write_json(
        store.run_folder(repa.runs[1].train_id) / "facts.json",
        {"parameters": 1, "projector_parameters": 68_000, "encoder": OWN | {"images_seen": 1442}},
    )
    synthetic.write_measurement(store, baseline.runs[0], 4.0)
    laid_out = pivot(table, collect(store, [table]))
    assert stated(laid_out, "REPA")[0] == (
        "35.5 epochs on digits, with labels (seed 0); 1 epoch on digits, with labels (seed 1)"
    )
    assert len(laid_out.encoders) == 2
    assert stated(laid_out, "SiT-XL/2") == ["none", "none", "none"]
    assert stated(laid_out, "Dispersive") == ["", "", ""]
    assert (
        '<td class="fact"><span class="state">not run</span>'
        in make_report(store, [table], store.root / "report").read_text()
    )
    for run in repa.runs:
        (store.run_folder(run.train_id) / "facts.json").write_text("{")
    assert stated(pivot(table, collect(store, [table])), "REPA") == ["not recorded"] * 3


def test_parameters_steps_and_evaluations_are_those_of_sampling(store: Store) -> None:
    table = table_with(["parameters", "steps", "NFE"])
    write_facts(store, synthetic.cell_of(table, "Dispersive"), None)
    laid_out = pivot(table, collect(store, [table]))
    assert stated(laid_out, "Dispersive") == ["675M", "12", "24"]  # guidance doubles the evaluations of 12 steps


@pytest.mark.parametrize(
    ("count", "words"),
    [(999, "999"), (1000, "1K"), (999_499, "999K"), (999_500, "1M"), (86_580_480, "86.6M"), (1_136_480_768, "1.14B")],
)
def test_counts_in_short(count: int, words: str) -> None:
    assert in_short(count) == words


GRID = """
table: x
title: t
question: q
rows: a
{extra}
base: {{preset: paper, model: SiT-B/2, epochs: 1, sampler: {{method: heun}}}}
axes: {{a: {{"1": {{regularizer.loss: none}}}}, b: {{"2": {{}}}}}}
vary: [{{row: {{a: "1", b: "2"}}}}]
paper:
  - at: {{a: "1", b: "2"}}
    value: 1.0
    source: paper
    confidence: H
    facts: {{NFE: {{says: 1, source: paper, confidence: H}}}}
"""


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("facts: [parameters]", r"x.yaml:1\d: paper.0.facts.NFE: 'NFE' is no column of this table; add it to facts"),
        ("facts: [NFE]\ncolumns: b", r"x.yaml:5: facts: they belong to rows; a table with columns has no place"),
        ("facts: [nfe]", "x.yaml:5: facts.0: 'nfe' is not legal; legal: NFE, external data, extra operations, extra p"),
    ],
)
def test_a_grid_that_misplaces_facts_is_refused(tmp_path: Path, extra: str, message: str) -> None:
    for folder in ("scales", "presets"):
        shutil.copytree(synthetic.GRIDS / folder, tmp_path / folder)
    path = tmp_path / "x.yaml"
    path.write_text(GRID.format(extra=extra).lstrip())
    with pytest.raises(UserError, match=message):
        load_table(path, "smoke")


def test_long_residuals_are_in_the_network_that_is_sampled(store: Store) -> None:
    """Three joins of two widths of 64 to one, with their biases; the loss beside them costs nothing that is counted."""
    table = synthetic.table_of("table8")
    for label in ("none", "DiverseDiT's loss", "DiverseDiT"):
        write_facts(store, synthetic.cell_of(table, label), None)
    laid_out = pivot(table, collect(store, [table]))
    assert stated(laid_out, "DiverseDiT's loss") == ["none"] * 5
    parameters, passes, operations, *others = stated(laid_out, "DiverseDiT")
    assert parameters == f"{in_short(3 * (2 * 64 + 1) * 64)} (network)" == "24.8K (network)"
    assert [passes, *others] == ["none"] * 3
    assert 5 < float(operations.rstrip("%")) < 9


def test_a_term_that_stops_adds_what_it_took(store: Store) -> None:
    """A quarter of the steps: a quarter of what it adds where it stays."""
    table = synthetic.table_of("table8")
    for label in ("none", "REPA", "REPA, stopped"):
        write_facts(store, synthetic.cell_of(table, label), None if label == "none" else OWN)
    laid_out = pivot(table, collect(store, [table]))
    (_, passes, stays, *_), (_, until, stops, *_) = (stated(laid_out, label) for label in ("REPA", "REPA, stopped"))
    assert (passes, until) == ("1 (encoder)", "1 (encoder, to step 160)")
    assert 4 * float(stops.rstrip("%")) == pytest.approx(float(stays.rstrip("%")), abs=0.05)


def test_what_a_rival_takes_is_what_its_page_says() -> None:
    """docs/rivals.md against the counts for Table 8 at imagenet256."""
    runs = {cell.label("method"): cell.runs[0] for cell in synthetic.table_of("table8", "imagenet256").cells}
    page = (synthetic.GRIDS.parent / "docs" / "rivals.md").read_text("utf-8").partition("## What each takes")[2]
    lines = [line.split("|") for line in page.partition("\n## ")[0].splitlines() if line.endswith("% |")]
    assert len(lines) == 7
    for name, _, parameters, share in ([part.strip() for part in line[1:-1]] for line in lines):
        train, steps = runs[name].train, runs[name].evaluation.step
        assert (in_short(flops.term_parameters(train)), f"{extra_share(train, steps):.1%}") == (parameters, share), name
