"""How the change against the baseline goes with a factor: dose of the loss, length of training, size of data and model.

A table's axis is a factor by the settings that its labels stand for; that of most levels goes across its pictures. Of
the other axes, factors part the pictures, and the rest are arms.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median

from harness.config.grid import Table
from harness.config.settings.loss_settings import RegularizerSettings
from harness.metric_definitions import definition_of
from harness.report.analysis.pivot import Pivot, PivotCell, kind_of, label_words, pivot
from harness.report.analysis.statistics import Change
from harness.report.analysis.text import in_words, listed, percent_change, sentences, signed_percent
from harness.report.reading.collect import RunStatuses, collect
from harness.report.reading.protocol import dotted_settings

METRICS = ("fid", "held_out_loss")
PAPERS_OWN = RegularizerSettings(loss="infonce-l2")
# What a factor's labels may set beside it: how is trained and measured, and never what tells arms apart.
MEASURING = ("evaluation", "sampler", "resources")
BESIDE = ("epochs", "model", "data", "batch", *MEASURING)
NARROWER = 3.0  # times, relative to the effect: how much surer the held-out loss is hoped to be than FID


@dataclass(frozen=True)
class Factor:
    """What may decide the sign. keys: an axis is it where a label sets one, and none sets what an arm is; alone: and
    nothing else."""

    name: str
    title: str
    question: str
    keys: frozenset[str]
    alone: bool = False


DOSE = frozenset({"regularizer.lambda", "regularizer.tau"})
FACTORS = (
    Factor("dose", "Dose", "How does the change go with λ and τ?", DOSE, alone=True),
    Factor("length", "Length of training", "Does the change die out as training goes on?", frozenset({"epochs"})),
    Factor("data", "Size of the data", "Does the change depend on how much there is to learn from?",
           frozenset({"data.subset"})),
    Factor("model", "Size of the network", "Does the change grow with the network?", frozenset({"model"})),
)  # fmt: skip


@dataclass(frozen=True)
class FactorEffect:
    """One arm at one level of the factor: its cell by metric, where that has a change."""

    arm: str
    level: str
    cells: Mapping[str, PivotCell]

    def change(self, metric: str) -> Change | None:
        """Return its change of a metric."""
        return self.cells[metric].change if metric in self.cells else None

    @property
    def narrowing(self) -> float | None:
        """How many times narrower the held-out loss' interval is than that of FID, each in terms of its effect."""
        fid, loss = (sharpness(self.change(metric)) for metric in METRICS)
        return loss / fid if fid and loss else None


def sharpness(change: Change | None) -> float | None:
    """Return the effect over the half-width of its interval, above 1 where that excludes zero; None without a width."""
    if change is None or change.interval is None or change.interval.high == change.interval.low:
        return None
    return 2 * abs(change.percent) / (change.interval.high - change.interval.low)


@dataclass(frozen=True)
class Trend:
    """Changes along a factor, of one table and of one setting of its other factors: what one picture shows.

    pivots: the table by metric, of those that have a change. levels: of `axis`, in the order of the grid. where: labels
    of the other factors in words. arms: all cells of the table that each arm has.
    """

    study: str
    factor: Factor
    axis: str
    levels: tuple[str, ...]
    where: str
    pivots: Mapping[str, Pivot]
    arms: Mapping[str, Sequence[PivotCell]]
    effects: tuple[FactorEffect, ...]

    @property
    def table(self) -> Table:
        """The table that it is of."""
        return next(iter(self.pivots.values())).table

    def of(self, arm: str) -> list[FactorEffect]:
        """Return an arm's effects along the factor."""
        return [effect for effect in self.effects if effect.arm == arm]


def pivots_by_metric(statuses: RunStatuses, table: Table) -> dict[str, Pivot]:
    """Lay a table out once for FID and once for the held-out loss; without a metric that none of its runs has.

    No change is corrected over its table: claims alone are tested.
    """
    laid_out = {}
    for metric in METRICS:
        shown = replace(table, file=table.file.model_copy(update={"value": metric, "paper": ()}))
        made = pivot(shown, collect(statuses.store, [shown], statuses))
        cells = tuple(
            replace(cell, change=replace(cell.change, adjusted=None)) if cell.change else cell for cell in made.cells
        )
        if any(cell.change for cell in cells):
            laid_out[metric] = replace(made, cells=cells)
    return laid_out


def trends(study: str, pivots: Mapping[str, Pivot]) -> list[Trend]:
    """Return the trends of one table; none where no axis of it is a factor of two levels."""
    changed = [cell for made in pivots.values() for cell in made.cells if cell.change and made.shows(cell)]
    if not changed:
        return []
    table = next(iter(pivots.values())).table
    levels = {axis: [label for label in labels if any(c.source.label(axis) == label for c in changed)]
              for axis, labels in table.file.axes.items()}  # fmt: skip
    levels = {axis: labels for axis, labels in levels.items() if len(labels) > 1}
    factors = {axis: factor for axis, labels in levels.items() if (factor := _factor(table, axis, labels))}
    if not factors:
        return []
    main = max(factors, key=lambda axis: (len(levels[axis]), -FACTORS.index(factors[axis])))
    parting = [axis for axis in factors if axis != main and not factors[axis].alone]
    arms = [axis for axis in levels if axis != main and axis not in parting]
    by_arm: dict[str, list[PivotCell]] = {}
    for cell in changed:
        by_arm.setdefault(_words(cell.source.at, arms), []).append(cell)
    made = []
    for labels in product(*(levels[axis] for axis in parting)):
        at = tuple(zip(parting, labels, strict=True))
        own = [cell for cell in changed if set(at) <= set(cell.source.at)]
        effects = tuple(_effects(pivots, own, main, arms, levels[main]))
        if len({effect.level for effect in effects}) > 1:
            shown = tuple(label for label in levels[main] if any(effect.level == label for effect in effects))
            made.append(Trend(study, factors[main], main, shown, _words(at, parting), pivots, by_arm, effects))
    return made


