"""The folder is the database: nothing is ever half written, and status follows from which files exist."""

import multiprocessing
import os
import platform
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from support.synthetic_study import new_store, table_of, write_measurement, write_text

from harness.config.grid import Run
from harness.errors import UserError
from harness.files import write_json
from harness.report.reading.collect import collect
from harness.report.reading.tidy import tidy_table
from harness.store import records
from harness.store import store as storing
from harness.store.records import HEARTBEAT_STALE_SECONDS, LOG, Environment
from harness.store.status import run_status
from harness.store.store import Logs, Store
from harness.store.study import runs_by_training

TRAIN, EVAL = "0123456789ab", "ba9876543210"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", tmp_path / "scratch", "study")


def beat(store, **changes):
    alive = {"time": time.time(), "host": platform.node(), "pid": os.getpid()}
    sign = {"phase": "training", "step": 7, "total": 9} | alive
    write_json(store.run_folder(TRAIN) / "heartbeat.json", sign | changes)


def state(store):
    return run_status(store, TRAIN, EVAL).state


def test_status_follows_from_the_files(store):
    assert state(store) == "not run"
    beat(store)
    assert state(store) == "running"
    assert run_status(store, TRAIN, EVAL).reason == "training, step 7 of 9"
    beat(store, pid=2**22 + 1)  # above the largest process id: nobody
    assert state(store) == "interrupted"
    beat(store, time=time.time() - HEARTBEAT_STALE_SECONDS - 1)  # a process id that somebody else has by now
    assert state(store) == "interrupted"
    beat(store, host="elsewhere")
    assert state(store) == "running"
    beat(store, host="elsewhere", time=time.time() - HEARTBEAT_STALE_SECONDS - 1)
    assert state(store) == "interrupted"
    write_json(store.run_folder(TRAIN) / "error.json", {"class": "diverged", "message": "loss not finite"})
    assert run_status(store, TRAIN, EVAL).reason == "loss not finite"
    assert state(store) == "diverged"
    store.eval_path(TRAIN, EVAL).parent.mkdir()
    store.eval_path(TRAIN, EVAL).write_text('{"metrics": {"fi')
    assert state(store) == "unreadable"
    write_json(store.eval_path(TRAIN, EVAL), {})
    assert state(store) == "done"


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b"])
def test_a_study_cannot_leave_its_folder(tmp_path, name):
    with pytest.raises(UserError, match="study"):
        Store(tmp_path, tmp_path, name)


def test_a_study_does_not_forget_its_runs(store):
    grid = Path("grids/table3.yaml")
    store.record_grid("table3", grid, "smoke", ["batch=64"])
    with pytest.raises(UserError, match="at scale smoke"):
        store.check_grid("table2", Path("grids/table2.yaml"), "digits", [])
    with pytest.raises(UserError, match=r"holds grids/table3\.yaml with --set batch=64"):
        store.check_grid("table3", grid, "smoke", ["batch=32"])
    with pytest.raises(UserError, match="holds"):
        store.check_grid("table3", Path("other/table3.yaml"), "smoke", ["batch=64"])
    store.check_grid("table3", grid, "smoke", ["seeds=[0,1]", "batch=64"])


@pytest.mark.parametrize("content", ["{", "[]", '{"grid": "grids/table3.yaml"}'])
def test_a_damaged_record_of_a_grid_says_what_mends_it(store, content):
    store.record_grid("table3", Path("grids/table3.yaml"), "smoke", [])
    (store.root / "grids" / "table3.json").write_text(content)
    for read in (lambda: list(store.grids()), lambda: store.check_grid("table3", Path("x.yaml"), "smoke", [])):
        with pytest.raises(UserError, match=r"table3\.json: not a record of a grid; delete it"):
            read()


def log_lines(count):
    return "".join(f'{{"step": {step}, "loss": {1 / step}}}\n' for step in range(1, count))


def test_what_a_study_logged_is_read_once(tmp_path):
    run, store = table_of("table2").runs[0], new_store(tmp_path)
    folder, logs = store.run_folder(run.train_id), Logs(store)
    write_text(folder / LOG, log_lines(3))
    Environment(attempts=[]).write(folder)
    first = logs.of(run.train_id), logs.environment(run.train_id)
    write_text(folder / LOG, log_lines(9))
    write_text(folder / Environment.FILE, "torn")
    assert (logs.of(run.train_id), logs.environment(run.train_id)) == first
    with pytest.raises(UserError, match=r"env\.json is broken"):
        Logs(store).environment(run.train_id)


def test_a_log_that_is_too_long_costs_its_own_curve_and_a_line(tmp_path, monkeypatch, capsys):
    first, second, third = sorted({run.train_id for run in table_of("table2").runs})[:3]
    store = new_store(tmp_path)
    for train_id, lines in ((first, 4), (second, 9), (third, 5)):
        write_text(store.run_folder(train_id) / LOG, log_lines(lines))
    monkeypatch.setattr(records, "MOST_LINES", 5)
    monkeypatch.setattr(storing, "MOST_POINTS", 6)
    logs = Logs(store)
    lengths = [len(logs.of(train_id)["loss"]) for train_id in (first, second, third, first, second, third)]
    assert lengths == [3, 0, 0, 3, 0, 0]
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"Left out: {store.run_folder(second) / LOG}: more than 5 lines",
        f"Left out: {store.run_folder(third) / LOG}: more than 6 numbers with the logs of the other trainings",
    ]


# Many jobs write one store while somebody collects it.

WRITERS = 20


def write_until(enough: Event, store: Store, runs: list[Run], writer: int) -> None:
    written = 0
    os.nice(19)  # there are more of them than cores, and the collector is waited for
    while not enough.is_set():
        for run in runs:
            write_measurement(store, run, fid=writer + written / 1000)
            write_json(store.run_folder(run.train_id) / "heartbeat.json", {"step": written, "filler": [writer] * 2000})
        written += 1


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, pytest.param(20, marks=pytest.mark.long)])
def test_twenty_writers_and_a_collector_never_meet(tmp_path, seconds):
    store, table = new_store(tmp_path), table_of("figure4", "digits", "seeds=[0, 1]")
    shares = list(runs_by_training(table.runs).values())[:WRITERS]
    assert len(shares) == WRITERS
    for runs in shares:
        for run in runs:
            write_measurement(store, run, fid=0.0)
    fork = multiprocessing.get_context("fork")
    enough, end = fork.Event(), time.monotonic() + seconds
    writers = [fork.Process(target=write_until, args=(enough, store, runs, n)) for n, runs in enumerate(shares)]
    for writer in writers:
        writer.start()
    ours, reads, seen = {run.eval_id for runs in shares for run in runs}, 0, set()
    try:
        while time.monotonic() < end or reads <= 3 or (len(seen) <= 2 * WRITERS and reads < 1000):
            frame = tidy_table(collect(store, [table]))
            mine = frame[frame.eval_id.isin(ours) & (frame.metric == "fid")]
            assert set(mine.state) == {"done"}, mine[mine.state != "done"]
            assert len(mine) == len(ours)
            seen |= set(mine.value)
            reads += 1
    finally:
        enough.set()
        for writer in writers:
            writer.join()
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    assert len(seen) > 2 * WRITERS
