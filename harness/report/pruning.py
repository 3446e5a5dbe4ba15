"""Which cheap early measurement ranks the arms as the final metric does, so that a user can stop the others."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.grid import Run
from harness.report.curves import logged
from harness.report.statistics import Interval, kendall, mean_interval, spearman
from harness.report.tables import Pivot
from harness.report.words import counted, listed
from harness.spec import canonical
from harness.store import Store

SHARES = (0.125, 0.25, 0.5, 1.0)  # of the training
LOGGED = {
    "denoising": "denoising loss",
    "above_floor": "regulariser above its floor",
    "gradient_norm": "norm of the gradient",
}
LEAST_ARMS = 4
Values = Mapping[int, float]  # by seed


@dataclass(frozen=True)
class Arm:
    """One setting of the regulariser: its trainings by seed, and its values by step of the checkpoint and seed."""

    trainings: dict[int, str]
    values: dict[int, dict[int, float]]


@dataclass(frozen=True)
class Family:
    """Trainings that differ in their regulariser and seed alone, measured in one way; `steps` is of the longest."""

    title: str
    steps: int
    arms: tuple[Arm, ...]


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


def pruning(store: Store, pivots: Sequence[Pivot]) -> list[Pruning]:
    """Rank the arms of every family of at least four by what was known of them early."""
    found = []
    for metric in dict.fromkeys(pivot.metric.title for pivot in pivots if pivot.metric.direction == "lower"):
        same = [pivot for pivot in pivots if pivot.metric.title == metric]
        for family in families([p for p in same if p.table.scale.meaningful and not p.mixes]):
            rankings = tuple(_rankings(store, family, metric))
            if any(ranking.share < 1 and ranking.arms >= LEAST_ARMS for ranking in rankings):
                found.append(Pruning(family.title, metric, rankings, tuple(_sentences(rankings, metric))))
    return found


def families(pivots: Sequence[Pivot]) -> list[Family]:
    """Group the measured runs of a study into families of at least four arms at their longest training."""
    groups: dict[tuple[str, str], dict[str, Arm]] = {}
    models: dict[tuple[str, str], str] = {}
    for pivot in pivots:
        asked = {run.eval_id: (run, cell.settings.model) for cell in pivot.table.cells for run in cell.runs}
        for state in (state for cell in pivot.cells for state in cell.runs if state.value is not None):
            run, model = asked[state.eval_id]
            key = _key(run)
            models.setdefault(key, model)
            regularizer = canonical(run.train.regularizer) if run.train.regularizer else ""
            arm = groups.setdefault(key, {}).setdefault(regularizer, Arm({}, {}))
            arm.trainings[run.seed] = run.train_id
            arm.values.setdefault(run.evaluation.step, {})[run.seed] = state.value or 0.0
    return [family for key, arms in groups.items() if (family := _family(models[key], list(arms.values())))]


def _key(run: Run) -> tuple[str, str]:
    """What all arms of a family share: the training without regulariser and seed, the measurement without its step."""
    train = run.train.model_copy(update={"regularizer": None, "seed": 0})
    return canonical(train), canonical(run.evaluation.model_copy(update={"step": 0, "first_image": 0}))


def _family(model: str, arms: Sequence[Arm]) -> Family | None:
    lengths = sorted({step for arm in arms for step in arm.values}, reverse=True)
    for steps in lengths:
        whole = tuple(arm for arm in arms if steps in arm.values)
        if len(whole) >= LEAST_ARMS:
            return Family(f"{model}, {counted(steps, 'step')}, {counted(len(whole), 'arm')}", steps, whole)
    return None


def _rankings(store: Store, family: Family, metric: str) -> Iterator[Ranking]:
    """Yield how each measurement ranks, the earliest first; last what one seed's own final value can do."""
    logs = {name: logged(store.run_folder(name) / "train.jsonl") for a in family.arms for name in a.trainings.values()}
    for share in SHARES:
        for key, words in LOGGED.items():
            early = [_logged_values(arm, logs, key, share * family.steps) for arm in family.arms]
            yield from _ranking(words, share, family, early)
        yield from _ranking(
            metric, share, family, [arm.values.get(int(share * family.steps), {}) for arm in family.arms]
        )


def _logged_values(arm: Arm, logs: Mapping[str, Mapping[int, Mapping[str, object]]], key: str, step: float) -> Values:
    """The last line of each log up to a step, by seed; a log without the number gives none."""
    found = {}
    for seed, name in arm.trainings.items():
        records = [record.get(key) for at, record in logs[name].items() if at <= step]
        value = records[-1] if records else None
        if isinstance(value, int | float) and math.isfinite(value):
            found[seed] = float(value)
    return found


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
