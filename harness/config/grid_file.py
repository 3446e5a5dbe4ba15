"""What a grid file says: its models, where its cells are, and the refusal of names that do not fit together."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from harness.config.core_yaml import Keys, dotted
from harness.config.named_files import GRIDS, PRESETS, SCALES, named_file
from harness.config.settings.run_settings import Rung
from harness.config.settings.values import Count, Flag, Frozen, Line, Name, Prose, Real, Seeds, StandIns
from harness.config.yaml_document import Document, Layer, Leaf, read_document, read_validated
from harness.errors import UserError, nearest
from harness.plain_text import check_name, escape_controls, shown

At = tuple[tuple[str, str], ...]
Mistakes = Iterator[tuple[Keys, str]]  # the key to mend, and what is wrong there
Size = Literal["S", "B", "L", "XL"]
Patch = Annotated[Literal["2", "4", "8"], BeforeValidator(lambda key: str(key) if type(key) is int else key)]

SOURCES = {
    "paper": "the paper, arXiv 2506.09027, as its numbers were handed to this project",
    "official": "the authors' public PyTorch release and its README",
    "authors": "the authors' replies in the issues of their release",
    "secondary": "one secondary text, right wherever it can be checked",
    "later": "later papers that measured the method again",
    "public": "the public papers and code of the networks and methods beside it",
}
WAYS = ("ODE", "SDE", "DDPM", "one evaluation", "sampler not named")  # of sampling what a reference measured
MOST_CELLS, MOST_RUNS = 5_000, 100_000  # of a grid: five times what anybody has wanted; its report takes 1 GB
LONGEST_LABEL = 300
CONFIDENCE = {"H": "high", "M": "medium", "L": "low"}


def _label(value: Any) -> str:
    """Take a number as the word that it is written as; unquoted true, false and ~ are no words."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        quotes = "" if isinstance(value, list | dict) else "; this one needs quotes"
        raise ValueError(f"a label is a word or a number{quotes}")
    if len(str(value)) > LONGEST_LABEL:
        raise ValueError(f"a label has at most {LONGEST_LABEL} characters; it stands in every row of a table")
    return str(value)


Label = Annotated[str, BeforeValidator(_label)]
Labels = Annotated[tuple[Label, ...], Field(min_length=1)]
Place = dict[Label, Label]


class Vary(Frozen):
    """One block of cells: a product of axes, axes zipped, or a single row."""

    product: dict[Label, Labels] | None = Field(None, description="axis → labels: every combination is a cell")
    zip: dict[Label, Labels] | None = Field(None, description="axis → labels: the first of each, the second of each, …")
    row: Place | None = Field(None, description="axis → label: one cell")
    aside: Flag = Field(False, description="printed beneath the table, outside its rows and columns")

    @model_validator(mode="after")
    def _is_one_form(self) -> Self:
        if [self.product, self.zip, self.row].count(None) != 2:
            raise ValueError("exactly one of product, zip and row is expected")
        if self.zip and len({len(labels) for labels in self.zip.values()}) > 1:
            raise ValueError("the axes of a zip are of one length")
        return self


FactName = Literal[
    "pre-training",
    "extra parameters",
    "extra passes",
    "extra operations",
    "external data",
    "parameters",
    "steps",
    "NFE",
]
Source = Literal["paper", "official", "authors", "secondary", "later", "public"]


class Sourced(Frozen):
    """What the paper says, where we have it from, and how sure we are of it."""

    source: Source = Field(description="; ".join(f"{name}: {words}" for name, words in SOURCES.items()))
    confidence: Literal["H", "M", "L"] = Field(description="how sure we are of it: high, medium, low")


class PaperFact(Sourced):
    """What the paper says of a row in a column of facts, in its own words."""

    says: Label = Field(description="the paper's words")


