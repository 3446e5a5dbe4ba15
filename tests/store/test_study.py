"""`harness status`: what it says follows from a run's own files, whichever machine wrote them."""

import json
import platform
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from support.places import GRIDS, ROOT
from support.synthetic_study import new_store, table_of, write_error, write_heartbeat, write_measurement

from harness.commands.console import status_summary, status_table
from harness.commands.status_retry_cancel import watch_status
from harness.files import read_json, write_json
from harness.jobs.recording import record_attempt, record_failure
from harness.store.records import Environment
from harness.store.study import duration, study_tables, training_statuses

START = "2026-11-21T05:00:00+00:00"


def attempts(store, run, *found):
    write_json(store.run_folder(run.train_id) / "env.json", {"attempts": list(found)})


def at(hour, minute=0):
    return datetime(2026, 11, 21, hour, minute, tzinfo=UTC)


@pytest.fixture
def study(tmp_path):
    """Table 5 at digits, seed 0: one training half way, the others not begun."""
    table, store = table_of("table5", "digits", "seeds=[0]"), new_store(tmp_path)
    return table, store, table.cells[0].runs[0]


def standing_of(table, store, run):
    return next(s for s in training_statuses([table], store) if s.train_id == run.train_id)


def test_a_running_training_from_another_host(study):
    table, store, run = study
    last = max(r.evaluation.step for r in table.runs if r.train_id == run.train_id)
    write_heartbeat(store, run, step=480, total=last, time=time.time(), host="elsewhere")
    attempts(store, run, {"start": datetime.fromtimestamp(time.time() - 1800, UTC).isoformat(), "end": None,
                          "device": "NVIDIA H200", "gpus": 2, "processes": 2})  # fmt: skip
    log = [json.dumps({"step": step, "images_per_second": float(step)}) + "\n" for step in range(8, 481, 8)]
    (store.run_folder(run.train_id) / "train.jsonl").write_text("".join(log) + '{"step": 488, "images_per')
    found = standing_of(table, store, run)
    assert (found.state, found.phase, found.step, found.steps) == ("running", "training", 480, last)
    assert (found.epoch, found.epochs) == (480 / table.scale.steps_per_epoch, last / table.scale.steps_per_epoch)
    assert found.images_per_second == 480.0
    assert found.seconds_left == pytest.approx((last - 480) * run.train.batch / 480)
    assert (found.unit, found.hours) == ("GPU", pytest.approx(1.0, abs=0.01))  # half an hour of two
    write_heartbeat(store, run, step=480, total=last, time=time.time() - 120, host="elsewhere")
    stale = standing_of(table, store, run)
    assert (stale.state, stale.step, stale.seconds_left) == ("interrupted", 480, None)


def test_measurements_and_failures_are_counted(study):
    table, store, run = study
    mine = {r.eval_id: r for r in table.runs if r.train_id == run.train_id}
    first, *others = mine.values()
    write_measurement(store, first, 3.0)
    write_error(store, run, "error", "CUDA out of memory")
    found = standing_of(table, store, run)
    assert (found.state, found.reason, found.step) == ("failed", "CUDA out of memory", 300)
    assert (found.measured, found.measurements) == (1, len(mine))
    for other in others:
        write_measurement(store, other, 3.0)
    found = standing_of(table, store, run)
    assert (found.state, found.step, found.measured) == ("done", found.steps, len(mine))
    assert status_summary([found]) == f"1 done, {len(mine)} of {len(mine)} measurements, 0 core-hours spent"


def hours_spent(*attempts, last_sign=None):
    return Environment.model_validate({"attempts": attempts}).hours(last_sign)


def test_hours_of_attempts_by_hand():
    ended = {"start": START, "end": at(6).isoformat(), "device": "Intel", "threads": 2}  # before `processes` was kept
    killed = {"start": START, "end": None, "last_sign": at(5, 30).isoformat(), "device": "NVIDIA A100", "processes": 4}
    unknown = {"start": START, "end": None, "device": "Intel", "threads": 1}
    assert hours_spent(ended) == 2.0
    assert hours_spent(ended, killed) == 2.0 + 2.0
    assert hours_spent(unknown, ended) == 2.0
    assert hours_spent(ended, unknown, last_sign=at(5, 15).timestamp()) == 2.25


