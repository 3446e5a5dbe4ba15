"""The samples of the first screen: one column is one noise and one class, and real images are real."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from support import synthetic_study as synthetic
from support.synthetic_study import pivots_of

from harness.config.grid import Run
from harness.files import read_json, write_bytes, write_json
from harness.report.analysis.answer import headline_of
from harness.report.figures.first_samples import COLUMNS, first_samples, real_tiles
from harness.store.store import Store

SIDE = 8


def write_nearest(store: Store, run: Run, pairs: list[tuple[int, int, float]]) -> None:
    """Write what a job keeps of the samples nearest to real images: real image r is one of grey r."""
    path = store.eval_path(run.train_id, run.eval_id)
    nearest = [{"sample": sample, "real": real, "distance": distance} for sample, real, distance in pairs]
    write_json(path, read_json(path) | {"details": {"nearest": nearest}})
    sheet = np.zeros((2 * SIDE, 10 * SIDE), np.uint8)
    for place, (_, real, _) in enumerate(pairs):
        sheet[SIDE:, place * SIDE : (place + 1) * SIDE] = real
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG")
    write_bytes(path.with_name(f"{path.stem}-nearest.png"), buffer.getvalue())


def test_real_images_are_the_nearest_of_their_class_over_all_seeds(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    first, second = synthetic.cell_of(table, "none").runs
    write_nearest(store, first, [(10 + n, 100 + n, 1.0) for n in range(5)] + [(7, 1, 9.0)])
    headline = headline_of(pivots_of(store, [table]))
    assert headline
    assert real_tiles(store, headline, COLUMNS) == []  # five classes, and no eight images that differ
    write_nearest(store, second, [(25, 105, 2.0), (36, 106, 2.0), (47, 107, 0.5), (30, 200, 3.0)])
    greys = [tile.getpixel((0, 0))[0] for tile in real_tiles(store, headline, COLUMNS)]
    assert greys == [100, 101, 102, 103, 104, 105, 106, 107]


def test_rows_are_the_first_samples_of_one_seed_without_and_with_the_loss(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    headline = headline_of(pivots_of(store, [table]))
    assert headline
    gone = synthetic.cell_of(table, "none").runs[0]
    store.eval_path(gone.train_id, gone.eval_id).with_suffix(".png").unlink()
    shown = first_samples(store, headline)
    assert shown
    assert (shown.seed, shown.columns, shown.tile, shown.pixelated, shown.real) == (1, COLUMNS, 64, True, False)
    assert [row.name for row in shown.rows] == ["without the loss", "with the loss"]
    for run in (synthetic.cell_of(table, "none").runs[1], synthetic.cell_of(table, "3 of 12 (default)").runs[1]):
        store.eval_path(run.train_id, run.eval_id).with_suffix(".png").unlink()
    assert first_samples(store, headline) is None
