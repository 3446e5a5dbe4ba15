"""Grids expanded: every table at every scale, precedence of layers, and the command line."""

import shutil
import time
from collections import Counter

import pytest
import yaml
from support.edits import edit
from support.places import GRIDS, PAPER_GRIDS

from harness.config.grid import load_table
from harness.config.grid_file import Scale, read_grid
from harness.errors import UserError

SCALES = sorted(p.stem for p in (GRIDS / "scales").glob("*.yaml"))


TABLES = sorted(p.stem for p in GRIDS.glob("*.yaml"))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("table", TABLES)
def test_every_table_expands_at_every_scale(table, scale):
    expanded = load_table(GRIDS / f"{table}.yaml", scale)
    assert len({cell.at for cell in expanded.cells}) == len(expanded.cells) > 0
    assert all(len(cell.runs) == len(expanded.seeds) for cell in expanded.cells)


def test_the_demo_is_the_baseline_and_the_dispersive_arms_of_table_2():
    """With five seeds, and the trainings and the paper's numbers of that table."""
    demo, table2 = (load_table(GRIDS / f"{name}.yaml", "demo") for name in ("demo", "table2"))
    cells = [[(c.at, [(run.train_id, run.eval_id) for run in c.runs]) for c in t.cells] for t in (demo, table2)]
    arms = ("baseline", "dispersive")
    assert cells[0] == [cell for cell in cells[1] if dict(cell[0])["arm"] in arms]
    assert (len(demo.cells), len({run.train_id for run in demo.runs})) == (5, 25)
    assert list(demo.file.paper) == [
        value for value in table2.file.paper if value.at["arm"] in ("baseline", "dispersive")
    ]


@pytest.mark.parametrize("scale", ["smoke", "digits", "imagenet256"])
def test_table_8_shares_its_first_rows_with_table_2_and_trains_each_other_once(scale):
    rivals, table2 = (load_table(GRIDS / f"{name}.yaml", scale) for name in ("table8", "table2"))
    runs = {(run.train_id, run.eval_id) for run in table2.runs}
    shared = {dict(cell.at)["method"] for cell in rivals.cells if {(r.train_id, r.eval_id) for r in cell.runs} <= runs}
    assert shared == {"none", "Dispersive"}
    assert len({run.train_id for run in rivals.runs}) == len(rivals.runs)


def test_strengths_are_swept_on_seeds_that_no_table_reports(tmp_path):
    sweep, rivals = (load_table(GRIDS / f"{name}.yaml", "digits") for name in ("table8-strength", "table8"))
    assert (sweep.seeds, rivals.seeds) == ((1000,), (0, 1))
    trained = Counter(dict(cell.at)["method"] for cell in sweep.cells)
    assert set(trained.values()) == {1, 5}  # the baseline, and the same budget for all
    assert {run.train_id for run in sweep.runs}.isdisjoint(run.train_id for run in rivals.runs)
    shutil.copytree(GRIDS, tmp_path, dirs_exist_ok=True)
    grid = tmp_path / "table8-strength.yaml"
    grid.write_text(grid.read_text(encoding="utf-8").replace("[1000]", "[1000, 1]"), encoding="utf-8")
    with pytest.raises(UserError, match=r"table8-strength.yaml:9: tuning_seeds: scale digits reports seeds \[1\]"):
        load_table(grid, "digits")


def test_every_figure_published_elsewhere_is_of_one_way_of_sampling():
    """The public 400K-step references are DDPM's for DiT and the SDE's for SiT; the release has the ODE."""
    files = {table: read_grid(GRIDS / f"{table}.yaml")[0] for table in TABLES}
    of = {(table, r.of): (r.value, r.protocol.split(",")[0]) for table, file in files.items() for r in file.references}
    figures = {"DDPM": ("DiT", 68.40, 43.47, 23.33, 19.47), "SDE": ("SiT", 57.6, 33.0, 18.9, 17.3)}
    for way, (family, *fids) in figures.items():
        sizes = [f"{family}-{size}/2" for size in ("S", "B", "L", "XL")]
        assert [of["figure4", size] for size in sizes] == [(fid, way) for fid in fids]
    assert of["table2", "SiT-B/2 + Disp, PyTorch release"] == (32.64, "ODE")
    assert of["table5", "SiT-XL/2 + Disp, PyTorch release"] == (4.74, "ODE")
    assert of["table6", "REPA, SiT-XL/2"] == (1.42, "SDE")


