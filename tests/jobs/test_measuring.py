"""Measuring a study again adds what it lacks, trains nothing, and changes nothing that is there."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from support.places import GRIDS

from harness import cli
from harness.config.grid import load_table
from harness.errors import UserError
from harness.jobs.job import jobs_for
from harness.jobs.measuring import differing, lacks_metrics, remeasure
from harness.metric_definitions import MEASURED, OF_HELD_OUT, base
from harness.store.records import Measurement
from harness.store.store import Store


def aged(record: dict) -> dict:
    """Return a measurement as it was stored when there were fewer metrics, some of them in float32."""
    metrics = {name: record["metrics"][name] for name in ("fid", "kid", "kid_std", "precision", "recall")}
    metrics["recall"] = float(np.float32(metrics["recall"]))
    return {key: value for key, value in record.items() if key not in ("unavailable", "details")} | {"metrics": metrics}


@pytest.fixture(scope="module")
def made(tmp_path_factory, cache):
    """Return a folder with two measurements of one training, as they are made."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "scratch").mkdir()
    (folder / "scratch" / ".cache").symlink_to(cache)
    store = Store(folder / "results", folder / "scratch", "study")
    runs = load_table(GRIDS / "convergence.yaml", "smoke", ["seeds=[0]", "evaluation.held_out=40"]).runs
    assert jobs_for([run for run in runs if run.evaluation.step < 9], store, folder / "data")[0]().state == "done"
    return folder


@pytest.fixture
def study(tmp_path, made):
    """Return a store with two measurements of one training, aged; and what they were before."""
    for name in ("results", "scratch"):
        shutil.copytree(made / name, tmp_path / name, symlinks=True)
    store, before = Store(tmp_path / "results", tmp_path / "scratch", "study"), {}
    for path in store.root.glob("*/evals/*.json"):
        before[path] = json.loads(path.read_text())
        path.write_text(json.dumps(aged(before[path])))
        path.with_name(f"{path.stem}-nearest.png").unlink()
    assert len(before) == 2
    return store, before


def files(store: Store) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (*store.root.rglob("*"), *store.scratch.rglob("*")) if path.is_file()}


def test_what_is_lacking_comes_and_the_rest_stays(study, tmp_path):
    store, before = study
    old, messages = files(store), []
    assert remeasure(store, tmp_path, None, messages.append) == (2, 0)
    new = files(store)
    added = {path.name for path in new.keys() - old.keys()}
    assert added == {f"{path.stem}-nearest.png" for path in before}
    assert {path for path in old if old[path] != new[path]} == set(before)  # weights, logs and pictures are the same
    for path, whole in before.items():
        record, earlier = json.loads(new[path]), json.loads(old[path])
        assert record["metrics"].items() >= earlier["metrics"].items()
        assert record["metrics"] == pytest.approx(whole["metrics"], rel=1e-6)
        assert {*map(base, record["metrics"]), *record["unavailable"]} >= {*MEASURED, *OF_HELD_OUT}
        assert {key: record[key] for key in earlier if key != "metrics"} == {
            key: earlier[key] for key in earlier if key != "metrics"
        }
        assert not lacks_metrics(Measurement.read(path), None)
    assert remeasure(store, tmp_path, None, messages.append) == (0, 0)
    assert len(messages) == 2


def test_other_images_and_lost_weights_are_left_as_they_were(study, tmp_path):
    store, before = study
    moved, lost = sorted(before, key=lambda path: before[path]["spec"]["step"])
    record = aged(before[moved])
    record["metrics"]["fid"] += 0.01
    moved.write_text(json.dumps(record))
    next(store.scratch.glob(f"study/*/weights-{before[lost]['spec']['step']:08d}.safetensors")).unlink()
    old, messages = files(store), []
    assert remeasure(store, tmp_path, None, messages.append) == (0, 2)
    assert files(store) == old
    words = "\n".join(messages)
    assert f"{moved.stem}: left as it was: fid was {record['metrics']['fid']:.8g}, and is " in words
    assert f"{lost.stem}: left as it was: its weights of step" in words
    moved.write_text("{}")
    assert remeasure(store, tmp_path, None, messages.append) == (0, 2)
    assert "its file or its training's spec.json is broken" in "\n".join(messages)


def test_rounding_is_no_change():
    old = {"fid": 1.5, "kid": 1e-4, "recall": 0.8460471630096436}
    assert differing(old, {"fid": 1.5 + 1e-6, "kid": 1e-4 + 5e-7, "recall": 0.846047156726768, "new": 3.0}) == {}
    assert differing(old, {"fid": 1.5001, "kid": 1.1e-4}) == {"fid": (1.5, 1.5001), "kid": (1e-4, 1.1e-4)}


def test_what_cannot_be_measured_is_one_line(study, tmp_path, monkeypatch, capsys):
    store, _ = study
    with pytest.raises(UserError, match="no study here"):
        remeasure(Store(tmp_path / "nowhere", store.scratch, "study"), tmp_path, None, print)
    words = ["harness", "measure-study", "study", "--results", store.results, "--scratch", store.scratch]
    monkeypatch.setattr("sys.argv", [*map(str, words), "--features", "vit_nano"])
    with pytest.raises(SystemExit):
        cli.main()
    message = "features vit_nano: timm publishes no weights under this name; give a file by --weights"
    assert capsys.readouterr().err.strip() == message


@pytest.mark.slow
def test_another_network_is_measured_with_beside_the_own(study, tmp_path):
    store, before = study
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    other = ("test_vit", tmp_path / "vit.pth")
    assert remeasure(store, tmp_path, other, print) == (2, 0)
    for path in before:
        record = json.loads(path.read_text())
        assert record["metrics"]["fd:test_vit"] > 0
        names = {"kd:test_vit", "kd_std:test_vit", "precision:test_vit", "cmmd:test_vit", "cmmd:classifier"}
        assert names <= record["metrics"].keys()
        assert record["others"]["test_vit"]["protocol"]["features"].startswith("test_vit-")
        assert record["protocol"]["features"].startswith("classifier-")
    assert remeasure(store, tmp_path, other, print) == (0, 0)
