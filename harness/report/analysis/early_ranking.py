"""Which cheap early measurement ranks the arms as the final metric does, so that a user can stop the others."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.report.analysis.arms import LEAST_ARMS, Family, Values, families, logged_values, of_fewer_images
from harness.report.analysis.pivot import Pivot
from harness.report.analysis.statistics import Interval, kendall, mean_interval, spearman
from harness.report.analysis.text import listed
from harness.report.reading.collect import metric_named
from harness.store.store import Store
from harness.store.training_log import Logs

SHARES = (0.125, 0.25, 0.5, 1.0)  # of the training


@dataclass(frozen=True)
class Ranking:
    """How well a measurement of one seed ranks the arms by their final means; τ and ρ are means over seeds.

    `kept` says with how many of `seeds` the best arm is in the better half of the measurement.
    """

    name: str
    share: float
    arms: int
    tau: float
    interval: Interval | None
    rho: float
    kept: int
    seeds: int


@dataclass(frozen=True)
class Pruning:
    """The rankings of one family, and what follows."""

    title: str
    metric: str
    rankings: tuple[Ranking, ...]
    sentences: tuple[str, ...]


def pruning(store: Store, pivots: Sequence[Pivot], logs: Logs) -> list[Pruning]:
    """Rank the arms of every family of at least four by what was known of them early."""
    found = []
    for metric in dict.fromkeys(pivot.metric.title for pivot in pivots if pivot.metric.direction == "lower"):
        same = [pivot for pivot in pivots if pivot.metric.title == metric]
        for family in families([p for p in same if p.table.scale.meaningful and not p.mixes]):
            rankings = tuple(_rankings(store, logs, family, metric))
            enough = tuple(ranking for ranking in rankings if ranking.arms >= LEAST_ARMS)
            if any(ranking.share < 1 for ranking in enough):
                found.append(Pruning(family.title, metric, enough, tuple(_sentences(rankings, metric))))
    return found


def _rankings(store: Store, logs: Logs, family: Family, metric: str) -> Iterator[Ranking]:
    """Yield how each measurement ranks, the earliest first; last what one seed's own final value can do."""
    for share in SHARES:
        step = int(share * family.steps)
        for words, early in logged_values(logs, family, step):
            yield from _ranking(words, share, family, early)
        yield from _ranking(metric, share, family, [arm.values.get(step, {}) for arm in family.arms])
    if metric == metric_named("fid").title:
        count, early = of_fewer_images(store, family)
        yield from _ranking(f"{metric} of {count:,} images", 1.0, family, early)


def _ranking(name: str, share: float, family: Family, early: Sequence[Values]) -> Iterable[Ranking]:
    """Return the ranking of a measurement, nothing where it knows fewer than two arms."""
    final = [fmean(arm.values[family.steps].values()) for arm in family.arms]
    taus, rhos, kept, arms = [], [], 0, 0
    for seed in sorted({seed for values in early for seed in values}):
        known = [index for index, values in enumerate(early) if seed in values]
        pairs = [early[index][seed] for index in known], [final[index] for index in known]
        tau = kendall(*pairs) if len(known) > 1 else math.nan
        if math.isnan(tau):
            continue
        taus.append(tau)
        rhos.append(spearman(*pairs))
        kept += _keeps_best(*pairs)
        arms = max(arms, len(known))
    if not taus:
        return ()
    return (Ranking(name, share, arms, fmean(taus), mean_interval(taus), fmean(rhos), kept, len(taus)),)


def _keeps_best(early: Sequence[float], final: Sequence[float]) -> bool:
    """Tell whether the arm with the best final mean is among the better half by the early measurement."""
    best = min(range(len(final)), key=lambda index: final[index])
    return sum(value < early[best] for value in early) < len(early) / 2


def _sentences(rankings: Sequence[Ranking], metric: str) -> Iterator[str]:
    early = [ranking for ranking in rankings if ranking.share < 1 and ranking.arms >= LEAST_ARMS]
    told = [ranking for ranking in early if ranking.interval and ranking.interval.low > 0]
    if told:
        best = max(told, key=lambda ranking: ranking.tau)
        yield f"Before the end, {_named(best)} ranks the arms best: Kendall’s τ {best.tau:.2f}."
    else:
        yield "No early measurement ranks the arms better than chance, as far as these seeds can tell."
    safe = [ranking for ranking in told if ranking.kept == ranking.seeds]
    if safe:
        yield f"The earliest that kept the best arm in its better half with every seed is {_named(safe[0])}."
    else:
        yield "None kept the best arm in its better half with every seed: nothing here is safe to prune by."
    pairs = [ranking for ranking in rankings if ranking.arms < LEAST_ARMS and ranking.name == metric]
    if pairs:
        arms = max(ranking.arms for ranking in pairs)
        said = listed([share_words(ranking.share) for ranking in pairs])
        yield f"{metric} of early checkpoints ({said}) is stored for {arms} arms only, and says little."
    ceiling = next((ranking for ranking in rankings if ranking.share == 1 and ranking.name == metric), None)
    if ceiling:
        yield f"For comparison, the final {metric} of one seed has τ {ceiling.tau:.2f} with the mean over seeds."


def _named(ranking: Ranking) -> str:
    return f"the {ranking.name} after {share_words(ranking.share)}"


def share_words(share: float) -> str:
    """Return "a quarter of the training"."""
    words = {0.125: "an eighth", 0.25: "a quarter", 0.5: "half"}
    return f"{words[share]} of the training" if share in words else "all of the training"
