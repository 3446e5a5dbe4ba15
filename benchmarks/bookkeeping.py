"""Bookkeeping at scale: a plan of 1,000 rows, the status of 1,000 runs, and the collection of 10,000 results.

Each is a whole command, started anew as a user does; beside it stands a script that does no more than read the same
files with json and pandas, timed in turn with it. Run: python benchmarks/bookkeeping.py --rounds 5
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from harness.config.grid import Run, load_table
from harness.store.store import Store

GRIDS = Path(__file__).parents[1] / "grids"
STUDY = "many"
METRICS = {"fid": 4.1, "kid": 0.08, "kid_std": 0.015, "precision": 0.63, "recall": 0.65}
PROTOCOL = {
    "features": "classifier-digits-aa6fd12c1025", "features_note": "digits classifier, 99.2% test accuracy",
    "generated": 1000, "reference": "digits/train", "reference_count": 1442, "reference_content": "da44b447f7ae",
    "kid_subsets": 100, "kid_subset_size": 500, "prc_neighbourhood": 3, "torch_fidelity": "0.4.0",
}  # fmt: skip
PLAIN_GRID = """
import itertools, json, sys, pandas, yaml
file = yaml.safe_load(open(sys.argv[1]))
axes = [vary["product"] for vary in file["vary"]]
rows = [dict(zip(axis, labels)) for axis in axes for labels in itertools.product(*axis.values())]
print(pandas.DataFrame(rows).to_string())
"""
PLAIN_STATUS = """
import json, pathlib, sys, pandas
rows = []
for folder in pathlib.Path(sys.argv[1]).glob("????????????"):
    row = {"run": folder.name, "done": len(list((folder / "evals").glob("*.json")))}
    for name in ("env.json", "heartbeat.json", "error.json"):
        if (folder / name).is_file():
            row[name] = str(json.loads((folder / name).read_text()))[:40]
    rows.append(row)
print(pandas.DataFrame(rows).to_string())
"""
PLAIN_COLLECT = """
import json, pathlib, sys, pandas
rows = []
for path in pathlib.Path(sys.argv[1]).glob("*/evals/*.json"):
    content = json.loads(path.read_text())
    spec, known = content["spec"], {key: content[key] for key in ("train_id", "eval_id", "nfe")}
    rows += [known | {"metric": metric, "value": value} | content["protocol"] | spec["sampler"] | spec["evaluation"]
             for metric, value in content["metrics"].items()]
