"""`harness init`: what it makes runs as it is."""

import runpy

import numpy as np
import pytest
from PIL import Image

from harness import plugins


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Stand in an empty folder, in a process that has loaded no plug-in."""
    monkeypatch.setattr(plugins, "_FILES", {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trainings(out):
    return [row.split("\t")[1] for row in out.splitlines() if row.startswith("methods\t") and "to run" in row]


def test_a_skeleton_tests_its_term_and_plans_its_rows(folder, harness, monkeypatch):
    code, out, err = harness("init", "mine")
    assert (code, err) == (0, "")
    assert "mine/grids/near_times.py" in out.splitlines()
    monkeypatch.chdir(folder / "mine")
    runpy.run_path("test_near_times.py")["test_only_samples_of_similar_times_repel"]()
    for scale, seeds in (("smoke", 1), ("mine", 2)):
        code, out, err = harness("plan", "methods", "--scale", scale)
        assert code == 0, err
        assert trainings(out) == [m for m in ("none", "InfoNCE, ℓ2", "Hinge", "Near times") for _ in range(seeds)]
    assert "@" not in "".join(path.read_text() for path in (folder / "mine/grids").rglob("*.yaml"))


def test_a_skeleton_for_pictures_is_of_these(folder, harness, monkeypatch):
    rng = np.random.default_rng(0)
    (folder / "my photos").mkdir()
    for number in range(40):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(folder / "my photos" / f"{number}.png")
    assert harness("init", "mine", "--pictures", "my photos")[0] == 0
    monkeypatch.chdir(folder / "mine")
    code, out, err = harness("plan", "methods", "--scale", "mine")
    assert code == 0, err
    assert len(trainings(out)) == 8
    assert 'title: "40 pictures of my photos, 32×32"' in (folder / "mine/grids/scales/mine.yaml").read_text()


def test_what_cannot_be_begun_is_left_alone(folder, harness):
    (folder / "mine").mkdir()
    assert harness("init", "mine") == (2, "", "NAME mine: exists already; choose another name\n")
    (folder / "photos").mkdir()
    assert harness("init", "new", "--pictures", "photos") == (2, "", "photos: no pictures in it\n")
    assert harness("init", "a/b")[0] == 2
    assert not list((folder / "mine").iterdir())
    assert not (folder / "new").exists()


@pytest.mark.slow
def test_a_skeleton_runs(folder, harness, monkeypatch):
    harness("init", "mine")
    monkeypatch.chdir(folder / "mine")
    words = ["methods", "--scale", "smoke", "--study", "mine-smoke", "--rows", "method=Near times"]
    code, _, err = harness("run", *words)
    assert code == 0, err
    assert harness("report", "mine-smoke")[0] == 0
    assert "Near times" in (folder / "mine/reports/mine-smoke/index.html").read_text(encoding="utf-8")
