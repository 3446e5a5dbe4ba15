"""Intervals and tests for a handful of seeds: Student's t, Welch, sign flips, Holm, rank correlation.

A percentile bootstrap of five pairs covers far less than it says; Student's t is exact where differences are normal.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

LEVEL, ALPHA = 0.95, 0.05
FLIPPED = 16  # seeds, whose 65,536 choices of signs take a moment; a t-test of more needs no second opinion
NODES, WEIGHTS = np.polynomial.legendre.leggauss(80)


@dataclass(frozen=True)
class Interval:
    """A confidence interval of level `LEVEL`."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """True where zero lies outside."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Comparison:
    """One arm against another: the ratio of their means less one, in percent, and what tells it from chance.

    `p` is of Student's t, the change over its standard error, and below 0.05 where the interval excludes zero; `flip_p`
    is of the sign-flip test, for pairs alone. `narrowing` is the width of the paired interval in terms of the one that
    takes the same values for unrelated. With one seed there is the change alone.
    """

    percent: float
    interval: Interval | None
    p: float | None
    flip_p: float | None
    narrowing: float | None


def student_tail(t: float, degrees: float) -> float:
    """P(|T| ≥ |t|) of Student's t with `degrees` ≥ 1 degrees of freedom, which need not be whole.

    With t = √ν cot φ it is 2 Γ((ν+1)/2) / (√π Γ(ν/2)) ∫ sin^(ν−1) φ dφ from 0 to atan(√ν/|t|); φ ∝ u⁴ keeps the
    integrand smooth for every ν, and Gauss-Legendre then gives ten digits.
    """
    if math.isinf(t):
        return 0.0
    end = math.atan2(math.sqrt(degrees), abs(t))
    u = (NODES + 1) / 2
    values = np.sin(end * u**4) ** (degrees - 1) * 4 * u**3
    return min(1.0, float(_gammas(degrees) * end * (WEIGHTS @ values)))


def _gammas(degrees: float) -> float:
    """Γ((ν+1)/2) / (√π Γ(ν/2))."""
    return math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)


@cache
def student_quantile(degrees: float) -> float:
    """Return the t for which P(|T| ≤ t) = `LEVEL`, by Newton's method: the tail is convex, and no step overshoots."""
    t, step = 1.0, 1.0
    while step > 1e-12 * t:
        density = _gammas(degrees) / math.sqrt(degrees) * (1 + t * t / degrees) ** (-(degrees + 1) / 2)
        step = (student_tail(t, degrees) - ALPHA) / (2 * density)
        t += step
    return t


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Return mean ± t·s/√n; None with one value."""
    if len(values) < 2:
        return None
    half = student_quantile(len(values) - 1) * _error(values)
    return _around(float(np.mean(values)), half)


def _error(values: Sequence[float]) -> float:
    """Standard error of a mean."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def welch_degrees(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Welch and Satterthwaite's degrees of freedom for the difference of two means (Biometrika 34, 1947)."""
    shares = [(_error(values) ** 2, len(values) - 1) for values in (first, second)]
    below = sum(variance**2 / degrees for variance, degrees in shares)
    return sum(variance for variance, _ in shares) ** 2 / below if below else float(sum(d for _, d in shares))


def paired(ours: Sequence[float], base: Sequence[float]) -> Comparison:
    """Compare values of the same seeds, in the same order; the baseline's mean is not zero."""
    percent, scaled = _scaled(ours, base)
    if len(ours) < 2:
        return Comparison(percent, None, None, None, None)
    error, degrees = _error([a - b for a, b in zip(ours, scaled, strict=True)]), len(ours) - 1
    half, alone = student_quantile(degrees) * error, student_quantile(welch_degrees(ours, scaled)) * _both(ours, scaled)
    interval, p = _tested(percent, error / float(np.mean(base)), degrees)
    flip_p = sign_flip_p([a - b for a, b in zip(ours, base, strict=True)])
    return Comparison(percent, interval, p, flip_p, half / alone if half and alone else None)


def unpaired(ours: Sequence[float], base: Sequence[float]) -> Comparison:
    """Compare values of different seeds, by Welch's degrees of freedom; the baseline's mean is not zero."""
    percent, scaled = _scaled(ours, base)
    if min(len(ours), len(base)) < 2:
        return Comparison(percent, None, None, None, None)
    interval, p = _tested(percent, _both(ours, scaled) / float(np.mean(base)), welch_degrees(ours, scaled))
    return Comparison(percent, interval, p, None, None)


def _scaled(ours: Sequence[float], base: Sequence[float]) -> tuple[float, list[float]]:
    """Return the change of the mean in percent, and the baseline's values brought to our mean.

    To first order the error of the ratio ȳ/x̄ is that of the mean of y − (ȳ/x̄)·x, divided by x̄.
    """
    above, below = float(np.mean(ours)), float(np.mean(base))
    return 100 * (above - below) / below, [above / below * value for value in base]


def _both(first: Sequence[float], second: Sequence[float]) -> float:
    """Standard error of the difference of two unrelated means."""
    return math.hypot(_error(first), _error(second))


def _tested(percent: float, error: float, degrees: float) -> tuple[Interval, float]:
    """Return the interval of a change in percent whose ratio has a standard error, and the p of its being zero."""
    error = 100 * abs(error)
    return _around(percent, student_quantile(degrees) * error), student_tail(_standing(percent, error), degrees)


def _around(middle: float, half: float) -> Interval:
    return Interval(middle - half, middle + half)


def _standing(value: float, error: float) -> float:
    """How many standard errors a value is from zero."""
    if error == 0:
        return math.inf if value else 0.0
    return value / error


def sign_flip_p(differences: Sequence[float]) -> float | None:
    """Share of all 2ⁿ choices of signs whose mean is as far from zero as the one found; None above `FLIPPED`."""
    if len(differences) > FLIPPED:
        return None
    found = abs(math.fsum(differences)) * (1 - 1e-12)
    sums = [abs(math.fsum(s * d for s, d in zip(signs, differences, strict=True))) for signs in _signs(differences)]
    return sum(value >= found for value in sums) / len(sums)


def _signs(differences: Sequence[float]) -> list[tuple[int, ...]]:
    return list(itertools.product((1, -1), repeat=len(differences)))


def smallest_flip_p(count: int) -> float:
    """Return the smallest p that a sign-flip test of `count` differences can have: that of all signs equal."""
    return 2.0 ** (1 - count)


def holm(found: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's adjusted p by name (Scand. J. Stat. 6, 1979): what is below α holds beside all the others."""
    adjusted, largest = {}, 0.0
    for place, (name, p) in enumerate(sorted(found.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(found) - place) * p))
        adjusted[name] = largest
    return adjusted


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's τ_b; nan where one side is all ties."""
    signs = [np.sign(np.subtract.outer(values, values)) for values in (first, second)]
    return _correlation(signs[0].ravel(), signs[1].ravel())


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's ρ: the correlation of ranks, ties sharing their mean rank; nan where one side is all ties."""
    ranks = [_ranks(values) for values in (first, second)]
    return _correlation(*(values - values.mean() for values in ranks))


def _ranks(values: Iterable[float]) -> np.ndarray:
    array = np.asarray(list(values))
    return (array[:, None] > array).sum(1) + (array[:, None] == array).sum(1) / 2


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    scale = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / scale if scale else math.nan
