"""Which cheap early measurement ranks the arms as the final metric does, so that a user can stop the others."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from statistics import fmean

from harness.metric_definitions import definition_of
from harness.report.analysis.arms import Arm, ArmGroup, arm_groups
from harness.report.analysis.pivot import Pivot
from harness.report.analysis.statistics import Interval, kendall, mean_interval, spearman
from harness.report.analysis.text import counted, sentences
from harness.store.records import Measurement
from harness.store.store import Logs, Store

SHARES = {0.125: "an eighth", 0.25: "a quarter", 0.5: "half", 1.0: "all"}  # of the training
LOGGED = {
    "denoising": "denoising loss",
    "above_floor": "regulariser above its floor",
    "gradient_norm": "norm of the gradient",
}
LEAST_ARMS = 4
Values = Mapping[int, float]  # by seed


@dataclass(frozen=True)
class Contest:
    """The arms of a group at the longest training that at least four of them have."""

    title: str
    steps: int
    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class Ranking:
    """How well a measurement of one seed ranks the arms by their final means over the *other* seeds.

    A mean that contained the seed's own final value would agree with it by its own noise. τ and ρ are means over seeds;
    `hits` says with how many of `seeds` the best arm is in the better half of the measurement.
    """

    name: str
    share: float
    arms: int
    tau: float
    interval: Interval | None
    rho: float
    hits: int
    seeds: int

    @property
    def length(self) -> str:
        """Return "a quarter of the training"."""
        return f"{SHARES[self.share]} of the training"


@dataclass(frozen=True)
class EarlyRanking:
    """The rankings of one group of arms, and what follows."""

    title: str
    metric: str
    rankings: tuple[Ranking, ...]
    sentences: tuple[str, ...]


def early_rankings(store: Store, pivots: Sequence[Pivot], logs: Logs) -> list[EarlyRanking]:
    """Rank the arms of every group of at least four by what was known of them early."""
    shown = []
    for metric in dict.fromkeys(pivot.metric.title for pivot in pivots if pivot.metric.direction == "lower"):
        same = [p for p in pivots if p.metric.title == metric and p.table.scale.meaningful and not p.mixes]
        for contest in contests(arm_groups(same)):
            rankings = tuple(_rankings(store, logs, contest, metric))
            enough = tuple(ranking for ranking in rankings if ranking.arms >= LEAST_ARMS)
            if any(ranking.share < 1 for ranking in enough):
                shown.append(EarlyRanking(contest.title, metric, enough, tuple(_sentences(rankings, metric))))
    return shown


def contests(groups: Iterable[ArmGroup]) -> Iterator[Contest]:
    """Yield the arms of each group at the longest training that at least four of them have, where there is one."""
    for group in groups:
        arms_at = Counter(step for arm in group.arms for step in arm.measured)
        steps = max((step for step, arms in arms_at.items() if arms >= LEAST_ARMS), default=None)
        if steps is not None:
            arms = tuple(arm for arm in group.arms if steps in arm.measured)
            yield Contest(f"{group.model}, {counted(steps, 'step')}, {counted(len(arms), 'arm')}", steps, arms)


def _rankings(store: Store, logs: Logs, contest: Contest, metric: str) -> Iterator[Ranking]:
    """Yield how each measurement ranks, the earliest first; last what one seed's own final value can do."""
    means = cache(partial(_means_of_others, [arm.values(contest.steps) for arm in contest.arms]))
    for share in SHARES:
        step = int(share * contest.steps)
        for key, words in LOGGED.items():
            yield from _ranking(words, share, means, [_logged(logs, arm, key, step) for arm in contest.arms])
        yield from _ranking(metric, share, means, [arm.values(step) for arm in contest.arms])
    if metric == definition_of("fid").title:
        count, early = _of_fewer_images(store, contest)
        yield from _ranking(f"{metric} of {count:,} images", 1.0, means, early)


def _means_of_others(final: Sequence[Values], seed: int) -> list[float | None]:
    """Return the mean of each arm's final values over all other seeds; None where there are none."""
    others = ([end for other, end in ends.items() if other != seed] for ends in final)
    return [fmean(ends) if ends else None for ends in others]


def _logged(logs: Logs, arm: Arm, key: str, step: int) -> Values:
    """The last value of each log up to a step, by seed; a log without the number gives none."""
    series = {seed: logs.of(train_id)[key] for seed, train_id in arm.trainings.items()}
    logged = {seed: [value for at, value in values if at <= step] for seed, values in series.items()}
    return {seed: values[-1] for seed, values in logged.items() if values}


def _of_fewer_images(store: Store, contest: Contest) -> tuple[int, list[Values]]:
    """Return the smallest number of images for which measurements hold FID, and FID of so many by arm and seed."""
    by_count: list[dict[int, dict[int, float]]] = []
    for arm in contest.arms:
        runs = arm.measured[contest.steps].items()
        files = {seed: Measurement.peek(store.eval_path(run.train_id, run.eval_id)) for seed, run in runs}
        by_count.append({seed: file.fid_by_count for seed, file in files.items() if file})
    count = min((count for arm in by_count for fids in arm.values() for count in fids), default=0)
    return count, [{seed: fids[count] for seed, fids in arm.items() if count in fids} for arm in by_count]


def _ranking(
    name: str, share: float, means: Callable[[int], Sequence[float | None]], early: Sequence[Values]
) -> list[Ranking]:
    """Return the ranking of a measurement, nothing where no seed has two arms that others have too.

    means: of each arm's final values over all seeds but one.
    """
    scores = []
    for seed in sorted({seed for values in early for seed in values}):
        beside = zip(early, means(seed), strict=True)
        pairs = [(values[seed], mean) for values, mean in beside if seed in values and mean is not None]
        tau = kendall(*zip(*pairs, strict=True)) if len(pairs) > 1 else math.nan
        if not math.isnan(tau):
            scores.append((tau, spearman(*zip(*pairs, strict=True)), _keeps_best(pairs), len(pairs)))
    if not scores:
        return []
    taus, rhos, hits, arms = zip(*scores, strict=True)
    return [Ranking(name, share, max(arms), fmean(taus), mean_interval(taus), fmean(rhos), sum(hits), len(taus))]


def _keeps_best(pairs: Sequence[tuple[float, float]]) -> bool:
    """Tell whether the arm with the best mean of the others is among the better half by the early measurement."""
    early, _ = min(pairs, key=lambda pair: pair[1])
    return sum(other < early for other, _ in pairs) < len(pairs) / 2


def _sentences(rankings: Sequence[Ranking], metric: str) -> list[str]:
    early = [ranking for ranking in rankings if ranking.share < 1 and ranking.arms >= LEAST_ARMS]
    sure = [ranking for ranking in early if ranking.interval and ranking.interval.low > 0]
    safe = [ranking for ranking in sure if ranking.hits == ranking.seeds]
    return sentences("early_ranking.j2", metric=metric, sure=sure, safe=safe, rankings=rankings, least=LEAST_ARMS)
