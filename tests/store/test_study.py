"""How a training stands follows from its own files, whichever machine wrote them."""

import csv
import json
import os
import shutil
import time
from collections import Counter
from datetime import UTC, datetime

import pytest
from support.fuzzing import command
from support.places import GRIDS, PAPER_GRIDS
from support.synthetic_study import new_store, table_of, write_error, write_heartbeat, write_measurement

from harness.commands.console import status_summary
from harness.files import write_json
from harness.store import study as studying
from harness.store.status import Progress, progress, seconds_in_words, training_statuses
from harness.store.study import study_tables, trainings


def write_attempts(store, run, *attempts):
    write_json(store.run_folder(run.train_id) / "env.json", {"attempts": list(attempts)})


@pytest.fixture
def study(tmp_path):
    """Table 5 at digits, seed 0: one training half way, the others not begun."""
    table, store = table_of("table5", "digits", "seeds=[0]"), new_store(tmp_path)
    return table, store, table.cells[0].runs[0]


def status_of(table, store, run):
    return next(s for s in training_statuses([table], store) if s.train_id == run.train_id)


def test_a_running_training_from_another_host(study):
    table, store, run = study
    last = max(r.evaluation.step for r in table.runs if r.train_id == run.train_id)
    write_heartbeat(store, run, step=480, total=last, time=time.time(), host="elsewhere")
    write_attempts(store, run, {"start": datetime.fromtimestamp(time.time() - 1800, UTC).isoformat(), "end": None,
                          "device": "NVIDIA H200", "gpus": 2, "processes": 2})  # fmt: skip
    log = [json.dumps({"step": step, "images_per_second": float(step)}) + "\n" for step in range(8, 481, 8)]
    (store.run_folder(run.train_id) / "train.jsonl").write_text("".join(log) + '{"step": 488, "images_per')
    status = status_of(table, store, run)
    assert (status.state, status.phase, status.step, status.steps) == ("running", "training", 480, last)
    assert (status.epoch, status.epochs) == (480 / table.scale.steps_per_epoch, last / table.scale.steps_per_epoch)
    assert status.images_per_second == 480.0
    assert status.seconds_left == pytest.approx((last - 480) * run.train.batch / 480)
    assert (status.unit, status.hours) == ("GPU", pytest.approx(1.0, abs=0.01))  # half an hour of two
    write_heartbeat(store, run, step=480, total=last, time=time.time() - 120, host="elsewhere")
    stale = status_of(table, store, run)
    assert (stale.state, stale.step, stale.seconds_left) == ("interrupted", 480, None)


def test_measurements_and_failures_are_counted(study):
    table, store, run = study
    mine = {r.eval_id: r for r in table.runs if r.train_id == run.train_id}
    first, *others = mine.values()
    write_measurement(store, first, 3.0)
    write_error(store, run, "error", "CUDA out of memory")
    status = status_of(table, store, run)
    assert (status.state, status.reason, status.step) == ("failed", "CUDA out of memory", 300)
    assert (status.measured, status.measurements) == (1, len(mine))
    for other in others:
        write_measurement(store, other, 3.0)
    status = status_of(table, store, run)
    assert (status.state, status.step, status.measured) == ("done", status.steps, len(mine))
    assert status_summary([status]) == f"1 done, {len(mine)} of {len(mine)} measurements, 0 core-hours spent"


