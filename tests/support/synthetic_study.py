"""A study with known numbers, written straight into a store's folders: no network, no training, no torch."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from support.places import GRIDS

from harness.config.grid import Cell, Run, Table, load_table
from harness.files import write_bytes, write_json
from harness.report.analysis.pivot import Pivot, PivotCell, pivot
from harness.report.reading.collect import collect
from harness.store.store import Store

PROTOCOL = {
    "features": "classifier-digits-1a2b3c4d5e6f",
    "features_note": "digits classifier, 98.9% test accuracy",
    "generated": 1000,
    "reference": "digits/train",
    "reference_count": 1437,
    "reference_content": "0123456789ab",
    "kid_subset_size": 1000,
    "prc_neighbourhood": 3,
    "torch_fidelity": "0.4.0",
}
# The beginning of a grid of somebody's own; further labels of its axis, and further keys, follow.
DECAYS = """
title: Two decays
question: Does a slower moving average help?
rows: decay
baseline: {decay: fast}
base: {preset: paper, model: SiT-B/2, epochs: 80}
axes:
  decay:
    fast: {ema: 0.97}
"""


def new_store(folder: Path, study: str = "synthetic") -> Store:
    return Store(folder / "results", folder / "scratch", study)


def table_of(name: str, scale: str = "digits", *overrides: str) -> Table:
    return load_table(GRIDS / f"{name}.yaml", scale, overrides)


def pivots_of(store: Store, tables: list[Table]) -> list[Pivot]:
    return [pivot(table, collect(store, tables)) for table in tables]


def pivot_of(store: Store, table: Table) -> Pivot:
    return pivots_of(store, [table])[0]


def cell_of(table: Table, *labels: str) -> Cell:
    return next(cell for cell in table.cells if tuple(label for _, label in cell.at) == labels)


def evaluations(run: Run) -> int:
    """Network evaluations of an image: Heun takes two an interval, and guidance doubles them."""
    sampler = run.evaluation.sampler
    return sampler.intervals * (2 if sampler.method == "heun" else 1) * (2 if sampler.guidance != 1 else 1)


def write_measurement(
    store: Store,
    run: Run,
    fid: object,
    protocol: Mapping[str, Any] | None = None,
    picture: np.ndarray | None = None,
    further: Mapping[str, float] | None = None,
) -> Path:
    """Write what a job writes when it has measured a run; `protocol` and `further` override its words and metrics."""
    path = store.eval_path(run.train_id, run.eval_id)
    metrics = {"fid": fid, "kid": 0.0123, "kid_std": 0.001, "precision": 0.5, "recall": 0.25, **(further or {})}
    content = {
        "train_id": run.train_id,
        "eval_id": run.eval_id,
        "spec": run.evaluation.model_dump(mode="json", by_alias=True, exclude_none=True),
        "metrics": metrics,
        "protocol": PROTOCOL | dict(protocol or {}),
        "nfe": evaluations(run),
        "seconds": {"sample": 2.1, "measure": 0.8},
        "thumbnails": {"rows": 2, "columns": 10},
    }
    if picture is not None:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="PNG")
        write_bytes(path.with_suffix(".png"), buffer.getvalue())
    write_json(path, content)
    return path


def write_error(store: Store, run: Run, kind: str, message: str, traceback: str = "") -> None:
    content = {"class": kind, "message": message, "traceback": traceback, "step": 300, "time": 0.0}
    write_json(store.run_folder(run.train_id) / "error.json", content)


def write_heartbeat(store: Store, run: Run, **changes: object) -> None:
    content = {"phase": "training", "step": 400, "total": 1200, "time": 4e9, "host": "elsewhere", "pid": 1}
    write_json(store.run_folder(run.train_id) / "heartbeat.json", content | changes)


def noise_picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 80), dtype=np.uint8)


def full_study(store: Store, tables: list[Table], pictures: Any = noise_picture) -> None:
    """Give every run of the tables a value: the paper's own changes on a baseline near 4.7, and seeds apart by 0.1."""
    for table in tables:
        store.record_grid(table.name, Path("grids") / f"{table.name}.yaml", table.scale.scale, [])
        for index, cell in enumerate(table.cells):
            paper = table.paper(cell)
            level = (paper.value if paper else 34.0 + index % 5 * 0.7) / 7.7
            for run in cell.runs:
                if run.evaluation.step == 0:
                    level = 93.0
                picture, value = pictures(run.seed + 10 * index), round(level + 0.1 * run.seed * (1 + index % 3), 6)
                further = {"held_out_loss": value / 10} if run.evaluation.evaluation.held_out else {}
                write_measurement(store, run, value, picture=picture, further=further)


def write_text(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def pivot_cell(laid_out: Pivot, *labels: str) -> PivotCell:
    return next(c for c in laid_out.cells if tuple(label for _, label in c.source.at) == labels)


def write_values(store: Store, table: Table, values: dict[str, dict[int, float]]) -> None:
    """Write FIDs of Table 3 by block and seed."""
    for label, by_seed in values.items():
        for run in cell_of(table, label).runs:
            if run.seed in by_seed:
                write_measurement(store, run, by_seed[run.seed])
