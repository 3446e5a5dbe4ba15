"""The runs behind the tables, and each training: spec, command, provenance, curves, measurements with samples.

Trainings are described in the report itself while they are light, else on pages of their own beside it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from pydantic import BaseModel

from harness.config.grid import Run
from harness.config.spec import EvalSpec
from harness.errors import UserError
from harness.files import write_bytes
from harness.metric_definitions import definition_of
from harness.report.analysis.pivot import Pivot, PivotCell, RunState
from harness.report.analysis.text import number
from harness.report.figures.over_training import Curve, run_curves
from harness.report.reading.collect import RunStatuses
from harness.report.reading.samples import Strip, read_strip
from harness.report.rendering.html import render, script_of
from harness.report.rendering.sheet import runs_anchor
from harness.report.rendering.study_summary import command
from harness.store.records import Attempt, Failure, Measurement
from harness.store.store import RunStatus, Store
from harness.store.training_log import Logs

IN_PAGE, A_PAGE = 3_000_000, 1_500_000  # bytes of descriptions: at most in the report itself, and about on a page


@dataclass(frozen=True)
class Use:
    """Where a training's number stands: in words, the place of its cell's runs, and the number or the state."""

    words: str
    link: str
    value: str


@dataclass(frozen=True)
class Measured:
    """One measurement of a training: what was asked, every number that it has, and its first samples."""

    eval_id: str
    step: int
    state: str
    numbers: tuple[tuple[str, str], ...]
    spec: str
    strip: Strip


@dataclass(frozen=True)
class Training:
    """What is known of one training: `spec` as JSON, a line for each attempt, curves, measurements, and its uses."""

    train_id: str
    seed: int
    state: str
    reason: str
    traceback: str
    command: str
    spec: str
    provenance: tuple[str, ...]
    curves: tuple[Curve, ...]
    measurements: tuple[Measured, ...]
    uses: tuple[Use, ...]

    @property
    def weight(self) -> int:
        """About how many bytes it takes in a page."""
        pictures = sum(m.strip.sheet.size * 4 // 3 for m in self.measurements if m.strip.sheet)
        words = sum(len(m.spec) + 40 * len(m.numbers) + 400 for m in self.measurements)
        drawn = sum(len(curve.points) + 500 for curve in self.curves)
        return pictures + words + drawn + len(self.spec) + len(self.traceback) + 100 * len(self.uses) + 1000


def trainings(statuses: RunStatuses, pivots: Sequence[Pivot], logs: Logs) -> list[Training]:
    """Describe each training once, with every measurement of it and every cell that shows a number of it."""
    asked: dict[str, tuple[int, dict[str, Run]]] = {}
    for place, pivot in enumerate(pivots):
        for run in pivot.table.runs:
            asked.setdefault(run.train_id, (place, {}))[1].setdefault(run.eval_id, run)
    uses: dict[str, list[Use]] = {}
    states: dict[str, RunState] = {}
    for pivot, cell, state in all_runs(pivots):
        said = f"{pivot.table.name_in_words}, {cell.name}"
        value = f"{pivot.metric.title} {run_value(pivot, state)}" if state.value is not None else state.state
        uses.setdefault(state.train_id, []).append(Use(said, runs_anchor(pivot, cell), value))
        if state.train_id not in states or state.value is None:
            states[state.train_id] = state
    made_by = cache(lambda place, seed: command(statuses.store, pivots[place].table, seed))
    return [
        _training(statuses, made_by(place, next(iter(runs.values())).seed), runs, states[name], uses[name], logs)
        for name, (place, runs) in asked.items()
    ]


def _training(
    statuses: RunStatuses, made_by: str, runs: Mapping[str, Run], state: RunState, uses: Sequence[Use], logs: Logs
) -> Training:
    store, run = statuses.store, next(iter(runs.values()))
    measured = sorted(runs.values(), key=lambda one: one.evaluation.step)
    return Training(
        train_id=run.train_id,
        seed=run.seed,
        state=state.state,
        reason=state.reason,
        traceback=_traceback(store, run) if state.state in ("failed", "diverged") else "",
        command=made_by,
        spec=_as_json(run.train),
        provenance=_provenance(logs, run),
        curves=run_curves(logs.of(run.train_id), run.train_id),
        measurements=tuple(_measured(store, one, statuses.of(one)) for one in measured),
        uses=tuple(uses),
    )


def _as_json(spec: BaseModel) -> str:
    said: Mapping[str, object] = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return json.dumps(said, indent=1, ensure_ascii=False)


@lru_cache(maxsize=256)
def _evaluation_json(spec: EvalSpec) -> str:
    """Trainings of a table are measured alike: few specs, said often."""
    return _as_json(spec)


def _measured(store: Store, run: Run, status: RunStatus) -> Measured:
    found = status.measurement
    name = f"measurement {run.eval_id} after {run.evaluation.step:,} steps"
    return Measured(
        eval_id=run.eval_id,
        step=run.evaluation.step,
        state=status.state,
        numbers=_numbers(found) if found else (),
        spec=_evaluation_json(run.evaluation),
        strip=read_strip(store, run, found, name),
    )


def _numbers(found: Measurement) -> tuple[tuple[str, str], ...]:
    """Return every number of a measurement and then its protocol, each as (what, words)."""
    metrics = [(definition_of(name), value) for name, value in found.metrics.items()]
    said = [(metric.title, _words(value, metric.decimals)) for metric, value in metrics]
    protocol = {**found.protocol.model_dump(), "network evaluations": found.nfe}
    return (
        *said,
        *((name.replace("_", " "), str(value)) for name, value in protocol.items() if value not in ("", None)),
    )


def _words(value: object, decimals: int) -> str:
    return number(float(value), decimals) if isinstance(value, int | float) else str(value)


def _traceback(store: Store, run: Run) -> str:
    failure = Failure.read(store.run_folder(run.train_id))
    return failure.traceback if failure else ""


def _provenance(logs: Logs, run: Run) -> tuple[str, ...]:
    """Return a line for each attempt; a file that cannot be read is told in its place."""
    try:
        environment = logs.environment(run.train_id)
    except (OSError, UserError):
        return ("env.json is unreadable",)
    return tuple(_attempt_words(attempt) for attempt in environment.attempts) if environment else ()


def _attempt_words(attempt: Attempt) -> str:
    """Return when, where and with what an attempt ran, in one line."""
    changed = " with uncommitted changes" if attempt.dirty else ""
    versions = ", ".join(f"{name} {version}" for name, version in attempt.versions.items() if version)
    until = f" to {attempt.end}" if attempt.end else ""
    return f"{attempt.start}{until}, {attempt.device} of {attempt.host}; commit {attempt.commit}{changed}; {versions}"


@dataclass(frozen=True)
class IndexedRun:
    """One line of the run index; `first` where it is the first of its cell, which the table links to."""

    table: str
    cell: str
    link: str
    first: bool
    seed: int
    train_id: str
    eval_id: str
    state: str
    value: str


def run_index(pivots: Sequence[Pivot]) -> list[IndexedRun]:
    """List every run of the study, by table, cell and seed."""
    return [
        IndexedRun(
            pivot.table.name_in_words, cell.name, runs_anchor(pivot, cell), run is cell.runs[0], run.seed, run.train_id,
            run.eval_id, run.state, run_value(pivot, run),
        )
        for pivot, cell, run in all_runs(pivots)
    ]  # fmt: skip


def all_runs(pivots: Sequence[Pivot]) -> Iterator[tuple[Pivot, PivotCell, RunState]]:
    """Yield every run of the tables with its cell and its table; one that several share comes as often."""
    yield from ((pivot, cell, run) for pivot in pivots for cell in pivot.cells for run in cell.runs)


def run_value(pivot: Pivot, run: RunState) -> str:
    """Return a run's number as its table prints it, with the letter of its protocol where there are several."""
    value = "" if run.value is None else number(run.value, pivot.metric.decimals)
    return f"{value} {run.protocol}" if run.protocol and len(pivot.protocols) > 1 else value


