"""Terms of plug-ins in grids: their settings, mistakes and identities, and studies that open without the code."""

import pytest
from support.plugin_files import write_plugin_grid

from harness import plugins
from harness.config.grid import load_table
from harness.config.key_reference import term_keys
from harness.config.plugin_parts import PluginRecord
from harness.config.spec import canonical
from harness.errors import UserError


@pytest.fixture
def grid(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_FILES", {})
    return write_plugin_grid(tmp_path)


def identities(grid, *overrides, **arguments):
    return [run.train_id for run in load_table(grid, "smoke", overrides, **arguments).runs]


def test_a_term_has_its_settings_and_its_code_in_the_spec_and_the_baseline_has_neither(grid):
    baseline, near = load_table(grid, "smoke").runs
    assert (baseline.train.terms, baseline.train.plugins) == (None, None)
    assert baseline.train_id == "edf5050a40db"  # that of tables without plug-ins
    (term,) = near.train.terms
    assert term.model_dump(by_alias=True, exclude_none=True) == {
        "name": "near", "kind": "near-times", "lambda": 0.5, "blocks": (1,), "group": 16, "width": 0.2,
        "tau": 0.5,
    }  # fmt: skip
    assert near.train.plugins == (f"terms/near-times {plugins.files()[0].origin}",)


def test_each_setting_and_the_code_change_the_identity_of_the_rows_that_have_them(grid):
    baseline, near = identities(grid)
    file = grid.with_name("near_times.py")
    changed = {identities(grid, f"terms.near.{word}")[1] for word in ("tau=0.6", "blocks=last", "stop=7")}
    again = {identities(grid, f"terms.near.{word}")[1] for word in ("blocks=1", "tau=0.5")}
    assert (len(changed | {near}), again) == (4, {near})
    file.write_text(file.read_text() + "# a comment\n")
    plugins._FILES.clear()
    other_baseline, other = identities(grid)
    assert other_baseline == baseline
    assert other not in {near, *changed}


def test_a_study_opens_as_it_was_run_without_the_code(grid):
    table = load_table(grid, "smoke", ["terms.near.tau=0.6"])
    record = PluginRecord.model_validate_json(table.plugins.model_dump_json())
    plugins._FILES.clear()
    grid.with_name("near_times.py").write_text("raise SystemExit('this was executed')")
    stored = load_table(grid, "smoke", ["terms.near.tau=0.6"], plugins=record)
    assert [canonical(run.train) for run in stored.runs] == [canonical(run.train) for run in table.runs]
    assert r"\exp" in stored.plugins.formulas["near-times"]
    with pytest.raises(UserError, match=r"mine.yaml:\d+: terms.near: the study has no run of such a term"):
        load_table(grid, "smoke", plugins=record)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("kind: near-times, lambda: 0.5, widht: 0.2", "widht: unknown key 'widht'; did you mean 'width'"),
        ("kind: near-times, lambda: 0.5, width: 0", "width: Input should be greater than 0, found 0"),
        ("kind: near-times, lambda: 0.5, blocks: 99", "blocks: no block 99 in a network of 4 blocks"),
        ("kind: near-times, lambda: 0.5, group: 24", "group: groups of 24 do not divide the batch of 32"),
        ("kind: near-times, width: 0.2", ": lambda: this key is needed and nothing sets it"),
        ("kind: near-time, lambda: 0.5", "kind: no term 'near-time'; did you mean 'near-times'"),
        ("kind: dispersive, lambda: 0.5", "kind: 'dispersive' has settings of its own, under regularizer"),
        ("lambda: 0.5", "kind: the row method = Near times speaks of this term, and leaves it out"),
    ],
)
def test_mistakes_are_told_with_file_and_line(grid, settings, words):
    grid.write_text(grid.read_text().replace("kind: near-times, lambda: 0.5, width: 0.2", settings))
    with pytest.raises(UserError, match=rf"mine.yaml:12: terms.near[.]?{words}") as raised:
        load_table(grid, "smoke")
    assert "\n" not in str(raised.value)


def test_a_plugin_that_is_not_there_is_told_with_its_line(grid):
    grid.with_name("near_times.py").unlink()
    with pytest.raises(UserError, match=r"mine.yaml:7: plugins: .*near_times.py: cannot be read: No such file"):
        load_table(grid, "smoke")


def test_the_keys_of_a_term_are_listed_with_what_they_mean(grid):
    load_table(grid, "smoke")
    listed = {key.name: key for key in term_keys()["The term near-times, under a name of one's own"]}
    width = listed["terms.NAME.width"]
    assert width.meaning.startswith("largest difference of the times")
    assert (width.legal, width.default) == ("a number > 0", "0.1")
    assert {f"terms.NAME.{key}" for key in ("kind", "lambda", "blocks", "stop", "group")} < listed.keys()
