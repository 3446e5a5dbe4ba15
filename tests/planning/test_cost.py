"""What a plan costs: each training once, only what is left, by measured speed where there is one; and what a budget
buys."""

import json
import re
import shutil
import time
from dataclasses import replace
from itertools import combinations

import pytest
from support.places import ROOT
from support.synthetic_study import new_store, table_of, write_measurement

from harness.checkpoint_files import state_path, write_latest
from harness.commands.plan_run_submit import assume
from harness.errors import UserError
from harness.files import write_json
from harness.planning import flops
from harness.planning.budget import fit, rows
from harness.planning.cost import Prices, checkpoint_bytes, refuse_beyond
from harness.planning.throughput import Assumption

EVERY = Assumption("H100", 0.5)


def runs_of(*tables):
    return [run for table in tables for run in table.runs]


def prices(tmp_path, *tables, assumption=EVERY):
    return Prices(runs_of(*tables), new_store(tmp_path), assumption)


def test_the_price_of_one_row_by_hand(tmp_path):
    """SiT-B/2 for 400K steps of 256; 50,000 images, drawn as 782 tiles of 64, by Heun with 249 intervals."""
    (run, *_) = table_of("table2", "imagenet256").runs
    cost = prices(tmp_path, table_of("table2", "imagenet256")).cost([run])
    one = 2 * 256 * 12 * 12 * 768**2 + 12 * 4 * 256**2 * 768 + 12 * 12 * 768**2  # 12 blocks
    one += 2 * 256 * 768 * 16 * 2 + 2 * 256 * 768 + 2 * 768**2 + 4 * 768**2  # patches in and out, time, last norm
    first = 2 * 256 * 768 * 16 + 2 * 256 * 768
    assert cost.training == pytest.approx(400_000 * 256 * (3 * one - first) / (0.5 * 989e12) / 3600)
    assert cost.sampling == pytest.approx(782 * 64 * 498 * one / (0.5 * 67e12) / 3600)
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
    measured_run(store, run, "Intel", 2000.0, threads=1)  # what a processor did says nothing of GPUs
    assert "all by assumption: 50% of the H100's 989 TFLOP/s in bf16" in Prices(table.runs, store, EVERY).words


def test_committed_results_of_before_these_fields_are_read():
    store = replace(new_store(ROOT), results=ROOT / "results", study="digits")
    price = Prices(table_of("table5").runs, store, EVERY)
    assert price.unit == "core"
    assert "by the images/s of earlier runs on Intel(R) Xeon(R) Processor" in price.words
    assert price.cost(table_of("table5").runs, left=True).hours == 0


def test_a_budget_is_kept_and_a_row_comes_with_its_baseline(tmp_path):
    tables = [table_of(name, "imagenet256") for name in ("table2", "table7a", "table7b")]
    price = prices(tmp_path, *tables)
    found = fit(tables, price, 400.0)
    bought = [run for row in found.chosen for run in row.runs]
    assert found.hours == pytest.approx(price.cost(bought, left=True).hours)
    assert found.hours <= 400.0
    names = {(row.table.name, row.cell.at) for row in (*found.chosen, *found.left_out)}
    assert len(names) == len(found.chosen) + len(found.left_out) == 12 + 4 + 5  # a baseline is no row of its own
    for row in found.chosen:
        baseline = row.table.baseline(row.cell)
        assert baseline is None or set(baseline.runs) <= set(row.runs)
    for row in found.left_out:
        assert price.cost([*bought, *row.runs], left=True).hours > 400.0


def test_the_rule_buys_as_many_rows_as_can_be_bought_of_a_small_table(tmp_path):
    table = table_of("table7a", "imagenet256")
    price, candidates = prices(tmp_path, table), list(rows([table]))
    for budget in (0.0, 60.0, 200.0, 1e6):
        best = max(
            n
            for n in range(len(candidates) + 1)
            for chosen in combinations(candidates, n)
            if price.cost([run for row in chosen for run in row.runs], left=True).hours <= budget
        )
        assert len(fit([table], price, budget).chosen) == best


def test_too_much_is_refused(tmp_path):
    table = table_of("table2", "imagenet256")
    price = prices(tmp_path, table)
    hours = price.cost(table.runs).hours
    refuse_beyond(hours + 1, price, table.runs)
    with pytest.raises(UserError, match=r"--max-gpu-hours 10: about [\d,.]+ GPU-hours are left to do; .* --fit 10"):
        refuse_beyond(10, price, table.runs)
    with pytest.raises(UserError, match="did you mean 'H100'"):
        assume("H10O", None)


def test_an_encoder_that_is_not_known_is_said(tmp_path):
    giant = "alignment.encoder=vit_giant_patch14_dinov2.lvd142m"
    assert "without vit_giant" in prices(tmp_path, table_of("table6", "imagenet256", giant)).words


def test_the_command_prices_refuses_and_proposes(tmp_path, monkeypatch, capsys):
    from harness import cli

    shutil.copytree(ROOT / "grids", tmp_path / "grids")
    monkeypatch.chdir(tmp_path)
    words = ["plan", "grids/table2.yaml", "grids/table3.yaml", "--scale", "imagenet256", "--gpu", "A100"]
    monkeypatch.setattr(
        "sys.argv", ["harness", *words, "--fit", "600", "--max-gpu-hours", "100", "--gpu-hour-price", "2"]
    )
    start = time.process_time()
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert time.process_time() - start < 5
    out = capsys.readouterr()
    assert stop.value.code == 2
    assert "--max-gpu-hours 100: about" in out.err
    assert re.search(r"all, each training once +17 ", out.out)
    assert re.search(r"\d+ of 17 rows fit: \d+ of 600 GPU-hours", out.out)
    assert "at 2 an hour, what is left costs" in out.out
    assert not (tmp_path / "results").exists()
