"""What the page has of one study: changes along factors, claims, costs, and what its trainings began with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from harness.config.settings.loss_settings import RegularizerSettings
from harness.config.spec import canonical
from harness.report.analysis.factors import pivots_by_metric, trends
from harness.report.analysis.pivot import PivotCell, label_words, pivot
from harness.report.analysis.stated_claims import stated_claims
from harness.report.analysis.statistics import Interval, mean_interval
from harness.report.reading.collect import RunStatuses, collect
from harness.report.reading.training_facts import DistanceFacts, StudyCost, distance_facts, study_cost
from harness.store.store import Logs, Store
from harness.store.study import study_tables

GAP = "loss_gap"


@dataclass(frozen=True)
class BaselineGap:
    """How far a baseline's held-out loss is above its training loss: the mean over seeds."""

    study: str
    table: str
    cell: str
    mean: float
    interval: Interval | None
    seeds: int


@dataclass(frozen=True)
class LossStart:
    """How D goes at the start of trainings with one loss on one network. tau_over_start: τ in terms of D there."""

    study: str
    name: str
    model: str
    settings: RegularizerSettings
    facts: DistanceFacts
    tau_over_start: float


class StudyView:
    """One study as the page has it.

    Raises:
        UserError: it is no study, or none of its grids can be read.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.study, self.logs = store, store.study, Logs(store)
        self.tables, statuses = study_tables(store), RunStatuses(store)
        self.results = collect(store, self.tables, statuses)
        self.pivots = [pivot(table, self.results) for table in self.tables]
        self.by_metric = [pivots_by_metric(statuses, table) for table in self.tables]
        self.trends = [trend for pivots in self.by_metric for trend in trends(self.study, pivots)]
        self.claims = stated_claims(store, self.pivots, self.logs)

    @cached_property
    def cost(self) -> StudyCost:
        """What its trainings that have a value cost, and on which machines pairs of them ran."""
        cells = [cell for made in self.pivots for cell in made.cells]
        pairs = (pair for cell in cells if cell.change and cell.baseline for pair in _pairs(cell, cell.baseline))
        return study_cost(self.store, (run.train_id for cell in cells for run in cell.runs if run.metrics), pairs)

    @cached_property
    def gaps(self) -> list[BaselineGap]:
        """The gaps of its baselines that have one."""
        gaps = []
        for table, cell in ((made.table, cell) for made in self.pivots for cell in made.baselines):
            if values := [run.metrics[GAP] for run in cell.runs if GAP in run.metrics]:
                labels = [place for place in cell.source.at if place[0] not in table.file.baseline]
                means = fmean(values), mean_interval(values), len(values)
                gaps.append(BaselineGap(self.study, table.name, _words(labels), *means))
        return gaps

    @cached_property
    def starts(self) -> list[LossStart]:
        """The start of its trainings with a loss, as far as their logs have D."""
        groups: dict[tuple[str, str], list[PivotCell]] = {}
        for cell in (cell for made in self.pivots for cell in made.cells):
            settings = cell.source.settings
            if settings.regularizer.loss != "none":
                groups.setdefault((canonical(settings.regularizer), settings.model), []).append(cell)
        return [start for cells in groups.values() if (start := self._start(cells))]

    def _start(self, cells: Sequence[PivotCell]) -> LossStart | None:
        trainings = dict.fromkeys(run.train_id for cell in cells for run in cell.runs)
        facts, settings = distance_facts(self.logs, list(trainings)), cells[0].source.settings
        if facts is None:
            return None
        common = set.intersection(*(set(cell.source.at) for cell in cells))
        name = _words([place for place in cells[0].source.at if place in common]) or f"τ {facts.tau:g}"
        return LossStart(
            self.study, name, settings.model, settings.regularizer, facts, facts.tau / (facts.start or float("nan"))
        )


def _pairs(cell: PivotCell, baseline: PivotCell) -> Iterator[tuple[str, str]]:
    """Yield the trainings of each seed that both have."""
    base = {run.seed: run.train_id for run in baseline.runs if run.value is not None}
    yield from ((run.train_id, base[run.seed]) for run in cell.runs if run.value is not None and run.seed in base)


def _words(labels: Sequence[tuple[str, str]]) -> str:
    return " · ".join(label_words(axis, label) for axis, label in labels)
