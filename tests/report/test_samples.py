"""Thumbnails of somebody else's results: a bad picture costs its own cell and no more."""

import io
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import synthetic_study as synthetic

from harness.files import read_json, write_json
from harness.report.reading.samples import png_uri, read_strip
from harness.report.rendering.page import make_report
from harness.store.status import run_result

UNREADABLE, FOREIGN = "the picture of its samples is unreadable", "the picture of its samples is not one that"


def encoded(picture: np.ndarray, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format=kind)
    return content.getvalue()


GREY = encoded(synthetic.noise_picture(0))
BAD = {
    "a bomb of pixels": (encoded(np.zeros((13_300, 13_300), np.uint8)), UNREADABLE),
    "wider than a WebP": (encoded(np.zeros((4, 20_000), np.uint8)), FOREIGN),
    "fifty megabytes behind a small picture": (GREY + bytes(50_000_000), UNREADABLE),
    "another format": (encoded(synthetic.noise_picture(0), "BMP"), UNREADABLE),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n", UNREADABLE),
    "no picture": (b"\x89PNG\r\n\x1a\n\0", UNREADABLE),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_picture_costs_its_own_cell(case: str, tmp_path: Path) -> None:
    content, missing = BAD[case]
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    run = table.runs[0]
    store.eval_path(run.train_id, run.eval_id).with_suffix(".png").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    page = make_report(store, [table], tmp_path / "report").read_text(encoding="utf-8")
    assert missing in page
    assert page.count("data:image/png;base64,") >= len(table.runs) - 1
    assert len(page) < 2_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


@pytest.mark.parametrize("tiles", [(0, 10), (2, 0), (-2, 10), (2, 1000), (10**9, 10**9), (16, 80)])
def test_tiles_that_the_picture_cannot_be_are_not_cut(tiles: tuple[int, int], tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    for run in table.runs:
        path = store.eval_path(run.train_id, run.eval_id)
        write_json(path, read_json(path) | {"thumbnails": {"rows": tiles[0], "columns": tiles[1]}})
    measurement = run_result(store, run).measurement
    assert measurement is None or FOREIGN in read_strip(store, run, measurement, "an arm").missing
    make_report(store, [table], tmp_path / "report")


def test_a_picture_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    run = table.runs[0]
    path = store.eval_path(run.train_id, run.eval_id).with_suffix(".png")
    path.unlink()
    os.mkfifo(path)
    measurement = run_result(store, run).measurement
    assert read_strip(store, run, measurement, "an arm").missing == UNREADABLE


def test_the_picture_of_a_job_is_read_as_it_is(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    picture = np.zeros((128, 640, 3), np.uint8)
    synthetic.write_measurement(store, table.runs[0], 3.0, picture=picture)
    measurement = run_result(store, table.runs[0]).measurement
    sheet = read_strip(store, table.runs[0], measurement, "an arm").sheet
    assert sheet
    assert (sheet.width, sheet.height, sheet.image.mode) == (640, 128, "RGB")
    assert sheet.uri.startswith("data:image/webp")


def test_a_picture_of_a_megabyte_adds_little_to_a_page(tmp_path: Path) -> None:
    """Noise, which no format makes small, of tiles so narrow that a page else has them as they are stored."""
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    picture = np.random.default_rng(0).integers(0, 256, (1020, 390, 3), dtype=np.uint8)
    synthetic.write_measurement(store, table.runs[0], 3.0, picture=picture)
    sheet = read_strip(store, table.runs[0], run_result(store, table.runs[0]).measurement, "an arm").sheet
    assert sheet
    assert sheet.size > 1_000_000
    assert all(len(uri) < 180_000 for uri in (sheet.uri, png_uri(sheet.image)))