def test_table2_is_the_papers():
    table = load_table(GRIDS / "table2.yaml", "imagenet256")
    assert len(table.runs) == 13
    steps = {(run.evaluation.step, run.train.batch, run.train.optimizer.beta2) for run in table.runs}
    assert steps == {(400_000, 256, 0.95)}
    dispersive = next(c for c in table.cells if dict(c.at) == {"loss": "InfoNCE, ℓ2", "arm": "dispersive"})
    regularizer = dispersive.runs[0].train.regularizer
    assert (regularizer.lambda_, regularizer.tau, regularizer.blocks, regularizer.group) == (0.5, 0.5, (3,), 16)
    paper, base = table.paper(dispersive), table.paper(table.baseline(dispersive))
    assert round(100 * (paper.value / base.value - 1), 2) == -11.35


def test_the_papers_changes_follow_from_its_values():
    """The paper prints both; the values typed into the grid must give the changes that it prints."""
    printed = {"InfoNCE, ℓ2": (19.65, 0.22, -11.35), "InfoNCE, cosine": (14.06, -4.55, -5.92),
               "Hinge": (17.89, -3.70, -7.02), "Covariance": (3.73, -1.70, -1.84)}  # fmt: skip
    table = load_table(GRIDS / "table2.yaml", "imagenet256")
    arms = table.labels("arm")[1:]
    for cell in table.cells[1:]:
        change = 100 * (table.paper(cell).value / 36.49 - 1)
        assert change == pytest.approx(printed[cell.label("loss")][arms.index(cell.label("arm"))], abs=0.006)


def test_precedence(grids):
    def learning_rate(*overrides):
        return load_table(grids / "table2.yaml", "smoke", overrides).runs[0].train.optimizer.learning_rate

    assert load_table(grids / "table2.yaml", "imagenet256").runs[0].train.optimizer.learning_rate == 1e-4  # preset
    edit(grids / "table2.yaml", "  preset: paper", "  preset: paper\n  optimizer.learning_rate: 2.0e-4")
    assert load_table(grids / "table2.yaml", "imagenet256").runs[0].train.optimizer.learning_rate == 2e-4  # table
    assert learning_rate() == 1e-3  # scale
    edit(grids / "table2.yaml", "baseline: {}", "baseline: {optimizer.learning_rate: 3.0e-4}")
    assert learning_rate() == 3e-4  # row
    edit(grids / "table2.yaml", "baseline: {optimizer.learning_rate: 3.0e-4}", "baseline: {}")
    assert learning_rate("optimizer.learning_rate=4.0e-4") == 4e-4  # command line


def test_a_family_has_its_own_sampler():
    runs = load_table(GRIDS / "figure4.yaml", "cifar10").runs
    samplers = {(run.train.process, run.evaluation.sampler.method, run.evaluation.sampler.intervals) for run in runs}
    assert samplers == {("flow", "heun", 99), ("ddpm", "ancestral", 100)}
    rows = load_table(GRIDS / "figure4.yaml", "cifar10", ["sampler.intervals=10"]).runs
    assert {run.evaluation.sampler.intervals for run in rows} == {10}


def test_the_meanflow_rows_of_table_7b_are_trainings_of_table_7a():
    systems, gains = (load_table(GRIDS / f"table{name}.yaml", "imagenet256") for name in ("7b", "7a"))
    shared = {run.eval_id for run in systems.runs if run.train.process == "meanflow"}
    assert len(shared) == 2
    assert shared < {run.eval_id for run in gains.runs}
    assert [cell.runs[0].train.process for cell in systems.cells[:3]] == ["consistency", "shortcut", "imm"]
    assert systems.runs[0].train.consistency.steps == 240 * 5000


def test_presets():
    official = load_table(GRIDS / "table3.yaml", "imagenet256", ["preset=official-pytorch"]).runs[2].train
    assert (official.regularizer.lambda_, official.regularizer.tau, official.regularizer.group) == (0.25, 1.0, 32)
    assert official.optimizer.beta2 == 0.999


def test_a_cell_is_found_however_its_row_is_written(grids):
    edit(grids / "table2.yaml", "row: {loss: none, arm: baseline}", "row: {arm: baseline, loss: none}")
    table = load_table(grids / "table2.yaml", "smoke")
    assert {table.baseline(cell).at for cell in table.cells[1:]} == {(("loss", "none"), ("arm", "baseline"))}
    assert table.baseline(table.cells[0]) is None
    assert table.paper(table.cells[0]).value == 36.49


def test_labels_may_be_numbers(grids):
    text = (grids / "table4.yaml").read_text().replace('"', "")
    (grids / "table4.yaml").write_text(text)
    assert [c.at for c in load_table(grids / "table4.yaml", "smoke").cells] == [
        c.at for c in load_table(GRIDS / "table4.yaml", "smoke").cells
    ]


