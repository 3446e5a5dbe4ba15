"""Names of checkpoints are told and read in one place."""

from harness.checkpoint_paths import LATEST, kept_weights, latest_step, state_path, weights_path, write_latest


def test_a_state_counts_when_it_is_named_and_there(tmp_path):
    assert latest_step(tmp_path) == 0
    write_latest(tmp_path, 20)
    assert latest_step(tmp_path) == 0
    state_path(tmp_path, 20).touch()
    assert latest_step(tmp_path) == 20
    (tmp_path / LATEST).write_text("torn")
    assert latest_step(tmp_path) == 0


def test_kept_weights_are_found_by_their_step(tmp_path):
    for step in (1_000_000_000, 0, 640):
        weights_path(tmp_path, step).touch()
    state_path(tmp_path, 7).touch()
    assert kept_weights(tmp_path) == {step: weights_path(tmp_path, step) for step in (0, 640, 1_000_000_000)}
    assert kept_weights(tmp_path / "none") == {}
