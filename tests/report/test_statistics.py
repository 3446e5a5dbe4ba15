"""Intervals and tests for few seeds, against scipy, by hand, and on synthetic runs whose truth is known."""

import math
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from harness.report.analysis.statistics import (
    Change,
    change_between,
    holm,
    kendall,
    mean_interval,
    sign_flip_p,
    smallest_flip_p,
    spearman,
    t_quantile,
    welch_degrees,
)

OURS, BASE = [4.1, 4.5, 3.9, 4.4, 4.2], [4.6, 4.9, 4.7, 4.8, 5.1]


def paired(ours: Sequence[float], base: Sequence[float]) -> Change:
    """The change of values of the same seeds."""
    change = change_between(dict(enumerate(ours)), dict(enumerate(base)))
    assert change
    assert change.paired
    return change


def unpaired(ours: Sequence[float], base: Sequence[float]) -> Change:
    """The change of values of different seeds."""
    change = change_between(dict(enumerate(ours)), dict(enumerate(base, len(ours))))
    assert change
    assert not change.paired
    return change


@pytest.mark.parametrize("degrees", [1, 1.3, 2, 2.37, 4, 9.6, 40, 300])
def test_student_s_t_lies_within_the_quantile_as_often_as_it_says(degrees: float) -> None:
    """The density integrated by t = √ν tan φ, where it is cos φ to the power ν − 1."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    end = math.atan(t_quantile(degrees) / math.sqrt(degrees))
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    assert 2 * scale * end / 2 * (weights @ np.cos(end * (nodes + 1) / 2) ** (degrees - 1)) == pytest.approx(0.95)


def test_intervals_and_tests_are_those_of_scipy() -> None:
    """The ratio's standard error, by its derivatives, and Student's t; where the ratio is 1 it is the paired t-test."""
    ours, base = np.array(OURS), np.array(BASE)
    change, ratio = paired(OURS, BASE), ours.mean() / base.mean()
    gradient = np.array([1 / base.mean(), -ours.mean() / base.mean() ** 2])
    errors = {
        4: np.sqrt(gradient @ np.cov(ours, base) @ gradient / 5),
        welch_degrees(ours, ratio * base): np.sqrt(gradient**2 @ [ours.var(ddof=1) / 5, base.var(ddof=1) / 5]),
    }
    widths = []
    for comparison, (degrees, error) in zip((change, unpaired(OURS, BASE)), errors.items(), strict=True):
        assert comparison.interval
        ends = 100 * np.array(stats.t.interval(0.95, degrees, ratio - 1, error))
        assert (comparison.interval.low, comparison.interval.high) == pytest.approx(tuple(ends))
        assert comparison.p == pytest.approx(2 * stats.t.sf((1 - ratio) / error, degrees))
        widths.append(ends[1] - ends[0])
    assert change.narrowing == pytest.approx(widths[0] / widths[1])
    level = list(base - base.mean() + ours.mean() + 1e-9)
    assert paired(OURS, level).p == pytest.approx(stats.ttest_rel(OURS, level).pvalue)
    assert unpaired(OURS, level).p == pytest.approx(stats.ttest_ind(OURS, level, equal_var=False).pvalue)
    assert welch_degrees(ours, base) == pytest.approx(stats.ttest_ind(OURS, BASE, equal_var=False).df)
    own = mean_interval(OURS)
    assert own
    assert (own.low, own.high) == pytest.approx(stats.t.interval(0.95, 4, np.mean(OURS), stats.sem(OURS)))


def test_sign_flips_are_counted_whole() -> None:
    differences = [0.3, -0.1, 0.4, 0.2, 0.25]
    truth = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=math.inf)
    assert sign_flip_p(np.array(differences)) == pytest.approx(truth.pvalue)
    assert sign_flip_p(np.array([1.0, 2.0, 0.5, 3.0, 0.1])) == smallest_flip_p(5) == 0.0625
    assert sign_flip_p(np.full(40, 0.1)) is None


def test_holm_is_that_of_hand_computation() -> None:
    """The smallest of four is taken four times, the next thrice; none falls below the one before it."""
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_rank_correlations_are_those_of_scipy() -> None:
    generator = np.random.default_rng(3)
    for _ in range(5):
        first, second = generator.integers(0, 6, 12).astype(float), generator.normal(size=12).round(1)
        assert kendall(first, second) == pytest.approx(stats.kendalltau(first, second).statistic)
        assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert math.isnan(kendall([1.0, 1.0], [1.0, 2.0]))
    assert math.isnan(spearman([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]))


def studies(generator: np.random.Generator, seeds: int, law: str, effect: float) -> tuple[np.ndarray, np.ndarray]:
    """Two arms whose seeds share half of their variance; the second is `effect` times the first in expectation."""
    shared, own = generator.normal(size=seeds), generator.normal(size=(2, seeds))
    spread = 0.06 * (shared + own) / math.sqrt(2)
    levels = 1 + spread if law == "normal" else np.exp(spread - 0.06**2 / 2)
    return 4.0 * effect * levels[0], 4.0 * levels[1]


@pytest.mark.parametrize(("law", "effect"), [("normal", 0.88), ("lognormal", 1.3)])
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("common", [True, False])
def test_nominal_intervals_cover_the_truth_as_often_as_they_say(
    law: str, effect: float, seeds: int, common: bool
) -> None:
    """Arms apart by −12 % and by +30 %, in percent of a baseline that is itself uncertain; Welch's is known to be wide.

    The standard error of a coverage of 1,000 studies is 0.7 %.
    """
    generator, covered, studied = np.random.default_rng(seeds), 0, 1000
    for _ in range(studied):
        ours, base = studies(generator, seeds, law, effect)
        if not common:
            base = studies(generator, seeds, law, effect)[1]
        names = range(seeds) if common else range(seeds, 2 * seeds)
        change = change_between(dict(enumerate(ours)), dict(zip(names, base, strict=True)))
        assert change
        assert change.interval
        assert change.paired == common
        covered += change.interval.low <= 100 * (effect - 1) <= change.interval.high
    assert 0.92 <= covered / studied <= (0.98 if common else 0.99)


def test_a_bootstrap_of_five_pairs_would_not() -> None:
    """Why there is no percentile bootstrap here."""
    generator, covered = np.random.default_rng(0), 0
    for _ in range(600):
        ours, base = studies(generator, 5, "normal", 0.88)
        means = generator.choice(ours - base, (400, 5)).mean(1)
        low, high = np.quantile(means, [0.025, 0.975])
        covered += low <= -0.48 <= high
    assert covered / 600 < 0.9


def test_pairing_narrows_the_interval_of_arms_that_share_their_noise() -> None:
    """With half of the variance shared the differences vary by half as much, and degrees of freedom cost a fifth."""
    generator = np.random.default_rng(1)
    widths = [paired(*studies(generator, 5, "normal", 1.0)).narrowing or 0 for _ in range(400)]
    expected = math.sqrt(0.5) * t_quantile(4) / t_quantile(7.2)
    assert np.median(widths) == pytest.approx(expected, rel=0.06)


def test_changes_that_cannot_be_tested_say_nothing() -> None:
    change = change_between({0: 4.0}, {0: 5.0})
    assert change
    assert (change.percent, change.interval, change.p, change.beyond) == (-20.0, None, None, False)
    assert change_between({0: 4.0}, {0: 0.0}) is None
    same = change_between({0: 5.0, 1: 6.0}, {0: 5.0, 1: 6.0})
    assert same
    assert (same.percent, same.p, same.beyond) == (0.0, pytest.approx(1.0), False)


def test_scipy_stats_is_loaded_by_a_test_and_not_by_the_module() -> None:
    code = "import harness.cli, harness.report.rendering.page, sys; print('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
