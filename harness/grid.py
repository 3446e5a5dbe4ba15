"""Grid files: what varies, how the table is laid out, what the paper reports. They expand into runs.

Settings come in layers, each over the one before: preset < table < scale < the scale's family < row <
command line.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from harness.document import (
    Document,
    Leaf,
    flatten,
    parse_overrides,
    read_document,
    validate,
    validate_document,
    where_written,
)
from harness.errors import UserError, nearest
from harness.resolve import PROCESSES, SettingError, resolve
from harness.spec import EvalSpec, Frozen, Resources, Scale, Settings, TrainSpec, eval_id, train_id

Layer = dict[str, Leaf]
At = tuple[tuple[str, str], ...]

SOURCES = {
    "paper": "the paper, arXiv 2506.09027, as quoted in this project's founding documents",
    "official": "the authors' public PyTorch release and its README",
    "authors": "the authors' replies in the issues of their release",
    "secondary": "one secondary text, right wherever it can be checked",
    "later": "later papers that measured the method again",
}
CONFIDENCE = {"H": "high", "M": "medium", "L": "low"}


class AxisRange(Frozen):
    """An axis that runs one setting through values; the labels are the values themselves."""

    key: str
    values: tuple[float | int | str, ...] = Field(min_length=1)


class Vary(Frozen):
    """One block of cells: a product of axes, axes zipped, or a single row; `set` adds settings to all of them."""

    product: dict[str, tuple[str | float | int, ...]] | None = None
    zip: dict[str, tuple[str | float | int, ...]] | None = None
    row: dict[str, str | float | int] | None = None
    set: dict[str, Any] = Field({}, description="settings for all of these cells, beside those of their labels")
    aside: bool = Field(False, description="printed beneath the table, outside its rows and columns")


class PaperValue(Frozen):
    """One number of the paper, with its source and how sure we are of it."""

    at: dict[str, str | float | int]
    value: float
    source: Literal["paper", "official", "authors", "secondary", "later"]
    confidence: Literal["H", "M", "L"]
    note: str = ""


class GridFile(Frozen):
    """The keys of a grid file."""

    table: str = Field(description="the paper's number for this table")
    title: str
    question: str = Field(description="what the table asks, in one sentence")
    value: str = Field("fid", description="metric shown in the cells")
    rows: str = Field(description="axis that makes the rows")
    columns: str | None = Field(None, description="axis that makes the columns")
    baseline: dict[str, str | float | int] = Field(
        {}, description="labels that turn a cell's place into that of its baseline"
    )
    base: dict[str, Any] = Field({}, description="settings shared by all cells")
    axes: dict[str, AxisRange | dict[str, dict[str, Any]]]
    vary: tuple[Vary, ...] = Field(min_length=1)
    paper: tuple[PaperValue, ...] = ()
    paper_text: str = Field("", description="what the paper says of the table in words")
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Run:
    """One seed of one cell: what to train, what to measure, and who asked."""

    table: str
    at: At
    seed: int
    train: TrainSpec
    evaluation: EvalSpec
    resources: Resources

    @cached_property
    def train_id(self) -> str:
        """Identity of the training, and name of its folder."""
        return train_id(self.train)

    @cached_property
    def eval_id(self) -> str:
        """Identity of the measurement."""
        return eval_id(self.train, self.evaluation)


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its place (axis → label), its settings, and one run per seed."""

    at: At
    settings: Settings
    runs: tuple[Run, ...]
    aside: bool

    def label(self, axis: str | None) -> str:
        """Return the cell's label on an axis; "" where it has none."""
        return dict(self.at).get(axis or "", "")


@dataclass(frozen=True)
class Table:
    """A grid file expanded at a scale."""

    name: str
    file: GridFile
    scale: Scale
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, cell by cell."""
        return tuple(run for cell in self.cells for run in cell.runs)

    def labels(self, axis: str | None) -> list[str]:
        """Return an axis's labels in the order of the file, those that some cell inside the table has."""
        used = {cell.label(axis) for cell in self.cells if not cell.aside}
        return [label for label in axis_labels(self.file, axis) if label in used] if axis else [""]

    def cell(self, at: At) -> Cell | None:
        """Return the cell at a place."""
        return next((cell for cell in self.cells if cell.at == at), None)

    def baseline(self, cell: Cell) -> Cell | None:
        """Return the cell against which the change of `cell` is taken; None where it is the baseline itself."""
        labels = {axis: str(label) for axis, label in self.file.baseline.items()}
        other = self.cell(tuple((axis, labels.get(axis, label)) for axis, label in cell.at))
        return None if other is cell else other

    def paper(self, cell: Cell) -> PaperValue | None:
        """Return the paper's number for a cell; None where it is not available to us."""
        place = dict(cell.at)
        return next((p for p in self.file.paper if {a: str(v) for a, v in p.at.items()} == place), None)