def test_each_attempt_says_where_and_as_what_it_ran(study, monkeypatch):
    _, store, run = study
    folder = store.run_folder(run.train_id)
    for name, value in {"JOB_ID": "12", "ARRAY_JOB_ID": "11", "ARRAY_TASK_ID": "3", "RESTART_COUNT": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with suppress(ZeroDivisionError), record_attempt(folder, run.train, 100, 1, 1):
        _ = 1 / 0
    record_failure(folder, RuntimeError("no"))
    sign = read_json(folder / "error.json")["time"]
    with record_attempt(folder, run.train, 100, 2, 3):
        pass
    first, second = read_json(folder / "env.json")["attempts"]
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert first["slurm"] == {"job": "12", "array": "11", "task": "3", "restarts": "1"}
    assert first["slurm_job_id"] == "11_3"
    assert first["end"] is None
    assert datetime.fromisoformat(first["last_sign"]).timestamp() == int(sign)
    assert (second["processes"], second["threads"], second["host"]) == (3, 2, platform.node())
    assert second["gpus"] in (0, 3)
    assert second["end"] is not None


def test_uncommitted_changes_are_kept_beside_the_run(tmp_path, monkeypatch):
    from harness.jobs import provenance

    package = tmp_path / "clone" / "harness"
    (package / "launch").mkdir(parents=True)
    for name in ("cli.py", "launch/provenance.py"):
        (package / name).write_text("before\n")

    def git(*words):
        who = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *who, "-C", tmp_path / "clone", *words], check=True, capture_output=True).stdout

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "m")
    monkeypatch.setattr(provenance, "__file__", str(package / "launch" / "provenance.py"))
    run = tmp_path / "run"
    clean = provenance.provenance(run, 1, 1)
    assert (clean["dirty"], clean["diff"]) == (False, None)
    assert clean["commit"] == git("rev-parse", "HEAD").decode().strip()
    (package / "cli.py").write_text("after\n")
    dirty = provenance.provenance(run, 1, 1)
    assert dirty["dirty"] is True
    git("checkout", "-q", ".")
    git("apply", str(run / dirty["diff"]))
    assert (package / "cli.py").read_text() == "after\n"


def test_the_command_in_words_and_as_json(study, monkeypatch, capsys):
    from harness import cli

    table, store, run = study
    root = ROOT
    monkeypatch.chdir(root)
    store.record_grid("table5", root / "grids" / "table5.yaml", "digits", ["seeds=[0]"])
    write_error(store, run, "diverged", "loss not finite")
    words = ["status", store.study, "--results", str(store.results), "--scratch", str(store.scratch)]
    monkeypatch.setattr(sys, "argv", ["harness", *words])
    cli.main()
    out = capsys.readouterr().out
    assert "1 diverged" in out
    assert "not run" in out
    assert "loss not finite" in " ".join(out.split())
    monkeypatch.setattr(sys, "argv", ["harness", *words, "--json"])
    cli.main()
    content = json.loads(capsys.readouterr().out)
    assert {t["train_id"] for t in content["trainings"]} == {r.train_id for r in table.runs}
    assert {t["state"] for t in content["trainings"]} == {"diverged", "not run"}


def test_watching_ends_when_all_is_done(study, monkeypatch, capsys):

    table, store, _ = study
    root = ROOT
    monkeypatch.chdir(root)
    store.record_grid("table5", root / "grids" / "table5.yaml", "digits", ["seeds=[0]"])
    naps = []

    def nap(seconds):
        naps.append(seconds)
        for run in table.runs:
            write_measurement(store, run, 3.0)

    watch_status(store, nap)
    assert len(naps) == 1
    few = status_table("s", training_statuses([table], store), most=1)
    assert few.row_count == 1


def test_durations():
    told = {0: "0 s", 62: "1 min 2 s", 3599.6: "1 h 0 min", 90_000: "1 d 1 h"}
    assert {seconds: duration(seconds) for seconds in told} == told


def test_tables_come_before_figures_and_both_before_our_own(tmp_path):
    shutil.copytree(GRIDS, tmp_path / "grids")
    ours = tmp_path / "grids" / "convergence.yaml"
    ours.write_text(ours.read_text(encoding="utf-8").replace("table: convergence", "table: early"), encoding="utf-8")
    store = new_store(tmp_path)
    for name in ("convergence", "figure4", "table7a", "table2"):
        store.record_grid(name, tmp_path / "grids" / f"{name}.yaml", "smoke", [])
    assert [table.name for table in study_tables(store)] == ["table2", "table7a", "figure4", "convergence"]
