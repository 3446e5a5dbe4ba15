"""Batches made ahead by several threads: each is that of its step, and no thread outlives its training."""

import threading
import time

import pytest
from support.specs import make_spec
from support.trainings import make_dataset, nothing

from harness.config.settings.resources import Resources
from harness.engine.batches import AHEAD, Batches
from harness.engine.distributed import ALONE
from harness.engine.train import train
from harness.networks.build import build_objective


def make_batches() -> Batches:
    spec = make_spec()
    return Batches(spec, make_dataset(), build_objective(spec), ALONE, None)


def test_the_next_steps_are_made_while_one_is_learnt_from(monkeypatch):
    begun, go = set(), threading.Event()

    def make(self: Batches, step: int) -> list[int]:
        begun.add(step)
        if step > 7:
            go.wait()
        return [step]

    monkeypatch.setattr(Batches, "_make", make)
    made = make_batches()
    assert made.get(7) == [7]
    for _ in range(2000):
        if len(begun) == 1 + AHEAD:
            break
        time.sleep(0.005)
    assert begun == set(range(7, 8 + AHEAD))
    go.set()
    assert [made.get(step) for step in (8, 9, 30, 10)] == [[8], [9], [30], [10]]
    made.close()


def test_what_is_wrong_with_a_batch_is_told_at_its_step(monkeypatch):
    def make(self: Batches, step: int) -> list[int]:
        return [1 // (5 - step)]

    monkeypatch.setattr(Batches, "_make", make)
    made = make_batches()
    assert [made.get(step) for step in (3, 4)] == [[0], [1]]
    with pytest.raises(ZeroDivisionError):
        made.get(5)
    made.close()


def test_no_thread_outlives_a_training_also_where_it_fails(tmp_path):
    class Full(Exception):
        pass

    def on_step(save) -> None:
        assert set(threading.enumerate()) - before  # of an earlier test, threads may still be ending
        raise Full

    before = set(threading.enumerate())
    with pytest.raises(Full):
        train(make_spec(), make_dataset(), tmp_path, tmp_path / "log", {3}, Resources(), nothing, on_step=on_step)
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=30)
    assert set(threading.enumerate()) <= before
