"""Checkpoints: which count, and what is said of one that was cut."""

from pathlib import Path

import pytest
import torch

from harness.checkpoint_paths import latest_step, weights_path
from harness.errors import UserError
from harness.networks import checkpoint


def test_a_writer_that_is_behind_erases_no_later_state(tmp_path: Path):
    tensors = {"a": torch.zeros(1)}
    for step, left in ((300, [300]), (100, [100, 300]), (200, [200, 300]), (400, [400])):
        checkpoint.save_state(tmp_path, step, tensors)
        assert sorted(path.name for path in tmp_path.glob("state-*")) == [f"state-{n:08}.safetensors" for n in left]
        assert latest_step(tmp_path) == step


@pytest.mark.parametrize("length", [0, 4, 500])
def test_a_checkpoint_that_was_cut_is_named(tmp_path, length):
    checkpoint.save_state(tmp_path, 3, {"model.w": torch.zeros(1000)})
    checkpoint.save_weights(tmp_path, 3, {"model.w": torch.zeros(1000)})
    for path, load in (
        (tmp_path / "state-00000003.safetensors", lambda: checkpoint.load_state(tmp_path)),
        (weights_path(tmp_path, 3), lambda: checkpoint.load_weights(tmp_path, 3, "model")),
    ):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(UserError, match=rf"{path.name}: damaged: .*; delete it, and the training makes it again"):
            load()


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path):
    half = torch.zeros(8).index_fill(0, torch.tensor([2]), float("nan"))
    checkpoint.save_weights(tmp_path, 3, {"model.w": torch.zeros(8), "ema.w": half})
    assert checkpoint.load_weights(tmp_path, 3, "model")["w"].sum() == 0
    with pytest.raises(UserError, match=r"00000003\.safetensors: ema: w: 1 of 8 values are not finite"):
        checkpoint.load_weights(tmp_path, 3, "ema")