def axis_labels(file: GridFile, axis: str | None) -> list[str]:
    """Return every label of an axis in the order of the file."""
    values = file.axes[axis or ""]
    return [str(v) for v in (values.values if isinstance(values, AxisRange) else values)]


@dataclass(frozen=True)
class ScaleFile:
    """A scale, and its two layers of settings: those of every run, and over them those of the run's family."""

    scale: Scale
    settings: Layer
    families: dict[str, Layer]


def load_scale(name: str, folder: Path) -> ScaleFile:
    """Read `folder/<name>.yaml`.

    Raises:
        UserError: no such scale, or a mistake in it.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"--scale {name}: no such scale{nearest(name, [p.stem for p in folder.glob('*.yaml')])}")
    document = read_document(path)
    settings, families = (document.content.pop(key, None) or {} for key in ("settings", "families"))
    for key, content in (("settings", settings), ("families", families)):
        if not isinstance(content, dict):
            raise UserError(f"{document.where((key,))}: {key}: a mapping is expected, found {content!r}")
    for family, content in families.items():
        if family not in PROCESSES or not isinstance(content, dict):
            raise UserError(
                f"{document.where(('families', family))}: families: settings of SiT, DiT or MF are expected"
            )
    return ScaleFile(
        validate_document(Scale, document),
        flatten(settings, document, ("settings",)),
        {family: flatten(content, document, ("families", family)) for family, content in families.items()},
    )


def load_table(path: Path, scale: str, overrides: Sequence[str] = ()) -> Table:
    """Expand a grid file at a scale.

    Scales are looked up in `scales/` and presets in `presets/` beside the grid file.

    Raises:
        UserError: a mistake in the grid, the scale, a preset or an override; file, line, key and nearest legal word.
    """
    document = read_document(path)
    file = validate_document(GridFile, document)
    _check_names(file, document)
    chosen = load_scale(scale, path.parent / "scales")
    commanded = parse_overrides(overrides)
    seeds = _seeds(commanded.pop("seeds", None), chosen.scale, file)
    table_layer = flatten(file.base, document, ("base",))
    cells = []
    for index, vary in enumerate(file.vary):
        for at in _places(vary):
            row = _row_layer(file, document, index, vary, at)
            _refuse_lying_labels(row, commanded, at)
            layers = _layers(path, table_layer, chosen, row, commanded)
            cells.append(_cell(path, layers, at, vary.aside, chosen.scale, seeds))
    _check_places(file, document, [cell.at for cell in cells])
    return Table(path.stem, file, chosen.scale, tuple(cells), seeds)


def _seeds(commanded: Leaf | None, scale: Scale, file: GridFile) -> tuple[int, ...]:
    if commanded is None:
        return scale.seeds or file.seeds
    value = commanded.value if isinstance(commanded.value, list) else [commanded.value]
    if not value or not all(isinstance(seed, int) and seed >= 0 for seed in value) or len(set(value)) < len(value):
        raise UserError(f"{commanded.where}: seeds must be different whole numbers, for example seeds=[0,1,2]")
    return tuple(value)


def _places(vary: Vary) -> list[At]:
    if vary.row is not None:
        return [tuple((axis, str(label)) for axis, label in vary.row.items())]
    axes = vary.product or vary.zip or {}
    combine = itertools.product if vary.product else zip
    return [tuple(zip(axes, map(str, labels), strict=True)) for labels in combine(*axes.values())]


def _row_layer(file: GridFile, document: Document, index: int, vary: Vary, at: At) -> Layer:
    layer: Layer = {}
    for axis, label in at:
        values = file.axes[axis]
        if isinstance(values, AxisRange):
            value = next(v for v in values.values if str(v) == label)
            found = {values.key: Leaf(value, document.where(("axes", axis, "values")))}
        else:
            found = flatten(values[label], document, ("axes", axis, label))
        for key in found.keys() & layer.keys():
            raise UserError(f"{found[key].where}: '{key}' is set by two axes of one row, also at {layer[key].where}")
        layer |= found
    return layer | flatten(vary.set, document, ("vary", index, "set"))


def _refuse_lying_labels(row: Layer, commanded: Layer, at: At) -> None:
    """A command-line value may not contradict what the labels of a row say."""
    for key in row.keys() & commanded.keys():
        if row[key].value != commanded[key].value:
            raise UserError(
                f"{commanded[key].where}: the row {_words(at)} says {key} = {row[key].value} at {row[key].where}, "
                f"and its label would lie; change the grid file, or leave this key out"
            )


def _layers(path: Path, table: Layer, scale: ScaleFile, row: Layer, commanded: Layer) -> Layer:
    """Merge the layers of one row: preset < table < scale < the scale's family < row < command line."""
    merged = table | scale.settings | row | commanded
    family = str(merged["model"].value).partition("-")[0] if "model" in merged else ""
    below = table | scale.settings | scale.families.get(family, {})
    return _preset(path, merged.get("preset")) | below | row | commanded


