"""The change of one cell against another: each seed against itself, with its interval and its tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from harness.report.analysis.statistics import ALPHA, Interval, paired, unpaired


@dataclass(frozen=True)
class Change:
    """Change against our baseline in percent of the baseline's mean.

    Where both have a seed, only seeds of both are compared, each with itself (`paired`), and `spread` is the sample
    standard deviation of those differences in percent; otherwise the two means are compared. `interval` (in percent)
    and the tests are those of `statistics.Comparison`; `adjusted` is Holm's p beside the other changes of the table.
    """

    percent: float
    spread: float | None
    seeds: tuple[int, ...]
    paired: bool
    interval: Interval | None = None
    p: float | None = None
    flip_p: float | None = None
    narrowing: float | None = None
    adjusted: float | None = None

    @property
    def beyond(self) -> bool:
        """True where its interval excludes zero."""
        return self.p is not None and self.p < ALPHA

    @property
    def survives(self) -> bool:
        """True where it holds beside all other changes of its table."""
        return self.adjusted is not None and self.adjusted < ALPHA


def change_record(change: Change | None) -> dict[str, Any]:
    """Return a change as columns of a CSV file; their names where there is none."""
    interval = change.interval if change else None
    return {
        "change_percent": change.percent if change else None,
        "change_standard_deviation": change.spread if change else None,
        "change_low": interval.low if interval else None,
        "change_high": interval.high if interval else None,
        "change_seeds": " ".join(map(str, change.seeds)) if change else "",
        "change_paired": change.paired if change else None,
        "p": change.p if change else None,
        "p_holm": change.adjusted if change else None,
        "p_sign_flip": change.flip_p if change else None,
        "paired_over_unpaired_width": change.narrowing if change else None,
    }


def change_between(ours: Mapping[int, float], base: Mapping[int, float]) -> Change | None:
    """Return the change of values by seed against others; None where a baseline of zero leaves it without meaning."""
    common = tuple(seed for seed in ours if seed in base)
    denominator = fmean([base[seed] for seed in common] or base.values())
    if denominator == 0:
        return None
    if not common:
        found = unpaired(list(ours.values()), list(base.values()))
        return Change(found.percent, None, tuple(ours), False, found.interval, found.p)
    found = paired([ours[seed] for seed in common], [base[seed] for seed in common])
    differences = [100 * (ours[seed] - base[seed]) / denominator for seed in common]
    spread = stdev(differences) if len(common) > 1 else None
    return Change(found.percent, spread, common, True, found.interval, found.p, found.flip_p, found.narrowing)