class PaperValue(Sourced):
    """One number of the paper, with its source and how sure we are of it."""

    at: Place = Field(description="axis → label: the cell it belongs to")
    value: Real = Field(description="the paper's number")
    note: Prose = Field("", description="said beside the number")
    facts: dict[FactName, PaperFact] = Field({}, description="the paper's facts, printed beneath those of our runs")


Protocol = Annotated[Prose, Field(pattern=rf"^({'|'.join(WAYS)})\b")]


def setting_of_protocol(protocol: str) -> str:
    """Return what a protocol says after the sampler that it begins with."""
    return protocol.partition(", ")[2]


class PublishedFigure(Sourced):
    """One figure that was published elsewhere, compared with nothing here: in a row of the table, or beneath it."""

    at: Place | None = Field(
        None, description="axis → label: the cell in whose row it stands, in its protocol's column"
    )
    of: Label = Field("", description="what was measured, of a figure that stands beneath the table")
    protocol: Protocol = Field(
        description=f"how; begins with {', '.join(WAYS[:-1])} or {WAYS[-1]}, for no two of them can be compared"
    )
    value: Real = Field(description="the figure")
    baseline: Real | None = Field(
        None, description="its authors' own baseline, measured alike: its change is against it"
    )
    note: Prose = Field("", description="said beside the figure, as how long was trained")

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if (self.at is None) == (not self.of):
            raise ValueError("exactly one of at and of is expected")
        if self.baseline == 0:
            raise ValueError("no change can be taken against a baseline of 0")
        return self


class Claim(Frozen):
    """What a study claims of a table: in words, and with `at` as a comparison of two cells that is tested."""

    says: Prose = Field(description="the claim in words")
    at: Place | None = Field(
        None, description="axis → label: the cell it is of; without it, and for a text alone, words that nothing tests"
    )
    against: Place = Field({}, description="labels that turn it into what it is compared with; else its baseline's")
    metric: str | None = Field(None, description="metric that is compared; by default the table's")
    direction: Literal["lower", "higher"] | None = Field(None, description="what the metric of `at` is claimed to be")
    test: Literal["paired-t", "sign-flip"] = Field(
        "paired-t", description="one-sided, over seeds, each with itself: Student's t, or all choices of signs"
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.at is None) != (self.direction is None):
            raise ValueError("a claim that is tested needs at and direction, and one in words has neither")
        return self


def _read_claims(value: Any) -> Any:
    return [{"says": value}] if isinstance(value, str) else value


EXTENDED = "another {}, by name or path: keys that this file says count over its keys, also within its mappings"


