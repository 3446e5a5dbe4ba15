"""The runs behind the tables, and each training: spec, command, provenance, curves, measurements with samples.

Trainings are described in the report itself while they are light, else on pages of their own beside it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from harness.config.grid import Run
from harness.config.spec import EvalSpec, TrainSpec
from harness.errors import UserError
from harness.files import write_bytes
from harness.metric_definitions import definition_of
from harness.report.analysis.pivot import Pivot, PivotCell, RunState
from harness.report.analysis.text import number
from harness.report.figures.over_training import Curve, run_curves
from harness.report.reading.collect import RunStatuses
from harness.report.reading.samples import Strip, read_strip
from harness.report.rendering.html import render, script_of
from harness.report.rendering.study_summary import command
from harness.store.records import Attempt, Failure, Measurement
from harness.store.store import Logs

Use = tuple[Pivot, PivotCell, Run, RunState]  # one seed of a cell that shows a training
IN_PAGE, A_PAGE = 3_000_000, 1_500_000  # bytes of descriptions: at most in the report itself, and about on a page


@dataclass(frozen=True)
class TrainingMeasurement:
    """One measurement of a training: every number that it has, its spec as JSON, and its first samples."""

    run: Run
    state: str
    numbers: tuple[tuple[str, str], ...]
    spec: str
    strip: Strip


@dataclass(frozen=True)
class TrainingArticle:
    """What is known of one training: its spec as JSON, its attempts, curves, measurements, and its uses.

    attempts: None where their file cannot be read. uses: each cell that shows a number of it.
    """

    run: RunState
    traceback: str
    command: str
    spec: str
    attempts: Sequence[Attempt] | None
    curves: tuple[Curve, ...]
    measurements: tuple[TrainingMeasurement, ...]
    uses: Sequence[Use]

    @property
    def weight(self) -> int:
        """About how many bytes it takes in a page."""
        pictures = sum(m.strip.sheet.in_page for m in self.measurements if m.strip.sheet)
        words = sum(len(m.spec) + 40 * len(m.numbers) + 400 for m in self.measurements)
        drawn = sum(len(curve.points) + 500 for curve in self.curves)
        return pictures + words + drawn + len(self.spec) + len(self.traceback) + 100 * len(self.uses) + 1000


def training_articles(statuses: RunStatuses, pivots: Sequence[Pivot], logs: Logs) -> list[TrainingArticle]:
    """Describe each training once, with every measurement of it and every cell that shows a number of it."""
    uses: dict[str, list[Use]] = {}
    for pivot in pivots:
        for cell in pivot.cells:
            for run, state in zip(cell.source.runs, cell.runs, strict=True):
                uses.setdefault(run.train_id, []).append((pivot, cell, run, state))
    # One command makes a seed of all of a table's cells.
    made_by = cache(lambda table, seed: command(statuses.store, tables[table], seed))
    tables = {pivot.table.name: pivot.table for pivot in pivots}
    return [_training(statuses, shown, made_by, logs) for shown in uses.values()]


def _training(
    statuses: RunStatuses, uses: Sequence[Use], made_by: Callable[[str, int], str], logs: Logs
) -> TrainingArticle:
    runs = {run.eval_id: run for _, _, run, _ in uses}
    pivot, _, first, first_state = uses[0]
    state = next((state for *_, state in reversed(uses) if state.value is None), first_state)
    failure = Failure.peek(statuses.store.run_folder(first.train_id)) if state.state in ("failed", "diverged") else None
    return TrainingArticle(
        run=state,
        traceback=failure.traceback if failure else "",
        command=made_by(pivot.table.name, first.seed),
        spec=_as_json(first.train),
        attempts=_attempts(logs, first),
        curves=run_curves(logs.of(first.train_id), first.train_id),
        measurements=tuple(_measured(statuses, run) for run in sorted(runs.values(), key=lambda r: r.evaluation.step)),
        uses=uses,
    )


@lru_cache(maxsize=256)
def _as_json(spec: TrainSpec | EvalSpec) -> str:
    """Return a spec as it is shown; trainings of a table are measured alike, by few specs."""
    return json.dumps(spec.model_dump(mode="json", by_alias=True, exclude_none=True), indent=1, ensure_ascii=False)


def _measured(statuses: RunStatuses, run: Run) -> TrainingMeasurement:
    status = statuses.of(run)
    name = f"measurement {run.eval_id} after {run.evaluation.step:,} steps"
    return TrainingMeasurement(
        run=run,
        state=status.state,
        numbers=tuple(_numbers(status.measurement)) if status.measurement else (),
        spec=_as_json(run.evaluation),
        strip=read_strip(statuses.store, run, status.measurement, name),
    )


def _numbers(measurement: Measurement) -> Iterator[tuple[str, str]]:
    """Yield every number of a measurement and then its protocol, each as (what, words)."""
    for name in measurement.metrics:
        metric = definition_of(name)
        measured, reason = measurement.number(name)
        yield metric.title, f"no number: {reason}" if measured is None else number(measured, metric.decimals)
    for name, value in {**measurement.protocol.model_dump(), "network evaluations": measurement.nfe}.items():
        if value not in ("", None):
            yield name.replace("_", " "), str(value)


def _attempts(logs: Logs, run: Run) -> Sequence[Attempt] | None:
    try:
        environment = logs.environment(run.train_id)
    except (OSError, UserError):
        return None
    return environment.attempts if environment else ()


@dataclass(frozen=True)
class TrainingPages:
    """The descriptions of a study's trainings by the file that holds them, relative to the report; "" is the report."""

    study: str
    files: Mapping[str, Sequence[TrainingArticle]]

    @property
    def places(self) -> Mapping[str, str]:
        """Training → the file that describes it."""
        return {article.run.train_id: file for file, articles in self.files.items() for article in articles}

    def articles(self, file: str = "") -> list[str]:
        """Return the descriptions in a file, by default in the report itself, as HTML."""
        values = {"study": self.study, "home": "../index.html" if file else ""}
        return [render(values | {"training": article}, "training.html.j2") for article in self.files.get(file, ())]

    def write(self, target: Path) -> None:
        """Write the pages beside `target/index.html`, and remove those of an earlier report."""
        files = [file for file in self.files if file]
        for path in set((target / "runs").glob("*.html")) - {target / file for file in files}:
            path.unlink()
        for place, file in enumerate(files, start=1):
            values = {"study": self.study, "place": place, "places": len(files), "articles": self.articles(file)}
            write_bytes(target / file, render(values | script_of("theme.js"), "trainings.html.j2").encode())


def paginate(study: str, articles: Sequence[TrainingArticle]) -> TrainingPages:
    """Share the descriptions out to as many pages as they need, or to none."""
    if sum(article.weight for article in articles) <= IN_PAGE:
        return TrainingPages(study, {"": articles})
    files: dict[str, list[TrainingArticle]] = {}
    weight = A_PAGE
    for article in articles:
        if weight + article.weight > A_PAGE:
            page = files[f"runs/{len(files) + 1}.html"] = []
            weight = 0
        page.append(article)
        weight += article.weight
    return TrainingPages(study, files)
