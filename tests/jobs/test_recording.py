"""Each attempt at a training says where and as what it ran, and how it ended."""

import platform
from contextlib import suppress
from datetime import datetime

from support.synthetic_study import new_store, table_of

from harness.files import read_json, write_json
from harness.jobs.recording import record_attempt, record_failure
from harness.store.records import Environment, Failure, Heartbeat, read_spec


def test_each_attempt_says_where_and_as_what_it_ran(tmp_path, monkeypatch):
    run = table_of("table5").runs[0]
    folder = new_store(tmp_path).run_folder(run.train_id)
    for name, value in {"JOB_ID": "12", "ARRAY_JOB_ID": "11", "ARRAY_TASK_ID": "3", "RESTART_COUNT": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with suppress(ZeroDivisionError), record_attempt(folder, run.train, 100, 1, 1):
        _ = 1 / 0
    record_failure(folder, RuntimeError("no"))
    failure = Failure.load(folder)
    with record_attempt(folder, run.train, 100, 2, 3):
        pass
    assert read_spec(folder) == run.train
    assert Failure.load(folder) is Heartbeat.load(folder) is None
    first, second = Environment.load(folder).attempts
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.slurm == {"job": "12", "array": "11", "task": "3", "restarts": "1"}
    assert first.slurm_job_id == "11_3"
    assert first.end is None
    assert datetime.fromisoformat(first.last_sign).timestamp() == int(failure.time)
    assert (second.processes, second.threads, second.host) == (3, 2, platform.node())
    assert second.gpus in (0, 3)
    assert second.end is not None


def test_what_earlier_attempts_say_stays_as_it_was_written(tmp_path):
    run = table_of("table5").runs[0]
    folder = new_store(tmp_path).run_folder(run.train_id)
    old = {"start": "2026-11-21T05:00:00+00:00", "end": None, "device": "Some CPU", "threads": 2, "of its time": [1]}
    write_json(folder / "env.json", {"attempts": [old]})
    with record_attempt(folder, run.train, 100, 1, 1):
        pass
    first, _ = read_json(folder / "env.json")["attempts"]
    assert first == old
