"""What a study ran, in words: scale, data, networks, training, and the commands that make its runs."""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.grid import Table
from harness.config.grid_file import Scale
from harness.config.kinds.process_kinds import FAMILIES
from harness.config.spec import Model
from harness.report.analysis.claims import outcomes_used, summary_sentences
from harness.report.analysis.pivot import Pivot
from harness.report.analysis.text import is_number, listed, sentences
from harness.report.rendering.captions import WORDS, guidance_words, steps_words
from harness.report.rendering.objectives import StudyTerm, study_terms
from harness.report.rendering.our_choices import FixedChoice, SettingChoice, fixed_choices, setting_choices
from harness.store.store import Store


@dataclass(frozen=True)
class StudySummary:
    """A study in short: what holds of the paper, what was run, and which choices of ours its trainings depend on."""

    study: str
    title: str
    beside_paper: bool  # some table is the paper's, or has numbers of it
    scales: tuple[Scale, ...]
    sentences: list[str]
    outcomes: list[str]  # what some cells and the paper say together
    lines: Mapping[str, Sequence[str]]  # what was run: a term, and the lines on it
    setting_choices: list[SettingChoice]
    fixed_choices: list[FixedChoice]
    terms: list[StudyTerm]


def study_summary(study: str, pivots: Sequence[Pivot], left_out: Sequence[str] = ()) -> StudySummary:
    """Sum up a study from its tables; left_out: the names of those whose grids cannot be read."""
    runs = [run for pivot in pivots for run in pivot.table.runs]
    beside_paper = any(pivot.table.beside_paper for pivot in pivots)
    choices = setting_choices(runs, beside_paper), fixed_choices(runs, beside_paper)
    sentences, outcomes = summary_sentences(pivots), outcomes_used(pivots)
    lines = study_lines(pivots)
    if left_out:
        lines["Left out"] = [f"{name}: its grid, or the study's record of it, cannot be read" for name in left_out]
    titles = study_title(pivots), beside_paper
    return StudySummary(study, *titles, _scales(pivots), sentences, outcomes, lines, *choices, study_terms(pivots))


def study_title(pivots: Sequence[Pivot]) -> str:
    """Return what a study is about: as a grid says, else the paper's loss, else the titles of its own tables."""
    files = [pivot.table.file for pivot in pivots]
    if own := next((file.report_title for file in files if file.report_title), ""):
        return own
    if any(pivot.table.beside_paper for pivot in pivots):
        return "Dispersive Loss"
    return " · ".join(dict.fromkeys(file.title for file in files))


def study_lines(pivots: Sequence[Pivot]) -> dict[str, list[str]]:
    """Say what was run: a term and each different line on it once, from the specs and measurements of the runs."""
    runs = [run for pivot in pivots for run in pivot.table.runs]
    networks: dict[Model, dict[str, None]] = {}
    for cell in (cell for pivot in pivots for cell in pivot.table.cells):
        networks.setdefault(cell.runs[0].train.model, {})[cell.settings.model] = None
    own = {family: words or "a plug-in’s process" for p in pivots for family, words in p.table.plugins.families.items()}
    states = {run.eval_id: run.state for pivot in pivots for cell in pivot.cells for run in cell.runs}
    words = sentences(
        "study.j2",
        trainings=list(dict.fromkeys(run.train.model_copy(update={"seed": 0}) for run in runs)),
        families=FAMILIES | {family: family for family in own},
        processes=WORDS["processes"] | own,
        networks=networks,
        lengths=list(_lengths(pivots)),
        beside_paper=any(pivot.table.beside_paper for pivot in pivots),
        seeds=[str(seed) for seed in sorted({run.seed for run in runs})],
        sampling=list(_sampling_words(pivots)),
        notes=sorted({note for pivot in pivots for note in pivot.features_notes}),
        trained=len({run.train_id for run in runs}),
        states=states,
        counts=[f"{n:,} {state}" for state, n in Counter(states.values()).most_common()],
    )
    lines: dict[str, list[str]] = {}
    for term, _, line in dict.fromkeys(sentence.partition(": ") for sentence in words):
        lines.setdefault(term, []).append(line)
    return lines


def _scales(pivots: Iterable[Pivot]) -> tuple[Scale, ...]:
    return tuple({pivot.table.scale.scale: pivot.table.scale for pivot in pivots}.values())


def _lengths(pivots: Sequence[Pivot]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield for each scale the steps that stand for the paper's epochs, and these."""
    for scale in _scales(pivots):
        cells = [c for pivot in pivots if pivot.table.scale.scale == scale.scale for c in pivot.table.cells]
        epochs = sorted({cell.settings.epochs for cell in cells})
        yield [f"{scale.steps(number):,}" for number in epochs], [f"{number:,}" for number in epochs]


def _sampling_words(pivots: Sequence[Pivot]) -> Iterator[str]:
    """Say how images were drawn; what differs in the scale of guidance alone shares a line."""
    scales: dict[tuple[str, str], dict[str, None]] = {}
    for protocol in (protocol for pivot in pivots for protocol in pivot.protocols.values()):
        scale, where = guidance_words(protocol)
        scales.setdefault((steps_words(protocol), where), {})[scale] = None
    for (steps, where), values in scales.items():
        by_size = sorted(values, key=lambda scale: float(scale) if is_number(scale) else 0.0)
        yield f"{steps}, {where.format(listed(by_size))}"


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
