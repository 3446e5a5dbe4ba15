"""What a plan costs: each training once, only what is left, never more than a limit, at a measured or assumed speed."""

import json
from dataclasses import replace

import pytest
from support.places import ROOT
from support.prices import EVERY, prices, runs_of
from support.synthetic_study import new_store, table_of, write_measurement

from harness.checkpoint_paths import state_path, write_latest
from harness.errors import UserError
from harness.files import write_json
from harness.planning import flops
from harness.planning.cost import Assumption, Prices, checkpoint_bytes


def test_the_price_of_one_row_by_hand(tmp_path):
    """SiT-B/2 for 400K steps of 256; 50,000 images, drawn as 196 tiles of 256, by Heun with 249 intervals."""
    (run, *_) = table_of("table2", "imagenet256").runs
    cost = prices(tmp_path, table_of("table2", "imagenet256")).cost([run])
    forward = 2 * 256 * 12 * 12 * 768**2 + 12 * 4 * 256**2 * 768 + 12 * 12 * 768**2  # 12 blocks
    forward += 2 * 256 * 768 * 16 * 2 + 2 * 256 * 768 + 2 * 768**2 + 4 * 768**2  # patches in and out, time, last norm
    first = 2 * 256 * 768 * 16 + 2 * 256 * 768
    assert cost.training == pytest.approx(400_000 * 256 * (3 * forward - first) / (0.5 * 989e12) / 3600)
    assert cost.sampling == pytest.approx(196 * 256 * 498 * forward / (0.5 * 494e12) / 3600)
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


def measured_run(store, run, device, rate, **attempt):
    folder = store.run_folder(run.train_id)
    write_json(folder / "spec.json", run.train.model_dump(mode="json", by_alias=True, exclude_none=True))
    write_json(folder / "env.json", {"attempts": [{"device": device, **attempt}]})
    lines = [{"step": k, "images_per_second": 1 if k == 100 else rate} for k in (100, 200, 300)]  # slow at first
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_measured_speed_goes_before_the_assumption(tmp_path):
    table, store = table_of("table2", "imagenet256"), new_store(tmp_path)
    run = table.runs[0]
    measured_run(store, run, "NVIDIA H100", 2000.0, gpus=2, processes=2)
    price = Prices(table.runs, store, EVERY)
    assert price.cost([run]).training == pytest.approx(400_000 * 256 / 1000 / 3600)  # two GPUs shared 2,000 images/s
    dispersive = next(r for r in table.runs if r.train.regularizer and r.train.regularizer.kind == "dispersive")
    ratio = flops.training(dispersive.train) / flops.training(run.train)
    assert price.cost([dispersive]).training == pytest.approx(ratio * price.cost([run]).training)
    assert "13 trainings by the images/s of earlier runs on NVIDIA H100" in price.words
    measured_run(store, run, "NVIDIA H100", 500.0, gpus=1, sharing=4)  # as do three others beside it on the same GPU
    assert Prices(table.runs, store, EVERY).cost([run]).training == pytest.approx(400_000 * 256 / 2000 / 3600)
    measured_run(store, run, "Intel", 2000.0, threads=1)  # what a processor did says nothing of GPUs
    assert "all by assumption: 50% of the H100's 989 TFLOP/s in bf16" in Prices(table.runs, store, EVERY).words


def test_committed_results_of_before_these_fields_are_read():
    store = replace(new_store(ROOT), results=ROOT / "results", study="digits")
    price = Prices(table_of("table5").runs, store, EVERY)
    assert price.unit == "core"
    assert "by the images/s of earlier runs on Intel(R) Xeon(R) Processor" in price.words
    assert price.cost(table_of("table5").runs, left=True).hours == 0
