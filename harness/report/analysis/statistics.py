"""Changes between arms of a handful of seeds: their intervals and tests, Holm's correction, rank correlations.

A percentile bootstrap of five pairs covers far less than it says; Student's t is exact where differences are normal.
Student's t is of `scipy.special`, where `scipy.stats` has it from: that takes most of a second to load, and so is
loaded with the first rank correlation.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import NormalDist

import numpy as np
import scipy
from scipy.special import stdtr, stdtrit

LEVEL, ALPHA = 0.95, 0.05
SILENT_FROM = 100.0  # percent of the baseline: an interval about zero that is wider than this is said, not printed
FLIPPED = 16  # seeds, whose 65,536 choices of signs take a moment; a t-test of more needs no second opinion


@dataclass(frozen=True)
class Interval:
    """A confidence interval of level `LEVEL`."""

    low: float
    high: float

    @property
    def sign(self) -> int:
        """−1, 0 where zero lies inside, or 1."""
        return (self.low > 0) - (self.high < 0)


@dataclass(frozen=True)
class Change:
    """Change of one arm against another: the ratio of their means less one, in percent of the baseline's mean.

    Where both have a seed, only seeds of both are compared, each with itself (`paired`), and `spread` is the sample
    standard deviation of those differences in percent; otherwise the two means are compared, by Welch's degrees of
    freedom. `p` is of Student's t, the change over its standard error, and below 0.05 where the interval (in percent)
    excludes zero; `flip_p` is of the sign-flip test, for pairs alone; `adjusted` is Holm's p beside the other changes
    of the table. `narrowing` is the width of the paired interval in terms of the one that takes the same values for
    unrelated. With one seed there is the change alone.
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
    def silent(self) -> bool:
        """True where its interval is about zero and so wide that its ends say nothing: "two seeds cannot tell"."""
        return self.interval is not None and not self.beyond and self.interval.high - self.interval.low > SILENT_FROM

    @property
    def survives(self) -> bool:
        """True where it holds beside all other changes of its table."""
        return self.adjusted is not None and self.adjusted < ALPHA


def change_between(ours: Mapping[int, float], base: Mapping[int, float]) -> Change | None:
    """Return the change of values by seed against others; None where a baseline of zero leaves it without meaning.

    To first order the error of the ratio r = ȳ/x̄ is that of the mean of y − r·x, divided by x̄.
    """
    common = tuple(seed for seed in ours if seed in base)
    y = np.array([ours[seed] for seed in common or ours])
    x = np.array([base[seed] for seed in common or base])
    mean = float(x.mean())
    if mean == 0:
        return None
    change = Change(100 * (float(y.mean()) - mean) / mean, None, common or tuple(ours), bool(common))
    if min(len(y), len(x)) < 2:
        return change
    scaled = x * (y.mean() / mean)
    unrelated = math.hypot(_standard_error(y), _standard_error(scaled)), welch_degrees(y, scaled)
    if not common:
        return _tested(change, mean, *unrelated)
    paired = _standard_error(y - scaled), len(y) - 1
    widths = [t_quantile(degrees) * error for error, degrees in (paired, unrelated)]
    return replace(
        _tested(change, mean, *paired),
        spread=float(np.std(100 * (y - x) / mean, ddof=1)),
        flip_p=sign_flip_p(y - x),
        narrowing=widths[0] / widths[1] if all(widths) else None,
    )


def _tested(change: Change, mean: float, error: float, degrees: float) -> Change:
    """Add the interval of a change whose numerator has a standard error, and the p of its being zero."""
    error = 100 * abs(error / mean)
    t = math.inf if change.percent and not error else abs(change.percent) / (error or 1.0)
    half = t_quantile(degrees) * error
    interval = Interval(change.percent - half, change.percent + half)
    return replace(change, interval=interval, p=2 * float(stdtr(degrees, -t)))


@cache
def t_quantile(degrees: float) -> float:
    """Return the t for which P(|T| ≤ t) = `LEVEL` of Student's t; the degrees of freedom need not be whole."""
    return float(stdtrit(degrees, (1 + LEVEL) / 2))


def mean_interval(values: Sequence[float] | np.ndarray) -> Interval | None:
    """Return mean ± t·s/√n; None with one value."""
    if len(values) < 2:
        return None
    mean, half = float(np.mean(values)), t_quantile(len(values) - 1) * _standard_error(values)
    return Interval(mean - half, mean + half)


def _standard_error(values: Sequence[float] | np.ndarray) -> float:
    """Standard error of a mean."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def welch_degrees(first: np.ndarray, second: np.ndarray) -> float:
    """Return Welch and Satterthwaite's degrees of freedom for the difference of two means (Biometrika 34, 1947).

    Arms without any spread have those of both means, where scipy's `ttest_ind` has none.
    """
    shares = [(_standard_error(values) ** 2, len(values) - 1) for values in (first, second)]
    below = sum(variance**2 / degrees for variance, degrees in shares)
    return sum(variance for variance, _ in shares) ** 2 / below if below else float(sum(d for _, d in shares))


def sign_flip_p(differences: np.ndarray) -> float | None:
    """Share of all 2ⁿ choices of signs whose mean is as far from zero as the observed one; None above `FLIPPED`.

    It is scipy's exact `permutation_test` of one sample, which takes a second for 16 differences.
    """
    if len(differences) > FLIPPED:
        return None
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    observed = abs(float(np.sum(differences))) * (1 - 1e-12)
    return float(np.mean(np.abs(signs @ differences) >= observed))


def smallest_flip_p(count: int) -> float:
    """Return the smallest p that a sign-flip test of `count` differences can have: that of all signs equal."""
    return 2.0 ** (1 - count)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's adjusted p by name (Scand. J. Stat. 6, 1979): what is below α holds beside all the others."""
    adjusted, largest = {}, 0.0
    for place, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p))
        adjusted[name] = largest
    return adjusted


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's τ_b; nan where one side is all ties."""
    return float(scipy.stats.kendalltau(first, second).statistic)


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's ρ: the correlation of ranks, ties sharing their mean rank; nan where one side is all ties."""
    constant = len(set(first)) == 1 or len(set(second)) == 1  # of which numpy would warn
    return math.nan if constant else float(np.corrcoef(scipy.stats.rankdata([first, second], axis=1))[0, 1])


def spearman_interval(rho: float, n: int) -> Interval:
    """The interval of ρ over n independent pairs: Fisher's z of variance (1 + ρ²/2)/(n − 3) (Bonett & Wright 2000)."""
    assert n > 3, n
    if abs(rho) == 1:
        return Interval(rho, rho)
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return Interval(math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half))