def _cell(path: Path, merged: Layer, at: At, aside: bool, scale: Scale, seeds: tuple[int, ...]) -> Cell:
    settings = validate(Settings, merged, str(path))
    try:
        resolved = [(seed, resolve(settings, scale, seed)) for seed in seeds]
    except SettingError as error:
        where = where_written(error.key, merged, str(path))
        raise UserError(f"{where}: {error.key}: {error} (row {_words(at)}, scale {scale.scale})") from None
    runs = [Run(path.stem, at, seed, r.train, r.evaluation, r.resources) for seed, r in resolved]
    return Cell(at, settings, tuple(runs), aside)


def _preset(path: Path, name: Leaf | None) -> Layer:
    if name is None:
        return {}
    file = path.parent / "presets" / f"{name.value}.yaml"
    legal = [p.stem for p in file.parent.glob("*.yaml")]
    if str(name.value) not in legal:
        raise UserError(f"{name.where}: preset: no preset '{name.value}'{nearest(str(name.value), legal)}")
    document = read_document(file)
    return flatten(document.content, document)


def _words(at: At) -> str:
    return ", ".join(f"{axis} = {label}" for axis, label in at)


def _check_names(file: GridFile, document: Document) -> None:
    """Every axis and label that the file speaks of must exist."""
    for key in ("rows", "columns"):
        axis = getattr(file, key)
        if axis is not None and axis not in file.axes:
            raise UserError(f"{document.where((key,))}: {key}: no axis '{axis}'{nearest(axis, file.axes)}")
    for index, vary in enumerate(file.vary):
        said = [(how, getattr(vary, how)) for how in ("product", "zip", "row") if getattr(vary, how) is not None]
        if len(said) != 1:
            raise UserError(f"{document.where(('vary', index))}: vary: say exactly one of product, zip and row")
        how, axes = said[0]
        for axis, labels in axes.items():
            many = labels if isinstance(labels, tuple) else (labels,)
            _check_labels(file, document, ("vary", index, how, axis), axis, many)
        if how == "zip" and len({len(labels) for labels in axes.values()}) > 1:
            raise UserError(f"{document.where(('vary', index, 'zip'))}: zip: the axes differ in length")
    for axis, label in file.baseline.items():
        _check_labels(file, document, ("baseline", axis), axis, (label,))


def _check_labels(file: GridFile, document: Document, keys: tuple, axis: str, labels: Sequence[Any]) -> None:
    if axis not in file.axes:
        raise UserError(f"{document.where(keys)}: no axis '{axis}'{nearest(axis, file.axes)}")
    legal = axis_labels(file, axis)
    for label in map(str, labels):
        if label not in legal:
            raise UserError(f"{document.where(keys)}: axis '{axis}' has no label '{label}'{nearest(label, legal)}")


def _check_places(file: GridFile, document: Document, places: list[At]) -> None:
    """No two cells share a place, and each of the paper's numbers has a cell."""
    twice = {at for at in places if places.count(at) > 1}
    if twice:
        raise UserError(f"{document.where(('vary',))}: vary: two cells at {_words(min(twice))}")
    known = [dict(at) for at in places]
    for index, value in enumerate(file.paper):
        if {axis: str(label) for axis, label in value.at.items()} not in known:
            raise UserError(f"{document.where(('paper', index))}: paper: no cell at {dict(value.at)}")


def grid_paths(folder: Path) -> Mapping[str, Path]:
    """Return the grid files of a folder by name."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
