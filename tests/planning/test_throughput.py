"""The speed of a device: as earlier runs of the study measured it, else as is assumed."""

import json
from dataclasses import replace

import pytest
from support.places import ROOT
from support.prices import EVERY
from support.synthetic_study import new_store, table_of

from harness.files import write_json
from harness.planning import flops
from harness.planning.cost import Prices


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
