"""What trainings left beside their numbers: on which machines they ran, what they cost, how D went at their start."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.store.records import Environment, Log, overshoot
from harness.store.store import Logs, Store

EARLY = 10  # steps, each of which the log has


@dataclass(frozen=True)
class StudyCost:
    """Trainings of a study with their machines, core-hours by the clock, and how many pairs of arm and baseline share
    a type of machine.

    machines: type → trainings; hours: unit → device-hours of all attempts.
    """

    trainings: int
    machines: Mapping[str, int]
    hours: Mapping[str, float]
    pairs: int
    alike: int

    @property
    def machine_words(self) -> str:
        """Return "AMD EPYC, 1 core (160)", each type with its trainings."""
        return "; ".join(f"{kind} ({count})" for kind, count in self.machines.items())


def study_cost(store: Store, train_ids: Iterable[str], pairs: Iterable[tuple[str, str]]) -> StudyCost:
    """Add up the trainings; pairs: of an arm's training and that of its baseline with the same seed."""
    environments = {train_id: environment_of(store, train_id) for train_id in dict.fromkeys(train_ids)}
    hours: dict[str, float] = {}
    for attempt in (attempt for environment in environments.values() for attempt in environment.attempts):
        hours[attempt.unit] = hours.get(attempt.unit, 0.0) + attempt.hours()
    kinds = {train_id: machine(environment) for train_id, environment in environments.items()}
    distinct = set(pairs)
    alike = sum(kinds[ours] == kinds[base] for ours, base in distinct)
    return StudyCost(len(kinds), dict(Counter(kinds.values()).most_common()), hours, len(distinct), alike)


def environment_of(store: Store, train_id: str) -> Environment:
    """Return where a training ran; without attempts where that is not known."""
    return Environment.peek(store.run_folder(train_id)) or Environment()


def machine(environment: Environment) -> str:
    """Return the types of machine that a training ran on in its attempts: "AMD EPYC, 1 core"."""
    types = (f"{a.device or 'unknown'}, {a.devices:g} {a.unit}{'s' * (a.devices != 1)}" for a in environment.attempts)
    return " and ".join(sorted(set(types))) or "not recorded"


@dataclass(frozen=True)
class DistanceFacts:
    """D of the features before the first step and after ten, and the loss's share of the gradient there and at the end:
    each a mean over trainings. warned: how many of them the harness warned of.
    """

    trainings: int
    tau: float
    start: float
    early: float
    early_share: float
    last_share: float
    warned: int


def distance_facts(logs: Logs, train_ids: Sequence[str]) -> DistanceFacts | None:
    """Return the facts of the trainings of one loss on one network, from those whose logs have them; None without."""
    whole = [log for train_id in train_ids if _early(log := logs.of(train_id))]
    if not whole:
        return None
    return DistanceFacts(
        trainings=len(whole),
        tau=fmean(log["tau"][0][1] for log in whole),
        start=fmean(log["distance_start"][0][1] for log in whole),
        early=fmean(dict(log["distance"])[EARLY] for log in whole),
        early_share=fmean(dict(log["gradient_share"])[EARLY] for log in whole),
        last_share=fmean(log["gradient_share"][-1][1] for log in whole),
        warned=sum(overshoot(log) is not None for log in whole),
    )


def _early(log: Log) -> bool:
    """Tell whether a log has D before the first step and after ten."""
    return bool(log["distance_start"] and log["tau"]) and all(
        EARLY in dict(log[key]) for key in ("distance", "gradient_share")
    )
