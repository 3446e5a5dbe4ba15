"""The plan of many tables: each distinct training once, with the tables that share it; lengths and their stand-ins."""

import json
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from support.places import ROOT

from harness.config.grid import load_table
from harness.config.grid_file import Scale
from harness.errors import UserError
from harness.planning.plan import plan, summary
from harness.store.store import Store
from harness.store.study import trainings

NAMES = ("convergence", "figure4", "table2", "table3", "table4", "table5", "table6", "table7a", "table7b")


def tables(scale, *names):
    return [load_table(ROOT / "grids" / f"{name}.yaml", scale) for name in names or NAMES]


def test_distinct_trainings_of_the_paper_are_52():
    """By hand, each table beside what it shares with those before it: 13 of Table 2; of Table 3 all but baseline and
    default; of Table 4 twelve but the default; Table 5's two; of Table 6 REPA's; of Table 7a three networks, two arms
    each; of 7b three peers; of Figure 4 eight but B/2 and XL/2 of SiT, two arms each; nothing of the convergence."""
    found = trainings(tables("imagenet256"))
    assert len(found) == 13 + (6 - 2) + (12 - 1) + 2 + 1 + 3 * 2 + 3 + (8 - 2) * 2 + 0
    assert len({training.train_id for training in found}) == len(found)
    shared = Counter(training.tables for training in found if len(training.tables) > 1)
    assert shared == {
        ("table2", "table3", "table4", "figure4", "convergence"): 2,
        ("table5", "table6", "figure4"): 2,
        ("table7a", "table7b"): 2,
    }


@pytest.mark.parametrize("scale", ["imagenet256", "digits", "smoke"])
def test_sharing_is_that_of_the_specs_themselves(scale):
    """Counted again by the whole content of each spec, without identities."""
    wanted: dict[str, set[str]] = {}
    longest: Counter[str] = Counter()
    measured: dict[str, set[str]] = {}
    for table in tables(scale):
        for run in table.runs:
            content = json.dumps(run.train.model_dump(mode="json"), sort_keys=True)
            wanted.setdefault(content, set()).add(table.name)
            longest[content] = max(longest[content], run.evaluation.step)
            measured.setdefault(content, set()).add(run.evaluation.model_dump_json())
    found = trainings(tables(scale))
    assert len(found) == len(wanted)
    ours = Counter((frozenset(t.tables), t.steps, t.measurements) for t in found)
    theirs = Counter((frozenset(wanted[key]), longest[key], len(measured[key])) for key in wanted)
    assert ours == theirs


def test_a_training_is_told_by_what_sets_it_apart():
    found = {(t.model, t.words): t for t in trainings(tables("imagenet256"))}
    assert len(found) == 52  # no two are told alike
    assert found["SiT-B/2", "loss: Hinge; arm: dispersive"].tables == ("table2",)
    assert found["SiT-B/2", "λ: 0.25; τ: 2.0"].tables == ("table4",)
    longest = found["SiT-XL/2", "arm: dispersive"]  # neither epochs, sampler nor guidance change it
    assert (longest.steps, longest.measurements) == (7_000_000, 5)
    assert found["MF-B/2", "model: MF-B/2, 240 epochs; arm: baseline"].steps == 1_200_000


def test_plan_of_all_tables_needs_no_torch_and_lists_trainings_once():
    code = """
import sys
sys.modules["torch"] = None
from harness.cli import main
sys.argv = ["harness", "plan", *sys.argv[1:]]
main()
"""
    grids = [f"grids/{name}.yaml" for name in NAMES]
    done = subprocess.run(
        [sys.executable, "-c", code, *grids, "--scale", "imagenet256"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    _, _, listing = done.stdout.partition("52 distinct trainings")
    for training in trainings(tables("imagenet256")):
        assert listing.count(training.train_id) == 1
    alone = subprocess.run(
        [sys.executable, "-c", code, grids[0], "--scale", "imagenet256"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "distinct" not in alone.stdout


def test_long_trainings_are_stood_in_for_and_the_plan_says_so(tmp_path):
    (table,) = tables("digits", "table5")
    steps = {cell.settings.epochs: cell.runs[0].evaluation.step for cell in table.cells}
    assert steps == {80: 80 * 8, 800: 160 * 8, 1400: 240 * 8}
    store = Store(tmp_path, tmp_path, "study")
    assert summary(plan([table], store)).endswith(
        "4 trainings; 1,280 steps stand for the paper’s 800 epochs, 1,920 for 1,400"
    )
    (paper,) = tables("imagenet256", "table5")
    assert {cell.runs[0].evaluation.step for cell in paper.cells} == {400_000, 4_000_000, 7_000_000}
    assert paper.stand_ins == ""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", ["smoke", "digits", "fashion-mnist", "cifar10"])
def test_a_longer_training_is_longer_at_every_scale(name, scale):
    (table,) = tables(scale, name)
    steps = {cell.settings.epochs: cell.runs[0].evaluation.step for cell in table.cells}
    in_order = [steps[epochs] for epochs in sorted(steps)]
    assert in_order == sorted(set(in_order))
    assert not table.scale.meaningful or steps.get(80, 80 * table.scale.steps_per_epoch) == 80 * (
        table.scale.steps_per_epoch
    )


def test_stand_ins_that_change_places_are_refused(tmp_path):
    rest = {"scale": "s", "title": "t", "ladder": {}, "patches": {}, "steps_per_epoch": 3}
    scale = Scale(**rest, epochs={800: 20, 240: 10})
    assert [scale.steps(epochs) for epochs in (0, 7, 240, 800)] == [0, 21, 30, 60]
    folder = tmp_path / "grids"
    folder.mkdir()
    for part in ("scales", "presets", "table5.yaml"):
        (folder / part).symlink_to(ROOT / "grids" / part)
    (folder / "scales").unlink()
    (folder / "scales").mkdir()
    text = (ROOT / "grids" / "scales" / "digits.yaml").read_text()
    (folder / "scales" / "digits.yaml").write_text(text.replace("800: 160", "800: 120"))
    with pytest.raises(UserError, match=r"digits\.yaml:\d+: epochs: a longer training needs a longer stand-in, found"):
        load_table(folder / "table5.yaml", "digits")


def test_a_length_without_a_stand_in_may_not_outlast_a_longer_one(tmp_path):
    shutil.copytree(ROOT / "grids", tmp_path / "grids")
    grid = tmp_path / "grids" / "table5.yaml"
    grid.write_text(grid.read_text().replace('"80": {epochs: 80}', '"80": {epochs: 400}'))
    with pytest.raises(UserError, match="at scale digits 400 epochs take 3,200 steps, and the longer 800 take 1,280; "):
        load_table(grid, "digits")
    assert load_table(grid, "imagenet256").runs[0].evaluation.step == 2_000_000