def test_a_table_of_1500_cells_expands_at_once(grids):
    """About 0.2 s of CPU; more than 1 s if every cell reads its preset again and places are compared in pairs."""
    content = yaml.safe_load((grids / "table4.yaml").read_text())
    for axis, key, count in (("λ", "regularizer.lambda", 50), ("τ", "regularizer.tau", 30)):
        content["axes"][axis] |= {f"{axis}{n}": {key: 0.11 + n / 1000} for n in range(count)}
    content["vary"].append(
        {"product": {axis: [n for n in labels if n[0] == axis] for axis, labels in content["axes"].items()}}
    )
    (grids / "table4.yaml").write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
    start = time.process_time()
    table = load_table(grids / "table4.yaml", "smoke")
    baselines = [table.baseline(cell) for cell in table.cells if not cell.aside]
    assert time.process_time() - start < 1
    assert len({run.train_id for run in table.runs}) == len(table.cells) == 13 + 1500
    assert {baseline.at for baseline in baselines} == {(("λ", "none"), ("τ", "none"))}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("regularizer.tua=1", "did you mean 'tau'?"),
        ("regularizer.group=1", "greater than or equal to 2"),
        ("regularizer.group=24", "do not divide the batch of 256"),
        ("regularizer.blocks=13", "no block"),
        ("regularizer.blocks=quarter", "regularizer.blocks"),
        ("regularizer.loss=hinge", "label would lie"),
        ("regularizer.blocks=0", "k/n (that share of the depth), last, all, or a list, found 0"),
        ("regularizer.blocks=2.5", "last, all, or a list, found 2.5"),
        ("regularizer.blocks=[3,lats]", "last, all, or a list, found [3, 'lats']"),
        ("seeds=[0,0]", "different whole numbers"),
        ("seeds=[true]", "different whole numbers are expected, for example [0, 1, 2], found [True]"),
        ("seeds=[]", "found []"),
        ("batch=true", "batch: a number is expected, found True"),
        ("optimizer.weight_decay=.inf", "optimizer.weight_decay: Input should be a finite number, found inf"),
        ("evaluation.samples=3", "greater than or equal to 4"),
        ("batch=&a [*a]", "batch.0: this alias contains itself"),
        ("seeds", "expected key=value"),
        ("batch=[", "not YAML"),
        ("ema=1.5", "less than 1"),
        ("regularizer=none", "needs keys below it"),
        ("epochs.x=1", "lies below 'epochs'"),
    ],
)
def test_a_mistake_on_the_command_line(override, words):
    with pytest.raises(UserError) as error:
        load_table(GRIDS / "table2.yaml", "imagenet256", [override])
    assert str(error.value).startswith(f"--set {override}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_row_of_ours_is_not_said_to_be_the_papers(grids):
    grid = grids / "table3.yaml"
    text = grid.read_text(encoding="utf-8")
    grid.write_text(f"{text}\nours: {{block: [all]}}\n", encoding="utf-8")
    table = load_table(grid, "digits")
    assert [table.is_ours(cell) for cell in table.cells] == [False] * 5 + [True]
    grid.write_text(f"{text}\nours: {{block: [al]}}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"ours\.block: .*did you mean 'all'"):
        load_table(grid, "digits")


@pytest.mark.parametrize("name", PAPER_GRIDS)
@pytest.mark.parametrize("scale", ["smoke", "digits", "fashion-mnist", "cifar10"])
def test_a_longer_training_is_longer_at_every_scale(name, scale):
    table = load_table(GRIDS / f"{name}.yaml", scale)
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
        (folder / part).symlink_to(GRIDS / part)
    (folder / "scales").unlink()
    (folder / "scales").mkdir()
    text = (GRIDS / "scales" / "digits.yaml").read_text()
    (folder / "scales" / "digits.yaml").write_text(text.replace("800: 160", "800: 120"))
    with pytest.raises(UserError, match=r"digits\.yaml:\d+: epochs: a longer training needs a longer stand-in, found"):
        load_table(folder / "table5.yaml", "digits")


def test_a_length_without_a_stand_in_may_not_outlast_a_longer_one(tmp_path):
    shutil.copytree(GRIDS, tmp_path / "grids")
    grid = tmp_path / "grids" / "table5.yaml"
    grid.write_text(grid.read_text().replace('"80": {epochs: 80}', '"80": {epochs: 400}'))
    with pytest.raises(UserError, match="at scale digits 400 epochs take 3,200 steps, and the longer 800 take 1,280; "):
        load_table(grid, "digits")
    assert load_table(grid, "imagenet256").runs[0].evaluation.step == 2_000_000
