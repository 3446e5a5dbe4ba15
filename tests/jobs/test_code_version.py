"""Which code made a number is recorded, and two versions in one cell are never a mean."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.places import GRIDS, ROOT
from support.synthetic_study import new_store, pivot_of, table_of, write_measurement

from harness.cli import cli
from harness.jobs.code_version import PACKAGE, of_attempts, other_versions, remember, version
from harness.plugins import packages
from harness.report.rendering.captions import caption, mixed_sentences
from harness.store.records import Attempt, CodeRecord

ORIGIN = {"commit": "0123456789abcdef", "dirty": True}


def edited(folder: Path, name: str) -> Path:
    """Return a copy of the package in which one source has a line more."""
    package = folder / "harness"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    with (package / name).open("a") as file:
        file.write("\n# more\n")
    return package


def test_a_version_changes_with_what_numbers_follow_from_and_with_nothing_else(tmp_path):
    assert version(edited(tmp_path / "a", "method/losses.py")) != version()
    assert version(edited(tmp_path / "b", "report/local_http.py")) == version()


def test_the_sources_of_a_plug_ins_package_are_among_those_of_its_trainings_alone(tmp_path, monkeypatch):
    source, facts = tmp_path / "near_times" / "__init__.py", tmp_path / "near_times-1.0.dist-info"
    for folder in (source.parent, facts):
        folder.mkdir()
    source.write_text("x = 1\n")
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: near-times\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[harness.terms]\nnear = near_times:Near\n")
    monkeypatch.syspath_prepend(tmp_path)
    used = packages(["terms/near near-times 1.0", "metrics/gap sha256:0123"])
    assert used == {"near_times": source.parent}
    root, first = tmp_path / "study", version(packages=used)
    assert first != version() == version(packages=packages(None))
    remember(root, ORIGIN, used)
    assert other_versions(root) == []
    source.write_text("x = 2\n")
    assert version(packages=used) != first
    assert other_versions(root)[0].endswith(": plug-in near_times/__init__.py")


def test_a_number_of_which_one_attempt_has_no_version_has_none():
    first, second = Attempt(code="a" * 12), Attempt(code="b" * 12)
    assert of_attempts([first, first]) == "a" * 12
    assert of_attempts([first, second, first]) == f"{'a' * 12}+{'b' * 12}"
    assert of_attempts([Attempt(), second]) == of_attempts([]) == ""


@pytest.mark.parametrize(("codes", "letters"), [(("a", "a"), 1), (("a", None), 1), (("a", "b"), 2), (("a", "a+b"), 2)])
def test_seeds_of_two_versions_have_no_mean_and_table_and_caption_say_so(tmp_path, codes, letters):
    store, table = new_store(tmp_path), table_of("table3", "digits", "seeds=[0,1]")
    for run in table.cells[0].runs:
        write_measurement(store, run, 3.0, {"code": codes[run.seed]} if codes[run.seed] else {})
    pivot = pivot_of(store, table)
    assert len(pivot.protocols) == letters
    assert (pivot.cells[0].ours is None) == (letters > 1)
    assert [s.partition(" (")[0] for s in mixed_sentences(pivot)] == [
        f"{letter}: version of the code {code}" for letter, code in zip("ab", codes, strict=True) if letters > 1
    ]
    assert ("This is protocol a, which not all numbers" in " ".join(caption(pivot))) == (letters > 1)


def test_plan_says_with_which_other_code_a_study_was_begun_and_what_differs(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    store = new_store(tmp_path)
    remember(store.root, ORIGIN)
    assert other_versions(store.root) == []
    path = store.root / "code" / f"{version()}.json"
    record = CodeRecord.load(path)
    assert record.commit == ORIGIN["commit"]
    other = record.model_copy(update={"files": record.files | {"method/losses.py": "0" * 12}})
    other.write(path.with_name(f"{'0' * 12}.json"))
    words = ["plan", str(GRIDS / "table3.yaml"), "--scale", "smoke", "--study", store.study]
    result = CliRunner().invoke(cli, [*words, "--results", str(store.results)], catch_exceptions=False)
    expected = f"other code, {'0' * 12}, commit 0123456789ab with uncommitted changes: method/losses.py; this is"
    assert expected in result.stderr