def test_progress_counts_steps_and_says_what_is_left(tmp_path):
    store, table = new_store(tmp_path), table_of("table3")
    steps = table.runs[0].evaluation.step
    write_measurement(store, table.runs[0], 4.0)
    write_heartbeat(store, table.runs[1], step=steps // 2)
    whole = progress(training_statuses([table], store))
    assert (whole.steps, whole.all_steps) == (steps + 1 + steps // 2, 12 * (steps + 1))
    assert whole.states == {"done": 1, "running": 1, "not run": 10}
    before = Progress(whole.steps - 100, whole.all_steps, {})
    left = whole.seconds_left(before, 10.0)
    assert left == pytest.approx((whole.all_steps - whole.steps) / 10)
    assert whole.seconds_left(whole, 10.0) is None
    assert whole.words(125.0) == "1 of 12 measurements done, 10 not run, 1 running, about 2 min 5 s left"


def test_durations():
    words = {
        0: "0 s",
        40: "40 s",
        62: "1 min 2 s",
        200: "3 min 20 s",
        3599.6: "1 h 0 min",
        7500: "2 h 5 min",
        90_000: "1 d 1 h",
    }
    assert {seconds: seconds_in_words(seconds) for seconds in words} == words


def test_tables_come_before_figures_and_both_before_our_own(tmp_path):
    shutil.copytree(GRIDS, tmp_path / "grids")
    ours = tmp_path / "grids" / "convergence.yaml"
    ours.write_text(ours.read_text(encoding="utf-8").replace("table: convergence", "table: early"), encoding="utf-8")
    store = new_store(tmp_path)
    for name in ("convergence", "figure4", "table7a", "table2"):
        store.record_grid(name, tmp_path / "grids" / f"{name}.yaml", "smoke", [])
    assert [table.name for table in study_tables(store)] == ["table2", "table7a", "figure4", "convergence"]


def tables_of(scale):
    return [table_of(name, scale) for name in PAPER_GRIDS]


def test_distinct_trainings_of_the_paper_are_52():
    """By hand, each table beside what it shares with those before it: 13 of Table 2; of Table 3 all but baseline and
    default; of Table 4 twelve but the default; Table 5's two; of Table 6 REPA's; of Table 7a three networks, two arms
    each; of 7b three peers; of Figure 4 eight but B/2 and XL/2 of SiT, two arms each; nothing of the convergence."""
    distinct = trainings(tables_of("imagenet256"))
    assert len(distinct) == 13 + (6 - 2) + (12 - 1) + 2 + 1 + 3 * 2 + 3 + (8 - 2) * 2 + 0
    assert len({training.train_id for training in distinct}) == len(distinct)
    shared = Counter(training.tables for training in distinct if len(training.tables) > 1)
    assert shared == {
        ("table2", "table3", "table4", "figure4", "convergence"): 2,
        ("table5", "table6", "figure4"): 2,
        ("table7a", "table7b"): 2,
    }


@pytest.mark.parametrize("scale", ["imagenet256", "digits", "smoke"])
def test_sharing_is_that_of_the_specs_themselves(scale):
    """Counted again by the whole content of each spec, without identities."""
    tables_by_spec: dict[str, set[str]] = {}
    longest: Counter[str] = Counter()
    measured: dict[str, set[str]] = {}
    for table in tables_of(scale):
        for run in table.runs:
            content = json.dumps(run.train.model_dump(mode="json"), sort_keys=True)
            tables_by_spec.setdefault(content, set()).add(table.name)
            longest[content] = max(longest[content], run.evaluation.step)
            measured.setdefault(content, set()).add(run.evaluation.model_dump_json())
    distinct = trainings(tables_of(scale))
    assert len(distinct) == len(tables_by_spec)
    ours = Counter((frozenset(t.tables), t.steps, t.measurements) for t in distinct)
    theirs = Counter((frozenset(tables_by_spec[key]), longest[key], len(measured[key])) for key in tables_by_spec)
    assert ours == theirs


def test_a_training_is_told_by_what_sets_it_apart():
    by_words = {(t.model, t.words): t for t in trainings(tables_of("imagenet256"))}
    assert len(by_words) == 52  # no two are told alike
    assert by_words["SiT-B/2", "loss: Hinge; arm: dispersive"].tables == ("table2",)
    assert by_words["SiT-B/2", "λ: 0.25; τ: 2.0"].tables == ("table4",)
    longest = by_words["SiT-XL/2", "arm: dispersive"]  # neither epochs, sampler nor guidance change it
    assert (longest.steps, longest.measurements) == (7_000_000, 5)
    assert by_words["MF-B/2", "model: MF-B/2, 240 epochs; arm: baseline"].steps == 1_200_000


TRASH = (
    lambda path: os.mkfifo(path),
    lambda path: path.mkdir(),
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.write_bytes(b"[" * 200_000),
    lambda path: path.write_bytes(b'{"schema_version": 2}'),
    lambda path: path.write_bytes(b'{"schema_version": 1, "meas'),
    lambda path: path.write_bytes(b"\xff\xfe\x00"),
)
FILES = ("spec.json", "env.json", "train.jsonl", "heartbeat.json", "error.json", "facts.json", "evals/{}.json",
         "evals/{}.png", "probe-{}.json")  # fmt: skip


def test_bad_files_cost_their_own_cells_and_no_command_stops(tmp_path, monkeypatch):
    """Each training of a table but the first has one kind of trash for its files; the first one's number stays."""
    shutil.copytree(GRIDS, tmp_path / "grids")
    monkeypatch.chdir(tmp_path)
    table, store = table_of("table3", "smoke"), new_store(tmp_path, "s")
    store.record_grid("table3", tmp_path / "grids" / "table3.yaml", "smoke", [])
    store.record_grid("table2", tmp_path / "grids" / "table2.yaml", "smoke", [])
    for index, run in enumerate(table.runs):
        write_measurement(store, run, 5.0 + index)
    first, *others = {run.train_id: run for run in table.runs}.values()
    for index, run in enumerate(others):
        for name in (name.format(run.eval_id) for name in FILES):
            path = store.run_folder(run.train_id) / name
            path.unlink(missing_ok=True)
            TRASH[index % len(TRASH)](path)
        scratch = store.scratch_folder(run.train_id)
        scratch.mkdir(parents=True)
        TRASH[index % len(TRASH)](scratch / "submission.json")
    (store.root / "grids" / "table2.json").write_text('{"grid": 7, "set": 5}')
    os.mkfifo(store.root / "grids" / "table4.json")
    shows = [("show", run.train_id) for run in (first, *others[: len(TRASH)])]
    of_all = ("status", "s"), ("status", "s", "--json"), ("report", "s"), ("collect", "s"), ("logs", "--failed", "s")
    for words in (*of_all, *shows):
        outcome = command(tmp_path, *words)
        assert outcome.code == 0, (words, outcome.text)
        left_out = [
            line for line in outcome.text.splitlines() if line.startswith("Left out: ") and "train.jsonl" not in line
        ]
        assert len(left_out) in ((0, 2) if words[0] == "show" else (2, 4)), (words, left_out)
    with (tmp_path / "reports" / "s" / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "fid"]
    values = {row["train_id"]: float(row["value"]) for row in rows if row["value"]}
    assert values[first.train_id] in [5.0 + i for i, run in enumerate(table.runs) if run.train_id == first.train_id]
    assert {row["train_id"]: row["state"] for row in rows if not row["value"]}.keys() == {r.train_id for r in others}
    assert {row["state"] for row in rows if not row["value"]} == {"unreadable"}
    page = (tmp_path / "reports" / "s" / "index.html").read_text()
    assert all(f"{name}: its grid" in page for name in ("table2", "table4"))
    assert command(tmp_path, "bundle", "s").code == 2


def test_the_grid_with_which_a_study_has_too_many_cells_costs_itself_and_a_line(tmp_path, monkeypatch, capsys):
    store = new_store(tmp_path)
    for name in ("table2", "table3", "table4"):
        store.record_grid(name, GRIDS / f"{name}.yaml", "smoke", [])
    whole = study_tables(store)
    monkeypatch.setattr(studying, "MOST_CELLS", sum(len(table.cells) for table in whole) - 1)
    assert [table.name for table in study_tables(store)] == ["table2", "table3"]
    assert "table4.yaml: with it the study has more than" in capsys.readouterr().err
