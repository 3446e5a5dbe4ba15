"""The study for a card: what it says where data is missing, and its rehearsal on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import GRIDS, ROOT

from harness.config.grid import load_table


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    places = {f"HARNESS_{kind.upper()}": str(folder / kind) for kind in ("results", "scratch", "data")}
    command = [sys.executable, ROOT / "benchmarks" / "gpu_study.py", *words]
    return subprocess.run(command, env=os.environ | places, cwd=folder, capture_output=True, text=True)


def test_its_arms_share_all_but_the_temperature():
    for scale in ("cifar10-5000", "fashion-mnist-card"):
        table = load_table(GRIDS / "card.yaml", scale)
        arms = {dict(cell.at)["arm"]: cell.runs[0].train for cell in table.cells}
        taus = {name: train.regularizer and train.regularizer.constants["tau"] for name, train in arms.items()}
        assert taus == {"baseline": None, "τ 0.5": 0.5, "a tenth of D": {"of_distance": 0.1}}
        assert len({train.model_copy(update={"regularizer": None}).model_dump_json() for train in arms.values()}) == 1
        assert {run.evaluation.evaluation.reference for run in table.runs} == {"test"}


@pytest.mark.slow
@pytest.mark.long
def test_missing_data_is_said_before_anything_begins_and_the_rehearsal_ends_with_its_numbers(tmp_path: Path):
    refused = call(tmp_path)
    assert refused.returncode == 2
    assert [line.split(":")[0] for line in refused.stderr.splitlines()] == [
        "data set cifar10-5000", *(["data set fashion-mnist"] if "fashion" in refused.stderr else [])
    ]  # fmt: skip
    assert not list(tmp_path.iterdir())
    done = call(tmp_path, "--tiny", "--minutes", "5")
    assert done.returncode == 0, done.stderr
    stored = [json.loads(path.read_text()) for path in tmp_path.glob("results/smoke/*/evals/*.json")]
    assert len(stored) == 9
    assert all({"fid", "held_out_loss", "loss_gap", "copying"} <= record["metrics"].keys() for record in stored)
    size = sum(path.stat().st_size for path in (tmp_path / "results").rglob("*") if path.is_file())
    assert size < 2_000_000