class GridFile(Frozen):
    """The keys of a grid file."""

    extends: str | None = Field(None, description=EXTENDED.format("grid"))
    table: Label = Field("", description="the paper's number for this table; a table of one's own has none")
    title: Prose = Field(description="heading of the table")
    report_title: Prose = Field(
        "", description="heading of the report, whose first question is then the table's; by default the titles of "
        "the tables, or Dispersive Loss where the paper has some of them"
    )  # fmt: skip
    question: Prose = Field(description="what the table asks, in one sentence")
    value: str = Field("fid", description="metric shown in the cells")
    rows: str = Field(description="axis that makes the rows")
    blocks: dict[Label, Labels] = Field(
        {}, description="heading → labels of the rows beneath it; rows of no block come first"
    )
    columns: str | None = Field(None, description="axis that makes the columns")
    facts: tuple[FactName, ...] = Field((), description="columns of facts before the values, computed from the runs")
    baseline: Place = Field({}, description="labels that turn a cell's place into that of its baseline")
    plugins: tuple[Line, ...] = Field(
        (), description="plug-ins: Python files beside this one, which are executed when the grid is run"
    )
    sections: tuple[Name, ...] = Field((), description="sections of the report that plug-ins write")
    base: dict[str, Any] = Field({}, description="settings shared by all cells")
    axes: dict[Label, Annotated[dict[Label, dict[str, Any]], Field(min_length=1)]] = Field(
        description="axis → label → the settings that the label stands for"
    )
    vary: tuple[Vary, ...] = Field(min_length=1, description="blocks of cells; one of product, zip, row in each")
    paper: tuple[PaperValue, ...] = Field((), description="the paper's numbers; a cell without one says so")
    ours: dict[str, tuple[Label, ...]] = Field({}, description="axis → labels that the paper has not; cells say so")
    paper_protocol: Protocol | None = Field(
        None, description="how the paper's numbers were measured, where `references` have columns: theirs is the first"
    )
    references: tuple[PublishedFigure, ...] = Field(
        (), description="figures published elsewhere: in their rows in columns by protocol, or beneath the table"
    )
    paper_text: Prose = Field("", description="what the paper says of the table in words; only what has a source")
    claims: Annotated[tuple[Claim, ...], BeforeValidator(_read_claims)] = Field(
        (), description="what the study claims of the table, printed beside what is found: a text, or tests to be made"
    )
    seeds: Seeds = Field((0,), description="every cell is trained once with each; a scale's own seeds go before")
    tuning_seeds: Seeds | None = Field(
        None, description="seeds of a sweep that settings are chosen by: in place of all others, and none of a scale's"
    )

    @property
    def claim_text(self) -> str:
        """What is claimed in words."""
        return " ".join(claim.says for claim in self.claims)

    def compared(self, claim: Claim) -> tuple[At, At]:
        """Return the places of the two cells of a claim that is tested."""
        at = claim.at or {}
        return self.place(at), self.place(at | (claim.against or self.baseline))

    @property
    def block_of(self) -> dict[str, str]:
        """The heading that each row stands beneath, by its label, in the order of the headings."""
        return {label: heading for heading, labels in self.blocks.items() for label in labels}

    @property
    def placed(self) -> dict[tuple[At, str], PublishedFigure]:
        """The figures published elsewhere that stand in rows, by place and protocol."""
        return {(self.place(figure.at), figure.protocol): figure for figure in self.references if figure.at}

    @property
    def published_columns(self) -> tuple[str, ...]:
        """The protocols that have columns, the paper's first: those that differ in the sampler alone stand together."""
        own = (self.paper_protocol,) if self.paper_protocol else ()
        protocols = list(dict.fromkeys([*own, *(protocol for _, protocol in self.placed)]))
        settings = [setting_of_protocol(protocol) for protocol in protocols]
        return tuple(sorted(protocols, key=lambda protocol: settings.index(setting_of_protocol(protocol))))

    @property
    def count(self) -> int:
        """How many cells its products make; counted, for there may be too many to make."""
        return sum(math.prod(map(len, vary.product.values())) for vary in self.vary if vary.product)

    def places(self, vary: Vary) -> list[At]:
        """Return the places of a block's cells, each with its axes in the order of the file."""
        axes = vary.product or vary.zip or {}
        rows = zip(*axes.values(), strict=True) if vary.zip else itertools.product(*axes.values())
        cells = [dict(zip(axes, labels, strict=True)) for labels in rows] if vary.row is None else [vary.row]
        return list(map(self.place, cells))

    def place(self, labels: Place) -> At:
        """Return a place with its axes in the order of the file."""
        return tuple((axis, labels[axis]) for axis in self.axes if axis in labels)


