"""Pairs of samples from the same noise and of the same class: left without the loss, right with it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean

from PIL import Image, ImageChops, ImageStat

from harness.config.grid import Run
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import listed, state_words
from harness.report.figures.picture import Chart
from harness.report.reading.samples import Sheet, Strip, data_uri, image_uri, read_strip
from harness.store.store import Store

PAIRS = 6
INNER, OUTER = 1 / 16, 0.4  # gaps inside a pair and between pairs, of a tile's width


@dataclass(frozen=True)
class Pairs:
    """Samples of the two arms tile by tile, and how far each pair is apart: mean absolute difference of pixels."""

    without: tuple[Image.Image, ...]
    with_loss: tuple[Image.Image, ...]
    apart: tuple[float, ...]

    def rows(self) -> list[tuple[str, list[int]]]:
        """Return three rows of places: by index, those that changed most, those that changed least."""
        order = sorted(range(len(self.apart)), key=lambda place: (-self.apart[place], place))
        return [
            ("The first, not chosen", list(range(min(PAIRS, len(order))))),
            ("Changed most", order[:PAIRS]),
            ("Changed least", order[::-1][:PAIRS]),
        ]


@dataclass(frozen=True)
class Strips:
    """Strips of one training seed, the baseline first."""

    seed: int
    strips: tuple[Strip, ...]

    @property
    def pictured(self) -> int:
        """How many have samples."""
        return sum(strip.sheet is not None for strip in self.strips)


def pair_chart(store: Store, pivot: Pivot) -> Chart | None:
    """Return pair grids of the best arm and its baseline, at the first seed for which both kept samples; else None."""
    cell = best_arm(pivot)
    baseline = pivot.table.baseline(cell.source) if cell else None
    if cell is None or baseline is None:
        return None
    for with_loss in cell.source.runs:
        without = next((run for run in baseline.runs if run.seed == with_loss.seed), None)
        if without is None or not _same_noise(without, with_loss):
            continue
        sheets = [_sheet(store, run, cell.name) for run in (without, with_loss)]
        if sheets[0] and sheets[1]:
            return _chart(cell, with_loss.seed, sheets[0].pixelated, pairs(sheets[0], sheets[1]))
    return None


def best_arm(pivot: Pivot) -> PivotCell | None:
    """Return the cell with the largest change for the better, or the smallest for the worse; None without changes."""
    changed = [cell for cell in pivot.cells if cell.change and pivot.shows(cell)]
    return min(changed, key=lambda c: (pivot.badness(c.change.percent if c.change else 0.0), c.name), default=None)


def pairs(without: Sheet, with_loss: Sheet) -> Pairs | None:
    """Cut two sheets into tiles and measure each pair; None where their tiles do not correspond."""
    shape = [(s.rows, s.columns, s.width, s.height) for s in (without, with_loss)]
    if shape[0] != shape[1]:
        return None
    left, right = _tiles(without), _tiles(with_loss)
    apart = [fmean(ImageStat.Stat(ImageChops.difference(*pair)).mean) for pair in zip(left, right, strict=True)]
    return Pairs(left, right, tuple(apart))


def _same_noise(a: Run, b: Run) -> bool:
    """Image i comes from seed i: two runs begin alike when they draw alike, from networks of one kind."""
    alike = a.train.process == b.train.process and a.train.data == b.train.data
    return a.evaluation == b.evaluation and alike


def _sheet(store: Store, run: Run, name: str) -> Sheet | None:
    return read_strip(store, run, store.result(run.train_id, run.eval_id).measurement, name).sheet


def _tiles(sheet: Sheet) -> tuple[Image.Image, ...]:
    image = sheet.image
    width, height = sheet.width // sheet.columns, sheet.height // sheet.rows
    corners = [(c * width, r * height) for r in range(sheet.rows) for c in range(sheet.columns)]
    return tuple(image.crop((x, y, x + width, y + height)) for x, y in corners)


def _chart(cell: PivotCell, seed: int, pixelated: bool, shown: Pairs | None) -> Chart | None:
    if shown is None:
        return None
    rows = [_row(title, places, shown, pixelated, cell.name) for title, places in shown.rows()]
    caption = (
        f"Each pair begins from the same noise and has the same class: left without the loss, right with it "
        f"({cell.name}, seed {seed}). How much a pair changed is the mean absolute difference of its pixels, "
        f"among the {len(shown.apart)} samples that are kept."
    )
    return Chart("Pairs of samples", caption, images="".join(rows))


def _row(title: str, places: Sequence[int], shown: Pairs, pixelated: bool, name: str) -> str:
    image = _side_by_side([(shown.without[place], shown.with_loss[place]) for place in places])
    numbers = listed([str(place) for place in places])
    alt = f"Samples {numbers} in pairs: left without the loss, right with {name}"
    how = ' class="pixels"' if pixelated else ""
    size = f'width="{image.width}" height="{image.height}"'
    return (
        f'<div class="pairs"><div class="name">{escape(title)}: samples {numbers}</div>'
        f'<img src="{_uri(image, pixelated)}" {size} alt="{escape(alt)}"{how}></div>'
    )


def _uri(image: Image.Image, pixelated: bool) -> str:
    if not pixelated:
        return image_uri(image)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return data_uri(buffer.getvalue(), "png")


def _side_by_side(tiles: Sequence[tuple[Image.Image, Image.Image]]) -> Image.Image:
    width, height = tiles[0][0].size
    inner, outer = max(1, round(INNER * width)), max(2, round(OUTER * width))
    pair = 2 * width + inner
    sheet = Image.new("RGBA", (len(tiles) * (pair + outer) - outer, height))
    for index, (left, right) in enumerate(tiles):
        start = index * (pair + outer)
        sheet.paste(left, (start, 0))
        sheet.paste(right, (start + width + inner, 0))
    return sheet


def sample_strips(store: Store, pivot: Pivot) -> Strips | None:
    """Return baseline and dispersive arms of a table that compares losses, at the first seed with all of them or most.

    None where the table does not compare losses or nothing has been drawn.
    """
    arms = [cell for cell in pivot.cells if cell.is_baseline or cell.source.settings.regularizer.kind == "dispersive"]
    losses = {cell.source.settings.regularizer.loss for cell in arms} - {"none"}
    if len(losses) < 2:
        return None
    arms.sort(key=lambda cell: not cell.is_baseline)
    best: Strips | None = None
    for seed in pivot.table.seeds:
        strips = Strips(seed, tuple(_strip(store, cell, seed) for cell in arms))
        if best is None or strips.pictured > best.pictured:
            best = strips
        if best.pictured == len(arms):
            break
    return best if best and best.pictured else None


def _strip(store: Store, cell: PivotCell, seed: int) -> Strip:
    run = next(run for run in cell.source.runs if run.seed == seed)
    return read_strip(store, run, store.result(run.train_id, run.eval_id).measurement, cell.name, state_words(cell))
