"""Names of grids, scales, presets and profiles: one's own first, then the package's, and what a file extends."""

import re
from pathlib import Path

import pytest
from support.places import GRIDS

from harness.config.cluster_profile import load_profile
from harness.config.grid import load_table
from harness.config.grid_file import read_grid, read_scale
from harness.config.named_files import SHIPPED, find_grid, grid_word, recorded_grid, without_shipped
from harness.config.yaml_document import read_document, whole
from harness.errors import UserError

BIGGER = """extends: digits
scale: bigger
title: larger batches
settings: {batch: 256, sampler: {intervals: 24}, data.flip: true}
families: {DiT: {sampler.intervals: 50}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Stand in an empty folder that is to hold one's own grids, scales and profiles."""
    monkeypatch.chdir(tmp_path)
    for name in ("grids/scales", "clusters"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_the_package_has_the_checkouts_files(folder):
    assert all((SHIPPED / "grids" / path.relative_to(GRIDS)).is_file() for path in GRIDS.rglob("*.yaml"))
    table = load_table(find_grid(Path("table2")), "digits")
    assert table.runs == load_table(GRIDS / "table2.yaml", "digits").runs
    assert load_profile("local")[0].executor == "local"


def test_ones_own_goes_first_and_what_a_study_records_leads_back(folder):
    own = folder / "grids" / "table2.yaml"
    assert recorded_grid(grid_word(find_grid(Path("table3")))) == (SHIPPED / "grids" / "table3.yaml")
    own.write_text((GRIDS / "table2.yaml").read_text())
    word = grid_word(find_grid(Path("table2")))
    assert (word, recorded_grid(word).resolve()) == ("grids/table2.yaml", own)
    with without_shipped(), pytest.raises(UserError, match=r"^table3: no such grid file"):
        find_grid(Path("table3"))


def test_a_scale_that_extends_another_is_the_other_with_what_it_says(folder):
    (folder / "grids/scales/bigger.yaml").write_text(BIGGER)
    (bigger, document), (digits, _) = read_scale("bigger"), read_scale("digits")
    own = {"scale": "bigger", "title": "larger batches", "extends": "digits", "settings": bigger.settings}
    assert bigger == digits.model_copy(update={**own, "families": bigger.families})
    table = load_table(find_grid(Path("table2")), "bigger")
    settings = table.cells[0].settings
    assert (settings.batch, settings.sampler.intervals, settings.ema) == (256, 24, 0.98)
    assert (settings.data.flip, settings.data.name) == (True, "digits")
    assert document.where("settings", "batch").endswith("bigger.yaml:4")
    assert document.where("settings", "sampler.intervals").endswith("bigger.yaml:4")
    assert re.search(r"scales/digits\.yaml:\d+$", document.where("settings", "ema"))
    (folder / "grids/scales/whole.yaml").write_bytes(whole(document).replace(b'scale": "bigger"', b'scale": "whole"'))
    written = load_table(find_grid(Path("table2")), "whole")
    assert [run.train_id for run in written.runs] == [run.train_id for run in table.runs]
    assert read_document(folder / "grids/scales/whole.yaml").content["families"]["iCT"]  # which is inherited


def test_a_grid_adds_a_row_to_the_one_of_its_name(folder):
    (folder / "grids/table2.yaml").write_text(
        "extends: table2\npaper: []\nours: {loss: [Hinge 2]}\n"
        "axes: {loss: {Hinge 2: {regularizer: {loss: hinge, epsilon: 2}}}, arm: {dispersive: {regularizer.tau: 1}}}\n"
        "vary: [{row: {loss: none, arm: baseline}}, {row: {loss: Hinge 2, arm: dispersive}}]\n"
    )
    (cell,) = (cell for cell in load_table(folder / "grids/table2.yaml", "smoke").cells if cell.label("loss") != "none")
    chosen = cell.settings.regularizer
    assert (chosen.loss, chosen.kind, chosen.epsilon, chosen.tau) == ("hinge", "dispersive", 2, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "extends: digts\nscale: mine",
            r"mine\.yaml:1: extends: nothing here is called 'digts'; did you",
        ),
        ("extends: [digits]\nscale: mine", r"mine\.yaml:1: extends: a name or a path is expected, found \['digits'\]"),
        ("scale: mine\nextends: ../none.yaml", r"none\.yaml: cannot be read: No such file or directory"),
        ("extends: mine\nscale: mine", r"mine\.yaml:1: extends: nothing here is called 'mine'"),
        ("extends: ./mine.yaml\nscale: mine", r"mine\.yaml:1: extends: .*mine\.yaml extends this file, and none can"),
        ("extends: other\nscale: mine", r"other\.yaml:1: extends: .*mine\.yaml extends this file, and none can"),
        ("extends: digits\nscale: mine\nladder: {B: {widht: 3}}", r"mine\.yaml:3: ladder\.B\.widht: .*'width'"),
        ("extends: digits\ntitle: mine", r"mine\.yaml:1: scale: this key is needed"),
    ],
)
def test_mistakes_of_what_is_extended(folder, text, words):
    (folder / "grids/scales/mine.yaml").write_text(text)
    (folder / "grids/scales/other.yaml").write_text("extends: mine\nscale: other\n")
    with pytest.raises(UserError, match=words):
        read_scale("mine")


def test_a_mistake_of_the_extended_grid_is_told_there(folder):
    text = (
        (GRIDS / "table2.yaml").read_text().replace("Hinge: {regularizer.loss: hinge}", "Hinge: {regularizer.los: x}")
    )
    (folder / "grids/base.yaml").write_text(text)
    (folder / "grids/mine.yaml").write_text("extends: base\nbase: {epochs: 40}\n")
    line = 1 + text[: text.index("regularizer.los:")].count("\n")
    with pytest.raises(UserError, match=rf"base\.yaml:{line}: regularizer\.los: unknown key 'los'; did you mean"):
        load_table(folder / "grids/mine.yaml", "smoke")
    assert read_grid(folder / "grids/mine.yaml")[0].base["epochs"] == 40


def test_a_profile_extends_a_shipped_one(folder):
    (folder / "clusters/ours.yaml").write_text("extends: slurm-example\naccount: me\nresources: {hours: 2}\n")
    profile, layer = load_profile("ours")
    example, _ = load_profile("slurm-example")
    assert (profile.account, profile.partitions) == ("me", example.partitions)
    assert (layer["resources.hours"].value, layer["resources.cpus"].value) == (2, 8)