class Scale(Frozen):
    """The keys of a scale file: what the paper's words cost here."""

    extends: str | None = Field(None, description=EXTENDED.format("scale"))
    scale: str = Field(description="name of the scale, equal to its file's")
    title: Prose = Field(description="what it is, in a few words")
    note: Prose = Field("", description="said under every table of a report at this scale")
    limits: Prose = Field("", description="what its numbers can and cannot say, on a report's first screen")
    meaningful: Flag = Field(True, description="false where the numbers only prove that the code runs")
    ladder: dict[Size, Rung] = Field(description="depth, width and heads that stand for each size")
    patches: dict[Patch, Count] = Field(description="patch size that stands for the paper's 2, 4 and 8")
    steps_per_epoch: Count = Field(description="training steps that stand for one of the paper's epochs")
    epochs: StandIns = Field({}, description="paper's length → epochs that stand for it here; by default itself")
    seeds: Seeds | None = Field(None, description="seeds of every table at this scale")

    settings: dict[str, Any] = Field({}, description="settings of every run")
    families: dict[Name, dict[str, Any]] = Field({}, description="settings of the runs of one family, over those")

    def steps(self, epochs: int) -> int:
        """Return the training steps that stand for a length of the paper in epochs."""
        return self.epochs.get(epochs, epochs) * self.steps_per_epoch


def read_grid(path: Path) -> tuple[GridFile, Document]:
    """Read a grid file.

    Raises:
        UserError: a mistake in it; one line for each, with file, line, key and the nearest legal word.
    """
    check_name(f"{escape_controls(str(path))}: the file's name", path.stem)
    file, document = read_validated(GridFile, path, GRIDS)
    for keys, mistake in itertools.chain(_too_many(file), _wrong_names(file), _wrong_places(file)):
        raise UserError(f"{document.where(*keys)}: {dotted(keys)}: {mistake}")
    return file, document


def read_scale(name: str, folder: Path = SCALES) -> tuple[Scale, Document]:
    """Read the scale of a name: that in `folder`, one's own in grids/scales, or the package's.

    Raises:
        UserError: no such scale, or a mistake in it.
    """
    path = named_file(SCALES, name, "--scale", f"--scale {name}: no such scale", folder)
    file, document = read_validated(Scale, path, SCALES)
    if file.scale != name:
        raise UserError(f"{document.where('scale')}: scale: '{file.scale}' is not the name of the file, '{name}'")
    return file, document


def preset_name(preset: Leaf) -> tuple[str, str]:
    """Return what a setting says of a preset: its name, and where it is written.

    Raises:
        UserError: it is no text.
    """
    if not isinstance(preset.value, str):
        raise UserError(f"{preset.where}: preset: a name is expected, found {shown(preset.value)}")
    return preset.value, preset.where


def read_preset(name: str, where: str, folder: Path) -> Layer:
    """Read the settings of a preset.

    Raises:
        UserError: as `preset_document`.
    """
    document = preset_document(name, where, folder)
    return document.layer(document.content)


def preset_document(name: str, where: str, folder: Path) -> Document:
    """Read the file that a setting names: that in `folder`, one's own in grids/presets, or the package's.

    where: the setting's place.

    Raises:
        UserError: there is none, or a mistake in it.
    """
    words = f"{where}: preset"
    return read_document(named_file(PRESETS, name, words, f"{words}: no preset '{name}'", folder))


def place_words(at: At) -> str:
    """Return a place in words, "loss = Hinge, arm = dispersive"; it is unique in its table."""
    return ", ".join(f"{axis} = {label}" for axis, label in at)


def _too_many(file: GridFile) -> Mistakes:
    if file.count > MOST_CELLS:
        yield ("vary",), f"{file.count:,} cells; a grid has at most {MOST_CELLS:,}"