@dataclass(frozen=True)
class TrainingPages:
    """The descriptions of a study's trainings. `pages` is empty where they stand in the report itself."""

    study: str
    trainings: tuple[Training, ...]
    pages: tuple[tuple[Training, ...], ...]

    @property
    def places(self) -> Mapping[str, str]:
        """Training → the file that describes it, relative to the report; "" for the report itself."""
        names = {t.train_id: _name(index) for index, page in enumerate(self.pages) for t in page}
        return {training.train_id: names.get(training.train_id, "") for training in self.trainings}

    def articles(self) -> Iterator[str]:
        """Yield the descriptions that stand in the report itself."""
        return iter(()) if self.pages else (_article(self.study, training, "") for training in self.trainings)

    def write(self, target: Path) -> None:
        """Write the pages beside `target/index.html`, and remove those of an earlier report."""
        kept = {target / _name(index) for index in range(len(self.pages))}
        for path in set((target / "runs").glob("*.html")) - kept:
            path.unlink()
        for index, page in enumerate(self.pages):
            articles = [_article(self.study, training, "../index.html") for training in page]
            values = {"study": self.study, "place": index + 1, "places": len(self.pages), "articles": articles}
            html = render(values | script_of("theme.js"), "trainings.html.j2")
            write_bytes(target / _name(index), html.encode())


def paginate(study: str, trainings: Sequence[Training]) -> TrainingPages:
    """Share the descriptions out to as many pages as they need, or to none."""
    if sum(training.weight for training in trainings) <= IN_PAGE:
        return TrainingPages(study, tuple(trainings), ())
    pages: list[list[Training]] = []
    weight = A_PAGE
    for training in trainings:
        if weight + training.weight > A_PAGE:
            pages.append([])
            weight = 0
        pages[-1].append(training)
        weight += training.weight
    return TrainingPages(study, tuple(trainings), tuple(map(tuple, pages)))


def _name(index: int) -> str:
    return f"runs/{index + 1}.html"


def _article(study: str, training: Training, home: str) -> str:
    return render({"study": study, "training": training, "home": home}, "training.html.j2")