pandas.DataFrame(rows).to_csv(sys.argv[2], index=False)
"""


def write_grid(folder: Path, rows: int, samplers: int) -> Path:
    """Write a grid of so many trainings by so many samplers, beside the shipped scales and presets."""
    content: dict[str, Any] = {
        "table": "many", "title": "Many rows", "question": "How long does bookkeeping take?", "rows": "λ",
        "base": {"preset": "paper", "model": "SiT-S/2", "epochs": 80,
                 "regularizer": {"loss": "infonce-l2", "kind": "dispersive"}},
        "axes": {
            "λ": {f"{k / 1000:g}": {"regularizer.lambda": k / 1000} for k in range(1, rows + 1)},
            "intervals": {str(10 + k): {"sampler": {"method": "heun", "intervals": 10 + k}} for k in range(samplers)},
        },
    }  # fmt: skip
    content["vary"] = [{"product": {axis: list(labels) for axis, labels in content["axes"].items()}}]
    for name in ("scales", "presets"):
        (folder / name).symlink_to(GRIDS / name)
    path = folder / "many.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
    return path


def write_results(store: Store, runs: tuple[Run, ...]) -> None:
    """Write what runs leave: nine in ten done, and of the others a third each failed, interrupted and never begun."""
    now = time.time()
    for index, run in enumerate(runs):
        folder = store.run_folder(run.train_id)
        (folder / "evals").mkdir(parents=True, exist_ok=True)
        _write(folder / "spec.json", run.train.model_dump(mode="json", by_alias=True, exclude_none=True))
        _write(folder / "env.json", {"attempts": [_attempt()]})
        lines = [{"step": step, "loss": 0.1, "images_per_second": 4000.0} for step in range(20, 641, 20)]
        (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if index % 10 < 9 or len(runs) > 1000:
            _write(store.eval_path(run.train_id, run.eval_id), _measurement(run))
        elif index % 30 < 10:
            _write(folder / "error.json", {"class": "error", "message": "a reason", "step": 300, "time": now})
        elif index % 30 < 20:
            sign = {"phase": "training", "step": 300, "total": 640, "time": now, "host": "elsewhere", "pid": 1}
            _write(folder / "heartbeat.json", sign)


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1))


def _attempt() -> dict[str, object]:
    times = {"start": "2026-11-21T05:41:16+00:00", "end": "2026-11-21T05:42:07+00:00"}
    return times | {"host": "elsewhere", "device": "a processor", "threads": 1, "processes": 1, "versions": {}}


def _measurement(run: Run) -> dict[str, object]:
    return {
        "train_id": run.train_id, "eval_id": run.eval_id,
        "spec": run.evaluation.model_dump(mode="json", by_alias=True, exclude_none=True),
        "metrics": METRICS, "protocol": PROTOCOL, "nfe": 50, "seconds": {"sample": 1.6, "measure": 0.6},
        "thumbnails": {"rows": 2, "columns": 10},
    }  # fmt: skip


def study(folder: Path, rows: int, samplers: int, seeds: int) -> tuple[Path, Store]:
    """Make a grid and all its results; return the grid file and the store."""
    folder.mkdir()
    path, store = write_grid(folder, rows, samplers), Store(folder / "results", folder / "scratch", STUDY)
    words = [f"seeds={list(range(seeds))}"]
    write_results(store, load_table(path, "digits", words).runs)
    store.record_grid("many", path, "digits", words)
    return path, store


def _harness(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "harness.cli", *map(str, words)]


def _plain(script: str, *words: str | Path) -> list[str]:
    return [sys.executable, "-c", script, *map(str, words)]


def commands(folder: Path) -> Iterator[tuple[str, float, list[str], list[str] | None]]:
    """Yield for each task its name, the seconds it may take, our command, and the plain one."""
    thousand, small = study(folder / "thousand", 1000, 1, 1)
    _, large = study(folder / "ten-thousand", 500, 4, 5)
    places = [("--results", s.results, "--scratch", s.scratch) for s in (small, large)]
    planned = ("--scale", "imagenet256", "--set", "seeds=[0]", *places[0])
    yield "plan of 1,000 rows", 2.0, _harness("plan", thousand, *planned), _plain(PLAIN_GRID, thousand)
    yield "status of 1,000 runs", 1.0, _harness("status", STUDY, *places[0]), _plain(PLAIN_STATUS, small.root)
    out = folder / "reports"
    collect = _harness("collect", STUDY, *places[1], "--reports", out)
    yield "collect of 10,000 results", 3.0, collect, _plain(PLAIN_COLLECT, large.root, folder / "plain.csv")
    paper = sorted([*GRIDS.glob("table*.yaml"), GRIDS / "figure4.yaml"])
    yield "price of tables 2-7, Figure 4", 5.0, _harness("plan", *paper, "--scale", "imagenet256"), None
    yield "harness --help", 0.3, _harness("--help"), None


def seconds(command: list[str]) -> tuple[float, float]:
    """Return the wall and CPU seconds of a command."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Print for each task the median wall and CPU seconds of ours and of the plain script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'':32}{'limit s':>9}{'wall s':>9}{'CPU s':>9}{'plain wall s':>14}{'CPU s':>9}")
        for name, limit, ours, plain in commands(Path(folder)):
            arms = [ours, plain] if plain else [ours]
            taken: list[list[tuple[float, float]]] = [[] for _ in arms]
            for k in range(rounds + 1):
                for arm, command in zip(taken, arms, strict=True):
                    if k:
                        arm.append(seconds(command))
                    else:
                        seconds(command)
            medians = [statistics.median(column) for arm in taken for column in zip(*arm, strict=True)]
            numbers = "".join(f"{s:{width}.2f}" for s, width in zip(medians, (9, 9, 14, 9), strict=False))
            print(f"{name:32}{limit:9.1f}{numbers}", flush=True)


if __name__ == "__main__":
    main()
