"""From a grid file and a scale to cells and runs.

Settings come in layers, each over the one before: cluster's profile < preset < table < scale < the scale's family <
row < command line.
"""

import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path

from harness.config.grid_file import (
    MOST_RUNS,
    At,
    Claim,
    GridFile,
    PaperValue,
    Scale,
    place_words,
    preset_name,
    read_grid,
    read_preset,
    read_scale,
)
from harness.config.kinds.process_kinds import PROCESSES
from harness.config.plugin_parts import PluginParts, PluginRecord
from harness.config.resolve import SettingError, resolve, resolve_model
from harness.config.settings.resources import Resources
from harness.config.settings.run_settings import Family, Settings
from harness.config.settings.values import Frozen, Seeds
from harness.config.spec import EvalSpec, TrainSpec, canonical, eval_id, train_id
from harness.config.yaml_document import (
    Document,
    Layer,
    Leaf,
    parse_overrides,
    setting_of,
    stacked,
    validate_layers,
    where_written,
)
from harness.errors import UserError, nearest
from harness.files import gc_paused
from harness.plugins import load_file


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
        return eval_id(self.train_id, self.evaluation)

    def with_seed(self, seed: int) -> "Run":
        """Return the same with another seed: other draws in training, and other images."""
        images = {"first_image": seed * self.evaluation.evaluation.samples}
        train, evaluation = self.train.model_copy(update={"seed": seed}), self.evaluation.model_copy(update=images)
        return replace(self, seed=seed, train=train, evaluation=evaluation)


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
class TestedClaim:
    """A claim of a table with the two cells that it compares."""

    __test__ = False

    claim: Claim
    metric: str
    cell: Cell
    against: Cell

    @property
    def words(self) -> str:
        """All that it says, as canonical JSON, with what its cells are whatever their seeds; no other claim has it."""
        cells = [cell.runs[0].with_seed(0).eval_id for cell in (self.cell, self.against)]
        return canonical(self.claim.model_dump(mode="json") | {"metric": self.metric, "cells": cells})


@dataclass(frozen=True)
class Table:
    """A grid file expanded at a scale."""

    name: str
    file: GridFile
    scale: Scale
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    plugins: PluginRecord

    @property
    def name_in_words(self) -> str:
        """Return "Table 2", "Figure 4", or the title where the paper has no such table."""
        number = self.file.table
        if number[:1].isdigit():
            return f"Table {number}"
        return number.capitalize() if self.is_paper else self.file.title

    @property
    def is_paper(self) -> bool:
        """Tell whether the paper has this table."""
        return self.file.table[:1].isdigit() or self.file.table.startswith("figure ")

    @property
    def beside_paper(self) -> bool:
        """Tell whether it is the paper's, or one of our own with numbers of the paper in it."""
        return self.is_paper or bool(self.file.paper)

    def is_ours(self, cell: Cell) -> bool:
        """Tell whether the paper has no such cell: the table, or a label of it, is ours."""
        return not self.is_paper or any(label in self.file.ours.get(axis, ()) for axis, label in cell.at)

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, cell by cell."""
        return tuple(run for cell in self.cells for run in cell.runs)

    @property
    def stand_ins(self) -> str:
        """Say which of the paper's lengths have a stand-in: "960 steps stand for the paper’s 240 epochs"; or ""."""
        lengths = sorted({cell.settings.epochs for cell in self.cells} & self.scale.epochs.keys())
        if not lengths:
            return ""
        first, *rest = lengths
        whose = "the paper’s " if self.beside_paper else ""
        further = "".join(f", {self.scale.steps(paper):,} for {paper:,}" for paper in rest)
        return f"{self.scale.steps(first):,} steps stand for {whose}{first:,} epochs{further}"

    @cached_property
    def _by_place(self) -> dict[At, Cell]:
        return {cell.at: cell for cell in self.cells}

    @cached_property
    def _published(self) -> dict[At, PaperValue]:
        return {self.file.place(value.at): value for value in self.file.paper}

    @property
    def tested_claims(self) -> tuple[TestedClaim, ...]:
        """The claims that are tested."""
        tested = []
        for claim in (claim for claim in self.file.claims if claim.at):
            ours, other = map(self.cell, self.file.compared(claim))
            if ours and other:
                tested.append(TestedClaim(claim, claim.metric or self.file.value, ours, other))
        return tuple(tested)

    def labels(self, axis: str | None) -> list[str]:
        """Return the labels of an axis that cells inside the table have: as the file has them, rows by blocks."""
        if not axis:
            return [""]
        used = {cell.label(axis) for cell in self.cells if not cell.aside}
        blocks = self.file.block_of if axis == self.file.rows else {}
        labels = [*(label for label in self.file.axes[axis] if label not in blocks), *blocks]
        return [label for label in labels if label in used]

    def cell(self, at: At) -> Cell | None:
        """Return the cell at a place, its axes in the order of the file."""
        return self._by_place.get(at)

    def baseline(self, cell: Cell) -> Cell | None:
        """Return the cell against which the change of `cell` is taken; None where it is the baseline itself."""
        other = self.cell(self.file.place(dict(cell.at) | self.file.baseline))
        return None if other is cell else other

    def paper(self, cell: Cell) -> PaperValue | None:
        """Return the paper's number for a cell; None where it is not available to us."""
        return self._published.get(cell.at)


