"""What a study ran, in words: scale, data, networks, training, and the commands that make its runs."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.grid import Table
from harness.config.grid_file import Scale
from harness.config.resolve import PROCESSES
from harness.config.settings import Data
from harness.config.spec import Model, TrainSpec
from harness.report.analysis.claims import summary_sentences, verdicts_used
from harness.report.analysis.pivot import Pivot, Verdict
from harness.report.analysis.text import counted, is_number, listed
from harness.report.rendering.captions import WORDS, guidance_words, steps_words
from harness.report.rendering.our_choices import FixedChoice, SettingChoice, fixed_choices, setting_choices
from harness.store.store import Store


@dataclass(frozen=True)
class StudySummary:
    """A study in short: what holds of the paper, what was run, and which choices of ours its trainings depend on."""

    study: str
    scales: tuple[Scale, ...]
    sentences: list[str]
    verdicts: list[Verdict]  # those that some cell has
    lines: Mapping[str, Sequence[str]]  # what was run: a term, and the lines on it
    setting_choices: list[SettingChoice]
    fixed_choices: list[FixedChoice]


def study_summary(study: str, pivots: Sequence[Pivot]) -> StudySummary:
    """Sum up a study from its tables."""
    runs = [run for pivot in pivots for run in pivot.table.runs]
    return StudySummary(
        study=study,
        scales=_scales(pivots),
        sentences=summary_sentences(pivots),
        verdicts=verdicts_used(pivots),
        lines=study_lines(pivots),
        setting_choices=setting_choices(runs),
        fixed_choices=fixed_choices(runs),
    )


def study_lines(pivots: Sequence[Pivot]) -> dict[str, Sequence[str]]:
    """Say what was run: a term and each different line on it once, from the specs and measurements of the runs."""
    runs = [run for pivot in pivots for run in pivot.table.runs]
    notes = {note for pivot in pivots for note in pivot.features_notes}
    lines: dict[str, Iterable[str]] = {
        "Data": (_data_words(run.train.data) for run in runs),
        "Networks": _network_words(pivots),
        "Processes": (_process_words(run.train) for run in runs),
        "Training": (_training_words(run.train) for run in runs),
        "Length": _length_words(pivots),
        "Seeds": [listed([str(seed) for seed in sorted({run.seed for run in runs})])],
        "Sampling": _sampling_words(pivots),
        "Features": sorted(notes) or ["Nothing has been measured yet."],
        "Runs": [_runs_words(pivots)],
    }
    return {term: list(dict.fromkeys(words)) for term, words in lines.items()}


def _scales(pivots: Iterable[Pivot]) -> tuple[Scale, ...]:
    return tuple({pivot.table.scale.scale: pivot.table.scale for pivot in pivots}.values())


def _data_words(data: Data) -> str:
    flips = ", flipped left to right at random" if data.flip else ""
    channels = counted(data.channels, "channel")
    return f"{data.name}, {data.size} × {data.size}, {channels}, {counted(data.classes, 'class')}{flips}"


def _network_words(pivots: Sequence[Pivot]) -> Iterable[str]:
    """Say what stands for each model's name; names of one network share a sentence."""
    names: dict[str, dict[str, None]] = {}
    for cell in (cell for pivot in pivots for cell in pivot.table.cells):
        names.setdefault(_model_words(cell.runs[0].train.model), {})[cell.settings.model] = None
    for words, models in names.items():
        yield f"{words}, stand for {listed(list(models))}"


def _process_words(train: TrainSpec) -> str:
    family = next(family for family, process in PROCESSES.items() if process == train.process)
    weight = f", its loss weighted with power {train.meanflow.power:g}" if train.meanflow else ""
    return f"{family}: {WORDS['processes'][train.process]}{weight}"


def _model_words(model: Model) -> str:
    return f"{model.depth} blocks of width {model.width} with {counted(model.heads, 'head')}, patch {model.patch}"


def _training_words(train: TrainSpec) -> str:
    adam = train.optimizer
    decay = f", weight decay {adam.weight_decay:g}" if adam.weight_decay else ""
    begun = f"from imported weights {train.weights[:12]}, " if train.weights else ""
    return (
        f"{begun}batch {train.batch}, AdamW at {adam.learning_rate:g} with β ({adam.beta1:g}, {adam.beta2:g}){decay}, "
        f"EMA {train.ema:g}, label drop {train.label_drop:g}, {train.precision}"
    )


def _length_words(pivots: Sequence[Pivot]) -> Iterable[str]:
    """Say for each scale how many steps stand for the paper's epochs."""
    for scale in _scales(pivots):
        cells = [c for pivot in pivots if pivot.table.scale.scale == scale.scale for c in pivot.table.cells]
        epochs = sorted({cell.settings.epochs for cell in cells})
        of_paper = listed([f"{number:,}" for number in epochs])
        here = listed([f"{scale.steps(number):,}" for number in epochs])
        yield f"{here} steps stand for {of_paper} of the paper’s epochs"


def _sampling_words(pivots: Sequence[Pivot]) -> Iterable[str]:
    """Say how images were drawn; what differs in the scale of guidance alone shares a line."""
    scales: dict[tuple[str, str], dict[str, None]] = {}
    for protocol in (protocol for pivot in pivots for protocol in pivot.protocols.values()):
        scale, where = guidance_words(protocol)
        scales.setdefault((steps_words(protocol), where), {})[scale] = None
    if not scales:
        yield "Nothing has been drawn yet."
    for (steps, where), values in scales.items():
        by_size = sorted(values, key=lambda scale: float(scale) if is_number(scale) else 0.0)
        yield f"{steps}, {where.format(listed(by_size))}"


def _runs_words(pivots: Sequence[Pivot]) -> str:
    """Count trainings, measurements and their states, each once however many tables share it."""
    states = {run.eval_id: run.state for pivot in pivots for cell in pivot.cells for run in cell.runs}
    trainings = {run.train_id for pivot in pivots for cell in pivot.cells for run in cell.runs}
    counts = ", ".join(f"{n:,} {state}" for state, n in Counter(states.values()).most_common())
    return f"{counted(len(trainings), 'training')}, {counted(len(states), 'measurement')}: {counts}"


def command(store: Store, table: Table, seed: int | None = None) -> str:
    """The command that makes the runs of a table, or those of one seed."""
    record = store.recorded_grid(table.name)
    grid, recorded = (Path(record.grid), record.overrides) if record else (Path(f"grids/{table.name}.yaml"), [])
    words = ["harness", "run", portable(grid).as_posix(), "--scale", table.scale.scale, "--study", store.study]
    overrides = [word for word in recorded if seed is None or not word.startswith("seeds=")]
    for override in overrides if seed is None else (*overrides, f"seeds={seed}"):
        words += ["--set", override]
    return shlex.join(words)


def portable(grid: Path) -> Path:
    """Return a grid's path as others have it: one that leads out of the project is cut to its folder and name."""
    if not grid.is_absolute() and ".." not in grid.parts:
        return grid
    return Path(*(part for part in grid.parts[-2:] if part not in ("..", grid.anchor)))
