"""TensorBoard and W&B are told what the run's files say, each step once; without them nothing is missing."""

import json
import sys

import pytest
from support.synthetic_study import new_store, table_of, write_measurement

from harness.config.settings.resources import Resources
from harness.errors import UserError
from harness.jobs.tracking import LogFeed, check_trackers, tracked


def lines(*steps):
    return "".join(json.dumps({"step": step, "loss": 1 / step, "images_per_second": 10.0}) + "\n" for step in steps)


class Heard:
    def __init__(self):
        self.steps, self.results = [], None

    def log(self, step, numbers):
        self.steps.append((step, numbers["loss"]))

    def close(self, step, results):
        self.results = results


def test_a_step_is_told_once_whole_and_in_order(tmp_path):
    log, heard = tmp_path / "train.jsonl", Heard()
    feed = LogFeed(log, [heard])
    feed.update()
    log.write_text(lines(1, 2) + '{"step": 3, "lo')
    feed.update()
    assert heard.steps == [(1, 1.0), (2, 0.5)]
    log.write_text(lines(1, 2, 3))
    feed.update()
    log.write_text(lines(1))  # a job that goes on cuts the log to its checkpoint, and writes the same again
    feed.update()
    log.write_text(lines(1, 2, 3, 4))
    feed.update()
    assert heard.steps == [(step, 1 / step) for step in (1, 2, 3, 4)]


def test_a_tracker_that_fails_stops_nobody(tmp_path, capsys):
    log, heard, broken = tmp_path / "train.jsonl", Heard(), Heard()
    broken.log = lambda step, numbers: 1 / 0
    log.write_text(lines(1, 2))
    LogFeed(log, [broken, heard]).update()
    assert [step for step, _ in heard.steps] == [1, 2]
    assert capsys.readouterr().err.count("is told no more") == 1


def job_in(tmp_path, *names):
    """A run that trains and is measured while it is followed; returns the folder that trackers write in."""
    (run, *_), store = table_of("table2", "smoke").runs, new_store(tmp_path)
    folder, scratch = store.run_folder(run.train_id), store.scratch / store.study
    folder.mkdir(parents=True)
    with tracked(names, folder, scratch, run.train):
        (folder / "train.jsonl").write_text(lines(1, 2, 3))
        write_measurement(store, run, 3.5)
    return run, scratch / "tracking"


@pytest.mark.slow
@pytest.mark.waits
def test_tensorboard_reads_back_what_the_files_say(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, folder = job_in(tmp_path, "tensorboard")
    events = EventAccumulator(str(folder / "tensorboard" / run.train_id)).Reload()
    assert [(e.step, round(e.value, 6)) for e in events.Scalars("loss")] == [(1, 1.0), (2, 0.5), (3, 0.333333)]
    assert [(e.step, e.value) for e in events.Scalars(f"{run.eval_id}/fid")] == [(3, 3.5)]


@pytest.mark.slow
@pytest.mark.waits
def test_wandb_writes_an_offline_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run, folder = job_in(tmp_path, "wandb")
    (record,) = folder.glob(f"wandb/offline-run-*-{run.train_id}/*.wandb")
    assert f"{run.eval_id}/fid".encode() in record.read_bytes()


def test_a_missing_package_is_refused_before_the_run(tmp_path, monkeypatch, capsys):
    from harness import cli

    assert Resources(tracking=["wandb"]).tracking == ("wandb",)
    check_trackers([])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"resources.tracking: 'tensorboard' needs the package 'tensorboard': pip"):
        check_trackers(["tensorboard"])
    words = ["run", "grids/table2.yaml", "--scale", "smoke", "--set", "resources.tracking=[wandb]"]
    folders = ["--results", str(tmp_path / "results"), "--scratch", str(tmp_path / "scratch")]
    monkeypatch.setattr(sys, "argv", ["harness", *words, *folders])
    with pytest.raises(SystemExit):
        cli.main()
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