def _wrong_names(file: GridFile) -> Mistakes:
    """Every axis and label that the file speaks of must exist, and every cell needs a label on each axis."""
    for key in ("rows", "columns"):
        axis = getattr(file, key)
        if axis is not None and axis not in file.axes:
            yield (key,), f"no axis '{axis}'{nearest(axis, file.axes)}"
    if file.facts and file.columns:
        yield ("facts",), "they belong to rows; a table with columns has no place"
    for index, vary in enumerate(file.vary):
        for form, axes in vary.model_dump(exclude={"aside"}, exclude_none=True).items():
            yield from _wrong_labels(file, ("vary", index, form), axes, whole=True)
    yield from _wrong_labels(file, ("baseline",), file.baseline)
    for index, claim in enumerate(file.claims):
        yield from _wrong_labels(file, ("claims", index, "at"), claim.at or {}, whole=claim.at is not None)
        yield from _wrong_labels(file, ("claims", index, "against"), claim.against)
    yield from _wrong_labels(file, ("ours",), file.ours)
    yield from _wrong_blocks(file)
    yield from _wrong_columns(file)
    for index, value in enumerate(file.paper):
        yield from _wrong_labels(file, ("paper", index, "at"), value.at, whole=True)
        for name in value.facts.keys() - set(file.facts):
            yield ("paper", index, "facts", name), f"'{name}' is no column of this table; add it to facts"


def _wrong_blocks(file: GridFile) -> Mistakes:
    """Each row stands beneath one heading."""
    seen: dict[str, str] = {}
    for heading, labels in file.blocks.items():
        yield from _wrong_labels(file, ("blocks", heading), {file.rows: labels})
        for label in labels:
            if label in seen:
                yield ("blocks", heading), f"'{label}' stands beneath '{seen[label]}' already"
            seen[label] = heading


def _wrong_columns(file: GridFile) -> Mistakes:
    """Columns by protocol need rows without columns of their own, and the paper's numbers need one of them."""
    for index, figure in enumerate(file.references):
        if figure.at is None:
            continue
        yield from _wrong_labels(file, ("references", index, "at"), figure.at, whole=True)
        if file.columns:
            yield ("references", index, "at"), "it belongs to a row; a table with columns has no place"
    if file.placed and file.paper and not file.paper_protocol:
        yield ("paper_protocol",), "needed, because references have columns: say how the paper's numbers were measured"


def _wrong_labels(file: GridFile, keys: Keys, axes: Mapping[str, str | Sequence[str]], whole: bool = False) -> Mistakes:
    for axis, labels in axes.items():
        if axis not in file.axes:
            yield (*keys, axis), f"no axis '{axis}'{nearest(axis, file.axes)}"
        for label in [labels] if isinstance(labels, str) else labels:
            if label not in file.axes[axis]:
                yield (*keys, axis), f"axis '{axis}' has no label '{label}'{nearest(label, file.axes[axis])}"
    missing = [axis for axis in file.axes if whole and axis not in axes]
    if missing:
        yield keys, f"a label on each axis is needed; missing: {', '.join(missing)}"


def _wrong_places(file: GridFile) -> Mistakes:
    """No two cells share a place; each has its baseline, and each of the paper's numbers its own cell."""
    cells: set[At] = set()
    for index, vary in enumerate(file.vary):
        for at in file.places(vary):
            if at in cells:
                yield ("vary", index), f"two cells at {place_words(at)}"
            cells.add(at)
    for at in sorted(cells) if file.baseline else ():
        baseline = file.place(dict(at) | file.baseline)
        if baseline not in cells:
            yield ("baseline",), f"no cell at {place_words(baseline)}, the baseline of {place_words(at)}"
    for index, claim in enumerate(file.claims):
        ours, other = file.compared(claim)
        for key, at in (("at", ours), ("against", other)) if claim.at else ():
            if at not in cells:
                yield ("claims", index, key), f"no cell at {place_words(at)}"
        if claim.at and ours == other:
            yield ("claims", index, "against"), "it is compared with itself"
    published = [("paper", index, value.at, file.paper_protocol) for index, value in enumerate(file.paper)]
    published += [("references", index, f.at, f.protocol) for index, f in enumerate(file.references) if f.at]
    valued: set[tuple[At, str | None]] = set()
    for key, index, labels, protocol in published:
        at = file.place(labels)
        if at not in cells or (at, protocol) in valued:
            twice = "two values" if (at, protocol) in valued else "no cell"
            yield (key, index), f"{twice} at {place_words(at)}"
        valued.add((at, protocol))