def all_runs(tables: Sequence[Table]) -> list[Run]:
    """Return the runs of tables, table by table; one that several want is there several times."""
    return [run for table in tables for run in table.runs]


class CommandedSeeds(Frozen):
    """What the command line says of seeds: it is no setting of a run."""

    seeds: Seeds


@gc_paused()
def load_table(
    path: Path,
    scale: str,
    overrides: Sequence[str] = (),
    cluster: Layer | None = None,
    plugins: PluginRecord | None = None,
) -> Table:
    """Expand a grid file at a scale; `cluster`: the lowest layer of settings, from a cluster's profile.

    plugins: what a stored study knows of the grid's plug-ins; without it those that the grid names are executed.
    Scales and presets are looked up in `scales/` and `presets/` beside the grid file, then as `named_files` says.

    Raises:
        UserError: a mistake in the grid, the scale, a preset or an override; file, line, key and nearest legal word.
    """
    grid, document = read_grid(path)
    for number, name in enumerate(grid.plugins if plugins is None else ()):
        written = document.where("plugins", number)  # maybe in a grid that this one extends
        load_file(Path(written.rpartition(":")[0]).parent / name, f"{written}: plugins")
    parts = PluginParts(plugins)
    base, where = document.layer(grid.base, "base"), document.where("base")
    chosen, scale_document = read_scale(scale, path.parent / "scales")
    if plugins is None:  # else it was run before, and the plug-ins of then need not be here
        check_families(chosen, scale_document)
    of_scale = cache(partial(scale_layer, chosen, scale_document))
    presets = cache(partial(read_preset, folder=path.parent / "presets"))
    commanded = parse_overrides(overrides)
    reported = chosen.seeds or grid.seeds
    if reused := sorted({*reported} & {*(grid.tuning_seeds or ())}):
        where_said = document.where("tuning_seeds")
        raise UserError(f"{where_said}: tuning_seeds: scale {scale} reports seeds {reused}; choose others")
    seeds = _commanded_seeds(commanded.pop("seeds", None)) or grid.tuning_seeds or reported
    if grid.count * len(seeds) > MOST_RUNS:
        raise UserError(
            f"{path}: {grid.count:,} cells with {len(seeds):,} seeds; a table has at most {MOST_RUNS:,} runs"
        )

    def merged(row: Layer) -> Layer:
        """Merge the layers of a row; which preset and which family of the scale are among them, the others say."""
        layers = base | of_scale("") | row | commanded
        family = str(layers["model"].value).rpartition("-")[0] if "model" in layers else ""
        preset = presets(*preset_name(layers["preset"])) if "preset" in layers else {}
        return stacked(cluster or {}, preset, base, of_scale(family), row, commanded)

    cells = []
    for vary in grid.vary:
        for at in grid.places(vary):
            row = _row(at, grid, document)
            _refuse_lying_labels(row, commanded, at)
            layers = merged(row)
            _refuse_terms_without_kind(row, layers, at)
            cells.append(_cell(path.stem, at, vary.aside, layers, where, chosen, seeds, parts))
    _refuse_changed_places(path, chosen, {cell.settings.epochs for cell in cells})
    return Table(path.stem, grid, chosen, tuple(cells), seeds, parts.record)


