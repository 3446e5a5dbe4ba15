"""Names of checkpoints are told and read in one place."""

import pytest

from harness.checkpoint_paths import LATEST, kept_weights, latest_step, state_path, weights_path, write_latest


def test_a_state_counts_when_it_is_named_and_there(tmp_path):
    assert latest_step(tmp_path) == 0
    write_latest(tmp_path, 20)
    assert latest_step(tmp_path) == 0
    state_path(tmp_path, 20).touch()
    assert latest_step(tmp_path) == 20
    (tmp_path / LATEST).write_text("torn")
    assert latest_step(tmp_path) == 0


@pytest.mark.parametrize("step", ['"20"', "20.0", "true", "null", "1" * 40, "-20", "[]", "NaN", "30"])
def test_a_step_that_no_state_has_counts_as_none(tmp_path, step):
    state_path(tmp_path, 20).touch()
    (tmp_path / LATEST).write_text(f'{{"step": {step}, "file": "../{state_path(tmp_path, 20).name}"}}')
    assert latest_step(tmp_path) == 0


def test_kept_weights_are_found_by_their_step(tmp_path):
    for step in (1_000_000_000, 0, 640):
        weights_path(tmp_path, step).touch()
    state_path(tmp_path, 7).touch()
    (tmp_path / "weights-copy of 640.safetensors").touch()
    assert kept_weights(tmp_path) == {step: weights_path(tmp_path, step) for step in (0, 640, 1_000_000_000)}
    assert kept_weights(tmp_path / "none") == {}
