"""Sample strips: the same seeds drawn by the baseline and by each dispersive arm, from the thumbnails of the store."""

import base64
import io
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from harness.report.collect import read_outcome
from harness.report.tables import Pivot, PivotCell
from harness.report.words import state_words
from harness.store import Store

SMOOTH_FROM = 400  # pixels; wider thumbnails are shown as pictures, narrower ones as enlarged pixels


@dataclass(frozen=True)
class Strip:
    """The samples of one arm. `uri` is "" where there are none, and `missing` then says why."""

    name: str
    uri: str
    rows: int
    columns: int
    width: int
    height: int
    alt: str
    missing: str

    @property
    def pixelated(self) -> bool:
        """True for pictures so small that each pixel should be seen."""
        return self.width < SMOOTH_FROM


@dataclass(frozen=True)
class Strips:
    """Strips of one training seed, the baseline first."""

    seed: int
    strips: tuple[Strip, ...]


def sample_strips(store: Store, pivot: Pivot) -> Strips | None:
    """Return baseline and dispersive arms of a table that compares losses, at the first seed with all of them or most.

    None where the table does not compare losses or nothing has been drawn.
    """
    arms = [cell for cell in pivot.cells if cell.is_baseline or cell.source.settings.regularizer.kind == "dispersive"]
    losses = {cell.source.settings.regularizer.loss for cell in arms} - {"none"}
    if len(losses) < 2:
        return None
    arms.sort(key=lambda cell: not cell.is_baseline)
    drawn = [Strips(seed, tuple(_strip(store, cell, seed) for cell in arms)) for seed in pivot.table.seeds]
    best = max(drawn, key=lambda strips: sum(bool(strip.uri) for strip in strips.strips))
    return best if any(strip.uri for strip in best.strips) else None


def _strip(store: Store, cell: PivotCell, seed: int) -> Strip:
    run = next(run for run in cell.source.runs if run.seed == seed)
    measurement = read_outcome(store, run).measurement
    path = store.eval_path(run.train_id, run.eval_id).with_suffix(".png")
    if measurement is None or measurement.thumbnails is None or not path.is_file():
        return Strip(cell.name, "", 0, 0, 0, 0, "", state_words(cell) or "no samples were kept")
    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            image.verify()
            width, height = image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return Strip(cell.name, "", 0, 0, 0, 0, "", "the picture of its samples is unreadable")
    rows, columns = measurement.thumbnails.rows, measurement.thumbnails.columns
    alt = f"{rows * columns} samples of {cell.name}, seed {seed}, in {rows} rows of {columns}"
    uri = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return Strip(cell.name, uri, rows, columns, width, height, alt, "")
