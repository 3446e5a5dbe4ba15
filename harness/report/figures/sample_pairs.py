"""Pairs of samples from the same noise and of the same class: left without the loss, right with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from PIL import Image, ImageChops, ImageStat

from harness.config.grid import Run
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import state_words
from harness.report.reading.samples import Sheet, Strip, image_uri, png_uri, read_strip
from harness.store.status import run_result
from harness.store.store import Store

PAIRS = 6
INNER, OUTER = 1 / 16, 0.4  # gaps inside a pair and between pairs, of a tile's width


@dataclass(frozen=True)
class Pairs:
    """Samples of one seed without the loss and with that of the arm of that name, and how far each pair is apart.

    apart: mean absolute difference of pixels.
    """

    name: str
    seed: int
    tiles: Sequence[tuple[Image.Image, Image.Image]]
    apart: Sequence[float]
    pixelated: bool

    def rows(self) -> dict[str, list[int]]:
        """Return three rows of places: by index, those that changed most, those that changed least."""
        order = sorted(range(len(self.apart)), key=lambda place: (-self.apart[place], place))
        return {
            "The first, not chosen": list(range(min(PAIRS, len(order)))),
            "Changed most": order[:PAIRS],
            "Changed least": order[::-1][:PAIRS],
        }

    def beside(self, places: Sequence[int]) -> Image.Image:
        """Return the pairs at these places beside each other."""
        width, height = self.tiles[0][0].size
        inner, outer = max(1, round(INNER * width)), max(2, round(OUTER * width))
        step = 2 * width + inner + outer
        sheet = Image.new("RGBA", (len(places) * step - outer, height))
        for index, place in enumerate(places):
            left, right = self.tiles[place]
            sheet.paste(left, (index * step, 0))
            sheet.paste(right, (index * step + width + inner, 0))
        return sheet

    def uri(self, image: Image.Image) -> str:
        """Return a picture of pairs as it stands in a page."""
        return png_uri(image) if self.pixelated else image_uri(image)


@dataclass(frozen=True)
class Strips:
    """Strips of one training seed, the baseline first."""

    seed: int
    strips: tuple[Strip, ...]

    @property
    def pictured(self) -> int:
        """How many have samples."""
        return sum(strip.sheet is not None for strip in self.strips)


def pair_chart(store: Store, pivot: Pivot) -> Pairs | None:
    """Return pairs of the best arm and its baseline, at the first seed for which both have samples; else None."""
    cell = best_arm(pivot)
    baseline = pivot.table.baseline(cell.source) if cell else None
    if cell is None or baseline is None:
        return None
    for with_loss in cell.source.runs:
        same = [run for run in baseline.runs if run.seed == with_loss.seed and alike(run, with_loss)]
        sheets = [sheet for run in (*same, with_loss) if (sheet := strip_of(store, run, cell.name).sheet)]
        if len(sheets) == 2:
            return pairs(cell.name, with_loss.seed, *sheets)
    return None


def best_arm(pivot: Pivot) -> PivotCell | None:
    """Return the cell with the largest change for the better, or the smallest for the worse; None without changes."""
    changed = [(cell.change.percent, cell) for cell in pivot.cells if cell.change and pivot.shows(cell)]
    return min(changed, key=lambda pair: (pivot.badness(pair[0]), pair[1].name), default=(0.0, None))[1]


def pairs(name: str, seed: int, without: Sheet, with_loss: Sheet) -> Pairs | None:
    """Cut two sheets into tiles and measure each pair; None where their tiles do not correspond."""
    shape = [(s.rows, s.columns, s.width, s.height) for s in (without, with_loss)]
    if shape[0] != shape[1]:
        return None
    tiles = list(zip(tiles_of(without), tiles_of(with_loss), strict=True))
    apart = [fmean(ImageStat.Stat(ImageChops.difference(*pair)).mean) for pair in tiles]
    return Pairs(name, seed, tiles, apart, without.pixelated)


def alike(a: Run, b: Run) -> bool:
    """Image i comes from seed i: two runs begin alike when they draw alike, from networks of one kind."""
    one_kind = a.train.process == b.train.process and a.train.data == b.train.data
    return a.evaluation == b.evaluation and one_kind


def tiles_of(sheet: Sheet) -> list[Image.Image]:
    """Cut a sheet into its tiles, row by row."""
    image = sheet.image
    width, height = sheet.width // sheet.columns, sheet.height // sheet.rows
    corners = [(c * width, r * height) for r in range(sheet.rows) for c in range(sheet.columns)]
    return [image.crop((x, y, x + width, y + height)) for x, y in corners]


def sample_strips(store: Store, pivot: Pivot) -> Strips | None:
    """Return baseline and dispersive arms of a table that compares losses, at the first seed with all of them or most.

    None where the table does not compare losses or nothing has been drawn.
    """
    arms = [cell for cell in pivot.cells if cell.is_baseline or cell.source.settings.regularizer.kind == "dispersive"]
    losses = {cell.source.settings.regularizer.loss for cell in arms} - {"none"}
    if len(losses) < 2:
        return None
    arms.sort(key=lambda cell: not cell.is_baseline)
    best = Strips(0, ())
    for seed in pivot.table.seeds:
        runs = [(cell, next(run for run in cell.source.runs if run.seed == seed)) for cell in arms]
        strips = tuple(strip_of(store, run, cell.name, state_words(cell)) for cell, run in runs)
        best = max(best, Strips(seed, strips), key=lambda strips: strips.pictured)
        if best.pictured == len(arms):
            break
    return best if best.pictured else None


def strip_of(store: Store, run: Run, name: str, missing: str = "") -> Strip:
    """Return the samples of a run's measurement, as the store has it."""
    return read_strip(store, run, run_result(store, run).measurement, name, missing)
