"""Checkpoints are written behind the training: of the moment they are asked for, in order, and seen to fail."""

import errno
import gc
import threading
import weakref
from pathlib import Path

import pytest
import torch
from support.specs import DISPERSIVE, make_spec
from support.trainings import CPU, make_dataset, nothing

from harness.checkpoint_paths import latest_step, weights_path
from harness.config.settings.resources import Resources
from harness.engine.allocator import release_memory
from harness.engine.checkpoint_writer import CheckpointWriter
from harness.engine.train import Trainer, train
from harness.networks import checkpoint

EVERY_STEP = Resources(log_every=1, checkpoint_minutes=1e-9)
FULL = OSError(errno.ENOSPC, "No space left on device")


def test_what_is_written_is_what_was_there_when_it_was_asked_for():
    tensors, written, goes_on = {"a": torch.ones(3)}, [], threading.Event()

    def save(copies):
        assert goes_on.wait(30)
        written.append(copies["a"].clone())

    with CheckpointWriter() as writer:
        writer.write(tensors, save)
        tensors["a"] += 1  # the next step, while it is written
        assert not written
        goes_on.set()
        writer.write(tensors, save)
    assert [copy.tolist() for copy in written] == [[1, 1, 1], [2, 2, 2]]


def fail(_) -> None:
    raise FULL


def fail_twice() -> None:
    with CheckpointWriter() as writer:
        writer.write({}, fail)
        raise ValueError("of the training")


def test_a_failure_is_raised_by_the_next_call_and_at_the_end():
    with CheckpointWriter() as writer:
        writer.write({}, fail)
        with pytest.raises(OSError, match="No space left"):
            writer.wait()
        writer.check()  # told once
    with pytest.raises(OSError, match="No space left"), CheckpointWriter() as writer:
        writer.write({}, fail)
    with pytest.raises(ValueError, match="of the training") as raised:
        fail_twice()
    assert raised.value.__notes__ == ["nor was the last checkpoint written: [Errno 28] No space left on device"]


def test_a_full_disk_stops_the_training_with_its_reason_and_the_checkpoint_before_stays(tmp_path: Path, monkeypatch):
    steps, real = [], checkpoint.save_state

    def save_state(folder, step, *tensors):
        if step > 2:
            raise FULL
        real(folder, step, *tensors)

    monkeypatch.setattr(checkpoint, "save_state", save_state)
    with pytest.raises(OSError, match="No space left"):
        train(make_spec(), make_dataset(), tmp_path, tmp_path / "log", {50}, EVERY_STEP, steps.append)
    assert max(steps) < 50
    assert latest_step(tmp_path) == 2
    assert checkpoint.load_state(tmp_path)["model.pos_embed"].isfinite().all()


def test_weights_are_kept_before_the_state_that_comes_after_them(tmp_path: Path, monkeypatch):
    """A kill between the two costs a step, and no weights: those before a checkpoint would be trained for again."""
    seen, real = [], checkpoint.save_state

    def save_state(folder, step, *tensors):
        seen.append((step, weights_path(folder, step).is_file()))
        real(folder, step, *tensors)

    monkeypatch.setattr(checkpoint, "save_state", save_state)
    train(make_spec(), make_dataset(), tmp_path, tmp_path / "log", {2, 3}, EVERY_STEP, nothing)
    assert seen == [(1, False), (2, True), (3, True)]
    assert {name.split(".")[0] for name in checkpoint._load(weights_path(tmp_path, 2))} == {"model", "ema"}


@pytest.mark.parametrize("resources", [Resources(), Resources(checkpoint_blocks=True), Resources(compile=True)])
def test_memory_of_a_training_is_given_back(resources: Resources):
    """At once, but for blocks that were changed, which know themselves: those are for the collector."""
    gc.collect()
    gc.disable()
    try:
        trainer = Trainer(make_spec(regularizer=DISPERSIVE), make_dataset(), CPU, resources)
        if not resources.compile:  # which takes long
            trainer.step(0, look=True)
        weight = weakref.ref(trainer.net.blocks[0].attn.qkv.weight)
        trainer.batches.close()
        del trainer
        assert (weight() is None) == (resources == Resources())
        release_memory()
        assert weight() is None
    finally:
        gc.enable()
