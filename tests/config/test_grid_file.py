"""Grid and scale files: what they may say, and mistakes told with file, line, key and the nearest legal word."""

import re

import pytest
from support.edits import edit

from harness.config.grid import load_table
from harness.errors import UserError


def test_a_scale_says_families_it_knows(grids):
    line = edit(grids / "scales" / "smoke.yaml", "  MF: {", "  FM: {")
    with pytest.raises(
        UserError,
        match=rf"smoke\.yaml:{line}: families\.FM: no family of models 'FM'; .*; one of a plug-in's file needs that",
    ):
        load_table(grids / "table2.yaml", "smoke")


def test_a_scale_has_the_name_of_its_file(grids):
    (grids / "scales" / "smoke.yaml").rename(grids / "scales" / "tiny.yaml")
    with pytest.raises(UserError, match=r"tiny\.yaml:1: scale: 'smoke' is not the name of the file, 'tiny'$"):
        load_table(grids / "table2.yaml", "tiny")


def test_zip(grids):
    old = '  - product: {λ: ["0.25", "0.5", "1.0"], τ: ["0.25", "0.5", "1.0", "2.0"]}'
    edit(grids / "table4.yaml", old, '  - zip: {λ: ["0.25", "0.5"], τ: ["1.0", "0.5"]}')
    cells = load_table(grids / "table4.yaml", "smoke").cells
    assert [cell.at for cell in cells[:2]] == [(("λ", "0.25"), ("τ", "1.0")), (("λ", "0.5"), ("τ", "0.5"))]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  epochs: 80", "  epochs: 80\n  regularizer: {tua: 1.0}", ["regularizer.tua", "did you mean 'tau'?"]),
        ("  epochs: 80", "  epochs: eighty", ["epochs", "a number is expected", "'eighty'"]),
        ("  model: SiT-B/2", "  model: SiT-H/2", ["model", "{SiT,DiT,MF,Shortcut,IMM,iCT}-{S,B,L,XL}"]),
        ("rows: loss", "rows: los", ["did you mean 'loss'?"]),
        ("baseline: {loss: none", "baseline: {loss: nil", ["no label 'nil'"]),
        ("    Hinge: {regularizer.loss: hinge}", "    Hinge: {regularizer.loss: hingy}", ["did you mean 'hinge'?"]),
        ("title:", "titel:", ["unknown key 'titel'", "did you mean 'title'?"]),
        ("confidence: H}", "confidence: Z}", ["confidence", "'Z'"]),
        ("  preset: paper", "  preset: papre", ["did you mean 'paper'?"]),
        ("    baseline: {}", "    baseline: {}\n    baseline: {}", ["said twice"]),
        ("    baseline: {}", "    baseline: {terms: {}}", ["table2.yaml:23: terms: {} says nothing", "leave it out"]),
        ("rows: loss", "rows: [loss", ["not YAML"]),
        ("    Hinge: {regularizer.loss: hinge}", "    Hinge: 3", ["axes.loss.Hinge", "keys and values", "found 3"]),
        ("    baseline: {}", "    baseline: {}\n    true: {}", ["axes.arm.", "word or a number", "found True"]),
        ("  arm:\n    baseline", "  none: {}\n  arm:\n    baseline", ["axes.none", "at least one", "found {}"]),
        ("  - row: {loss: none, arm: baseline}", "  - row: {arm: baseline}", ["vary.0.row", "missing: loss"]),
        ("  - row: {loss: none, arm: baseline}", "  - row: {los: none}", ["vary.0.row", "did you mean 'loss'?"]),
        ("  - row:", "  - rwo:", ["vary.0.rwo", "did you mean 'row'?"]),
        ("  - row: {loss: none, arm: baseline}", "  - aside: true", ["exactly one of product, zip and row"]),
        ("  - row: {loss: none,", "  - row: {loss: Hingy,", ["vary.0.row.loss", "did you mean 'Hinge'?"]),
        ("  - product:", "  - row: {arm: baseline, loss: none}\n  - product:", ["two cells at loss = none, arm"]),
        ("Hinge, Covariance]", "Hinge, Hinge]", ["two cells at loss = Hinge"]),
        ("  - row: {loss: none, arm: baseline}", "  - zip: {loss: [none, Hinge], arm: [baseline]}", ["length"]),
        ("  - row: {loss: none, arm: baseline}", "  - zip: {loss: [none], arm: []}", ["vary.0.zip.", "at least one"]),
        ("baseline: {loss: none, arm: baseline}", "baseline: {loss: none}", ["no cell at", "the baseline of"]),
        ("  - {at: {loss: none, arm: baseline}", "  - {at: {loss: none}", ["paper.0.at", "missing: arm"]),
        ('protocol: "ODE, no', 'protocol: "by some sampler', ["references.", "protocol", "ODE|SDE|DDPM"]),
        ("  - {at: {loss: none, arm: baseline}", "  - {at: {loss: none, arm: dispersive}", ["paper.0: no cell"]),
        ('arm: "contrastive, restricted noise"}, value: 35.87', "arm: dispersive}, value: 1", ["paper.12: two values"]),
        ("  - row: {loss: none, arm: baseline}", "  - product: {}", ["vary.0.product", "missing: loss, arm"]),
        ("arm: dispersive}, value: 35.82", "arm: dispersive}, value: .nan", ["paper.12.value", "finite"]),
        ("base:", "seeds: [true]\nbase:", ["seeds: different whole numbers", "found [True]"]),
        ("base:", "seeds: &a [*a]\nbase:", ["seeds.0", "contains itself"]),
    ],
)
def test_a_mistake_in_a_grid_is_told_with_its_line(grids, old, new, words):
    line = edit(grids / "table2.yaml", old, new)
    with pytest.raises(UserError) as error:
        load_table(grids / "table2.yaml", "imagenet256")
    text = str(error.value)
    where, _, _ = text.partition(": ")
    assert where.startswith(f"{grids}/table2.yaml:")
    assert abs(int(where.rsplit(":", 1)[1]) - line) <= 1
    assert all(word in text for word in words), text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'stopped", iREPA,',
            'stopped", SRA 2,',
            ["blocks.With an external encoder", "'SRA 2' stands beneath 'Without an"],
        ),
        ('stopped", iREPA,', 'stopped", iREPE,', ["blocks.With an external encoder", "did you mean 'iREPA'?"]),
        ("paper_protocol:", "#", ["paper_protocol: needed"]),
        ("value: 30.00, baseline: 36.19", "value: 30.00, baseline: 0", ["references.0", "baseline of 0"]),
        ("  - {at: {method: LayerSync}, value: 30", "  - {value: 30", ["references.0", "exactly one of at and of"]),
        ("method: LayerSync}, value: 30", "method: LayerSnc}, value: 30", ["references.0.at.method", "'LayerSync'?"]),
        ("{method: Dispersive}, value: 31.45", "{method: none}, value: 1", ["references.2: two values at"]),
    ],
)
def test_a_mistake_in_what_others_published_is_told(grids, old, new, words):
    edit(grids / "table8.yaml", old, new)
    with pytest.raises(UserError) as error:
        load_table(grids / "table8.yaml", "imagenet256")
    assert all(word in str(error.value) for word in words), str(error.value)