def _factor(table: Table, axis: str, labels: Iterable[str]) -> Factor | None:
    """Return what an axis varies: of several the last, for a larger network or a smaller set may train longer."""
    keys = {key for label in labels for key, _ in dotted_settings(table.file.axes[axis][label])}
    others = {key for key in keys if key.partition(".")[0] not in BESIDE}
    return next((f for f in reversed(FACTORS) if keys & f.keys and not (keys if f.alone else others) - f.keys), None)


def set_too(trend: Trend) -> list[str]:
    """Return what else the levels of the factor differ in, as a larger network that trains longer does: settings."""
    labels = [dict(dotted_settings(trend.table.file.axes[trend.axis][level])) for level in trend.levels]
    keys = {key for label in labels for key in label} - trend.factor.keys
    varied = {key for key in keys if len({str(label.get(key)) for label in labels}) > 1}
    return sorted(key for key in varied if key.partition(".")[0] not in MEASURING)


def _words(at: Iterable[tuple[str, str]], axes: Sequence[str]) -> str:
    return " · ".join(label_words(axis, label) for axis, label in at if axis in axes and label != "none")


def _effects(
    pivots: Mapping[str, Pivot], cells: Sequence[PivotCell], main: str, arms: Sequence[str], levels: Sequence[str]
) -> Iterable[FactorEffect]:
    """Yield the effects, arm by arm and each along the factor."""
    metrics = {id(cell): metric for metric, made in pivots.items() for cell in made.cells}
    by_place: dict[tuple[str, str], dict[str, PivotCell]] = {}
    for cell in cells:
        place = _words(cell.source.at, arms), cell.source.label(main)
        by_place.setdefault(place, {})[metrics[id(cell)]] = cell
    names = dict.fromkeys(arm for arm, _ in by_place)
    for arm, level in product(names, levels):
        if found := by_place.get((arm, level)):
            yield FactorEffect(arm, level, found)


def lead(trend: Trend) -> str:
    """Return the arm that a sentence is about: that of the paper's own loss at the paper's λ and τ, else the first."""
    own = [effect.arm for effect in trend.effects if _settings(effect) == PAPERS_OWN]
    return next(iter(own), trend.effects[0].arm)


def _settings(effect: FactorEffect) -> RegularizerSettings:
    return next(iter(effect.cells.values())).source.settings.regularizer


def trend_sentence(trend: Trend) -> str:
    """Say of one arm, chosen before any number was seen, how its change is at both ends of the factor and at the
    paper's own setting between them."""
    if not trend.table.scale.meaningful:
        return "These numbers mean nothing: they only prove that the code runs."
    line = trend.of(lead(trend))
    own = [effect for effect in line if _settings(effect) == PAPERS_OWN]
    shown = [e for e in line if e is line[0] or e is line[-1] or own == [e]]
    said = {}
    for metric, made in trend.pivots.items():
        words = [_change_words(made, trend.axis, effect, metric) for effect in shown]
        said[made.metric.title] = listed([part for part in words if part])
    lengths = {len(change.seeds) for effect in shown for metric in METRICS if (change := effect.change(metric))}
    seeds = in_words(max(lengths)) if len(lengths) == 1 else f"{min(lengths)} to {max(lengths)}"
    return sentences(
        "trend.j2", arm=line[0].arm, where=trend.where, said={name: words for name, words in said.items() if words},
        seeds=f"{seeds} seed{'' if lengths == {1} else 's'}",
        missing=[definition_of(metric).title for metric in METRICS if metric not in trend.pivots],
    )[0]  # fmt: skip


def _change_words(made: Pivot, axis: str, effect: FactorEffect, metric: str) -> str:
    change = effect.change(metric)
    if change is None:
        return ""
    kind = {"better": "is better", "worse": "is worse"}.get(kind_of(made, change), "cannot be told from the baseline’s")
    few = f"{signed_percent(change.percent)}, {in_words(len(change.seeds))} seed{'s' * (len(change.seeds) > 1)}"
    words = percent_change(change) if change.interval and not change.silent else few
    return f"{kind} at {label_words(axis, effect.level)} ({words})"


def narrowing_sentence(effects: Sequence[FactorEffect]) -> str:
    """Say in how many of the effects the held-out loss' interval is three times narrower, and where it is not."""
    both = [effect for effect in effects if effect.narrowing is not None]
    if not both:
        return "No arm has an interval of both FID and the held-out loss."
    ratios = [effect.narrowing for effect in both if effect.narrowing is not None]
    return sentences(
        "narrowing.j2", count=len(both), holding=sum(ratio >= NARROWER for ratio in ratios), times=NARROWER,
        middle=median(ratios), smallest=min(ratios), largest=max(ratios),
        plainly=median(_width(effect, METRICS[0]) / _width(effect, METRICS[1]) for effect in both),
    )[0]  # fmt: skip


def _width(effect: FactorEffect, metric: str) -> float:
    change = effect.change(metric)
    assert change
    assert change.interval
    return change.interval.high - change.interval.low