def check_families(scale: Scale, document: Document) -> None:
    """Refuse settings of a family that there is not, built in or of a plug-in.

    Raises:
        UserError: file, line and the nearest family.
    """
    for name in scale.families:
        if name not in PROCESSES:
            advice = "; one of a plug-in's file needs that under plugins in the grid, or --plugin FILE"
            unknown = f"no family of models '{name}'{nearest(name, PROCESSES)}"
            raise UserError(f"{document.where('families', name)}: families.{name}: {unknown}{advice}")


def scale_layer(scale: Scale, document: Document, family: str) -> Layer:
    """Return the settings of a family's runs at a scale; of a word that is none, those of every run."""
    own = document.layer(scale.families.get(family, {}), "families", family)
    return document.layer(scale.settings, "settings") | own


def model_specs(scale: Scale, document: Document, families: Sequence[Family]) -> dict[str, TrainSpec]:
    """Return a training of every model that some families have at a scale, by the model's name."""
    check_families(scale, document)
    specs, where = {}, f"scale {scale.scale}"
    for family, size, patch in itertools.product(families, scale.ladder, scale.patches):
        model = f"{family}-{size}/{patch}"
        layers = scale_layer(scale, document, family) | {"model": Leaf(model, where), "epochs": Leaf(0, where)}
        settings = validate_layers(Settings, layers, where)
        with suppress(SettingError):  # a patch that does not divide the image
            specs[model], _ = resolve(settings, scale, 0)
    return specs


def _commanded_seeds(leaf: Leaf | None) -> tuple[int, ...]:
    return validate_layers(CommandedSeeds, {"seeds": leaf}, leaf.where).seeds if leaf else ()


def _row(at: At, grid: GridFile, document: Document) -> Layer:
    layer: Layer = {}
    for axis, label in at:
        settings = document.layer(grid.axes[axis][label], "axes", axis, label)
        earlier = {setting_of(key): leaf for key, leaf in layer.items()}
        for key in settings:
            if twice := earlier.get(setting_of(key)):
                raise UserError(f"{settings[key].where}: {key}: set by two axes of one row, also at {twice.where}")
        layer |= settings
    return layer


def _refuse_lying_labels(row: Layer, commanded: Layer, at: At) -> None:
    """A command-line value may not contradict what the labels of a row say."""
    rows = {setting_of(key): (key, leaf) for key, leaf in row.items()}
    for key, leaf in commanded.items():
        own, label = rows.get(setting_of(key), (key, leaf))
        if (own, label.value) != (key, leaf.value):
            raise UserError(
                f"{leaf.where}: the row {place_words(at)} says {own} = {label.value} at {label.where}, "
                f"and its label would lie; change the grid file, or leave this key out"
            )


def _refuse_terms_without_kind(row: Layer, layers: Layer, at: At) -> None:
    """A term without a kind is left out: in a row that speaks of it, that would be a lying label."""
    for key, leaf in row.items():
        kind = ".".join((*key.split(".")[:2], "kind"))
        if key.startswith("terms.") and kind not in layers:
            row_words = f"the row {place_words(at)} speaks of this term, and leaves it out"
            raise UserError(f"{leaf.where}: {kind}: {row_words}; say which term it is, or none")


def _refuse_changed_places(path: Path, scale: Scale, lengths: set[int]) -> None:
    """A length without a stand-in stands for itself, and may not outlast a longer one that has a shorter stand-in."""
    for shorter, longer in itertools.pairwise(sorted(lengths)):
        if scale.steps(shorter) >= scale.steps(longer):
            raise UserError(
                f"{path}: epochs: at scale {scale.scale} {shorter} epochs take {scale.steps(shorter):,} steps, and the "
                f"longer {longer} take {scale.steps(longer):,}; say what stands for {shorter} under epochs in "
                f"scales/{scale.scale}.yaml"
            )


def _cell(
    table: str, at: At, aside: bool, layers: Layer, base: str, scale: Scale, seeds: tuple[int, ...], parts: PluginParts
) -> Cell:
    layers = parts.with_pictures(layers, base)
    settings = validate_layers(Settings, layers, base)
    try:
        family, model = resolve_model(settings, scale, parts.families)
        added = parts.added(settings, family, model.depth, scale.steps)
        train, evaluation = resolve(settings, scale, seeds[0], added)
    except SettingError as error:
        where = where_written(error.key, layers, base)
        raise UserError(f"{where}: {error.key}: {error} (row {place_words(at)}, scale {scale.scale})") from None
    run = Run(table, at, seeds[0], train, evaluation, settings.resources)
    return Cell(at, settings, tuple(map(run.with_seed, seeds)), aside)