def test_an_empty_product_is_refused(grids):
    edit(grids / "table3.yaml", "block: [none, 1 of 12, 3 of 12 (default), 7 of 12, 12 of 12, all]", "block: []")
    with pytest.raises(
        UserError, match=r"table3\.yaml:28: vary\.0\.product\.block: at least one is needed, found \[\]$"
    ):
        load_table(grids / "table3.yaml", "smoke")


def test_a_label_that_is_a_number_keeps_its_spelling(grids):
    spellings = ["0.50", "5e-1", "+1", "0x1F", "0.25"]
    rows = ", ".join(f"{text}: {{regularizer.tau: {0.1 * n:g}}}" for n, text in enumerate(spellings[1:], 1))
    (grids / "labels.yaml").write_text(
        "table: 1e0\ntitle: 2.50\nquestion: q\nrows: τ\nbase: {preset: paper, model: SiT-B/2, epochs: 80}\n"
        f"axes: {{τ: {{{rows}}}}}\nvary: [{{product: {{τ: [{', '.join(spellings[1:])}]}}}}]\n"
    )
    table = load_table(grids / "labels.yaml", "smoke")
    assert table.labels("τ") == spellings[1:]
    assert (table.file.table, table.file.title) == ("1e0", "2.50")


def test_one_label_in_two_spellings_of_a_key_is_said_twice(grids):
    for twice in ("0.50: {}, 0.5: {}", "0.50: {}, '0.50': {}", "<<: {'0.50': {}}, 0.50: {}, 5e-1: {}"):
        (grids / "a.yaml").write_text(f"axes: {{τ: {{{twice}}}}}")
        with pytest.raises(UserError, match=r"a\.yaml:1: axes\.τ\..*: this key is said twice"):
            load_table(grids / "a.yaml", "smoke")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("patches:", "patches: {16: 2} #", "patches.16: '16' is not legal; legal: 2, 4, 8"),
        ("title:", "title: true #", "title: text is expected in quotes, found True"),
        ("title:", "title: [a] #", "title: text is expected, found ['a']"),
    ],
)
def test_what_is_no_text_is_told_with_what_is_legal(grids, old, new, words):
    edit(grids / "scales" / "smoke.yaml", old, new)
    with pytest.raises(UserError, match=rf"smoke\.yaml:\d+: {re.escape(words)}$"):
        load_table(grids / "table3.yaml", "smoke")


def test_patches_need_no_quotes(grids):
    expected = load_table(grids / "table3.yaml", "smoke").runs
    scale = grids / "scales" / "smoke.yaml"
    line = next(line for line in scale.read_text().splitlines() if line.startswith("patches:"))
    edit(scale, line, line.replace('"', ""))
    assert load_table(grids / "table3.yaml", "smoke").runs == expected
