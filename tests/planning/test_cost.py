"""What a plan costs: each training once, only what is left, and never more than a limit."""

import pytest
from support.prices import EVERY, prices, runs_of
from support.synthetic_study import new_store, table_of, write_measurement

from harness.checkpoint_paths import state_path, write_latest
from harness.errors import UserError
from harness.planning import flops
from harness.planning.cost import Prices, checkpoint_bytes
from harness.planning.throughput import Assumption


def test_the_price_of_one_row_by_hand(tmp_path):
    """SiT-B/2 for 400K steps of 256; 50,000 images, drawn as 782 tiles of 64, by Heun with 249 intervals."""
    (run, *_) = table_of("table2", "imagenet256").runs
    cost = prices(tmp_path, table_of("table2", "imagenet256")).cost([run])
    forward = 2 * 256 * 12 * 12 * 768**2 + 12 * 4 * 256**2 * 768 + 12 * 12 * 768**2  # 12 blocks
    forward += 2 * 256 * 768 * 16 * 2 + 2 * 256 * 768 + 2 * 768**2 + 4 * 768**2  # patches in and out, time, last norm
    first = 2 * 256 * 768 * 16 + 2 * 256 * 768
    assert cost.training == pytest.approx(400_000 * 256 * (3 * forward - first) / (0.5 * 989e12) / 3600)
    assert cost.sampling == pytest.approx(782 * 64 * 498 * forward / (0.5 * 67e12) / 3600)
    assert flops.parameters(run.train) == 130_303_504  # SiT-B/2 without its fixed positions
    stored = (2 * 2 + 2) * 130_303_504 + 4 * 256 * 768  # state, and one pair of weights, in float32
    assert cost.bytes == checkpoint_bytes(run.train, [400_000]) == 4 * stored


def test_a_training_that_tables_share_is_paid_once(tmp_path):
    two, four = table_of("table2", "imagenet256"), table_of("table4", "imagenet256")
    price = prices(tmp_path, two, four)
    together, apart = price.cost(runs_of(two, four)), [price.cost(table.runs) for table in (two, four)]
    shared = {run.train_id for run in two.runs} & {run.train_id for run in four.runs}
    twice = price.cost([run for run in two.runs if run.train_id in shared])
    assert len(shared) == 2
    assert together.hours == pytest.approx(sum(cost.hours for cost in apart) - twice.hours)
    assert together.bytes == sum(cost.bytes for cost in apart) - twice.bytes


def test_what_is_done_is_not_paid_again(tmp_path):
    table, store = table_of("table5", "imagenet256"), new_store(tmp_path)
    baseline = [run for run in table.runs if run.train_id == table.runs[0].train_id]
    whole = Prices(table.runs, store, EVERY).cost(baseline)
    write_latest(store.scratch_folder(baseline[0].train_id), 4_000_000)
    state_path(store.scratch_folder(baseline[0].train_id), 4_000_000).touch()
    for run in baseline:
        if run.evaluation.step < 7_000_000:
            write_measurement(store, run, 3.0)
    left = Prices(table.runs, store, EVERY).cost(baseline, left=True)
    assert left.training == pytest.approx(whole.training * 3 / 7)
    for run in baseline:
        write_measurement(store, run, 3.0)
    assert Prices(table.runs, store, EVERY).cost(baseline, left=True).hours == 0
    assert Prices(table.runs, store, EVERY).cost(baseline) == whole


def test_too_much_is_refused(tmp_path):
    table = table_of("table2", "imagenet256")
    price = prices(tmp_path, table)
    hours = price.cost(table.runs).hours
    price.refuse_beyond(hours + 1)
    with pytest.raises(UserError, match=r"--max-gpu-hours 10: about [\d,.]+ GPU-hours are left to do; .* --fit 10"):
        price.refuse_beyond(10)
    with pytest.raises(UserError, match="did you mean 'H100'"):
        Assumption("H10O")


def test_an_encoder_that_is_not_known_is_said(tmp_path):
    giant = "alignment.encoder=vit_giant_patch14_dinov2.lvd142m"
    assert "without vit_giant" in prices(tmp_path, table_of("table6", "imagenet256", giant)).words
