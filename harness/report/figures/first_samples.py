"""Samples large enough to see: real images, and one image for each class without and with the loss, from one noise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from harness.config.grid import Run
from harness.report.analysis.answer import Headline
from harness.report.figures.sample_pairs import alike, strip_of, tiles_of
from harness.report.reading.samples import Sheet, image_uri, png_uri, read_nearest
from harness.store.status import run_result
from harness.store.store import Store

COLUMNS = 8  # tiles of a row, at most
SCALE, WIDEST = 8, 96  # digits of 8 pixels are drawn at 8 times their size; no tile is wider than this, in CSS pixels


@dataclass(frozen=True)
class SampleRow:
    """A row of tiles beside each other, as it stands in the page; width and height in CSS pixels."""

    name: str
    uri: str
    alt: str


@dataclass(frozen=True)
class FirstSamples:
    """Rows of one seed: real images where some are kept, the baseline, and the loss; tile: its side in CSS pixels."""

    seed: int
    rows: Sequence[SampleRow]
    columns: int
    tile: int
    pixelated: bool

    @property
    def real(self) -> bool:
        """True where real images stand above the samples."""
        return len(self.rows) > 2


def first_samples(store: Store, headline: Headline) -> FirstSamples | None:
    """Return the samples of the headline's arm and its baseline, of the first seed that has both; None without one."""
    for with_loss in headline.cell.source.runs:
        without = next((run for run in headline.baseline.source.runs if run.seed == with_loss.seed), None)
        if without is None or not alike(without, with_loss):
            continue
        sheets = [strip_of(store, run, "").sheet for run in (without, with_loss)]
        if sheets[0] and sheets[1] and (sheets[0].width, sheets[0].columns) == (sheets[1].width, sheets[1].columns):
            return _laid_out(store, headline, with_loss.seed, [sheets[0], sheets[1]])
    return None


def _laid_out(store: Store, headline: Headline, seed: int, sheets: Sequence[Sheet]) -> FirstSamples:
    columns = min(COLUMNS, sheets[0].columns)
    rows = [tiles_of(sheet)[:columns] for sheet in sheets]
    size = rows[0][0].size
    real = [tile for tile in real_tiles(store, headline, columns) if tile.size == size]
    names = ["without the loss", "with the loss"]
    if headline.among:  # which need not differ by a loss
        names = [headline.baseline.name, headline.cell.name]
    if len(real) == columns:
        rows, names = [real, *rows], ["real", *names]
    pixelated = sheets[0].pixelated
    return FirstSamples(
        seed=seed,
        rows=[_row(name, tiles, pixelated) for name, tiles in zip(names, rows, strict=True)],
        columns=columns,
        tile=max(size[0], min(WIDEST, SCALE * size[0])),
        pixelated=pixelated,
    )


def _row(name: str, tiles: Sequence[Image.Image], pixelated: bool) -> SampleRow:
    width, height = tiles[0].size
    row = Image.new("RGB", (len(tiles) * width, height))
    for place, tile in enumerate(tiles):
        row.paste(tile, (place * width, 0))
    return SampleRow(name, png_uri(row) if pixelated else image_uri(row), f"{len(tiles)} images, {name}")


def real_tiles(store: Store, headline: Headline, count: int) -> list[Image.Image]:
    """Return real images from the pictures of nearest ones, as many or none.

    The store keeps no others. Where labels go in turn, the one at place i is the nearest to any sample of class i, and
    so most likely of that class; else they are the first that differ.
    """
    found: dict[int, tuple[float, Image.Image]] = {}
    spare: dict[bytes, Image.Image] = {}
    for run in (*headline.baseline.source.runs, *(run for cell in headline.pivot.cells for run in cell.source.runs)):
        classes = run.train.data.classes
        in_turn = run.evaluation.evaluation.labels != "random" and classes >= count
        for sample, distance, tile in _nearest(store, run):
            spare.setdefault(tile.tobytes(), tile)
            place = sample % classes
            if in_turn and place < count and distance < found.get(place, (distance + 1,))[0]:
                found[place] = (distance, tile)
        if len(found) == count:
            return [found[place][1] for place in range(count)]
    return list(spare.values())[:count] if len(spare) >= count else []


def _nearest(store: Store, run: Run) -> Iterator[tuple[int, float, Image.Image]]:
    """Yield the number of each sample that came nearest to a real image, their distance, and the real image."""
    measurement = run_result(store, run).measurement
    sheet = read_nearest(store, run, measurement)
    pairs = measurement.details.get("nearest") if measurement else None
    if sheet is None or not isinstance(pairs, list):
        return
    for pair, tile in zip(pairs, tiles_of(sheet)[sheet.columns :], strict=False):
        match pair:
            case {"sample": int(sample), "distance": int() | float() as distance}:
                yield sample, float(distance), tile
