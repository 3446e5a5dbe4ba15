"""Intervals of one model's metrics: where the truth is known they hold it as often as they say."""

from collections import defaultdict

import numpy as np
import pytest
from scipy import stats
from support.feature_metrics import cmmd, fid, reference_of

from harness.errors import UserError
from harness.measure.extractors.extractor import Features
from harness.measure.jackknife import GROUPS, STUDENT, check_groups, intervals, jackknife_error, replicates
from harness.measure.metrics.diversity import inception_score, vendi
from harness.measure.metrics.frechet import frechet_distance, statistics
from harness.measure.metrics.kernel import kid
from harness.measure.metrics.neighbours import across, manifold, memorised
from harness.measure.reference import Reference

N, M, D = 200, 300, 8
METRICS = {
    "fid", "kid", "inception_score", "vendi", "cmmd", "precision", "recall", "density", "coverage", "memorisation",
}  # fmt: skip


def reference(generator: np.random.Generator) -> Reference:
    real = generator.normal(size=(M, D)).astype(np.float32)
    return reference_of(real)


def samples(generator: np.random.Generator) -> Features:
    """Return samples of a model that is a little off, with logits."""
    x = np.maximum(0.15 + 1.1 * generator.normal(size=(N, D)), -0.5).astype(np.float32)
    return Features(x, logits=2 * x[:, :5])


def metrics_of(generated: Features, real: Reference) -> dict[str, float]:
    x, y = generated.pool, real.manifold
    assert y is not None
    assert generated.logits is not None
    found = across(manifold(x), y)
    (kernel, kernel_spread), (score, score_spread) = kid(x, y.features), inception_score(generated.logits)
    return found.shares | {
        "fid": frechet_distance(statistics(x), real.pool), "kid": kernel, "kid_std": kernel_spread,
        "inception_score": score, "inception_score_std": score_spread, "vendi": vendi(x), "cmmd": cmmd(x, y.features),
        "memorisation": float(memorised(found.nearest, y).mean()), "sfid": 1.0,
    }  # fmt: skip


def covered(studies: int) -> dict[str, float]:
    """Return how often each metric's interval holds its mean over the sets of as many samples."""
    generator = np.random.default_rng(0)
    real, values, found = reference(generator), defaultdict(list), defaultdict(list)
    for _ in range(studies):
        generated = samples(generator)
        metrics = metrics_of(generated, real)
        made = intervals({"metrics": metrics}, generated, real)
        assert made["unavailable"] == {"sfid": "of the spatial features sums alone are kept"}
        for name, interval in made["found"].items():
            values[name].append(metrics[name])
            found[name].append(interval)
    return {
        name: float(np.mean([low <= np.mean(values[name]) <= high for low, high in ends]))
        for name, ends in found.items()
    }


def test_intervals_hold_the_mean_of_other_samples_as_often_as_they_say() -> None:
    """Of 20 studies a coverage has a standard error of 5%: this shows what is broken, the slow test how good it is."""
    found = covered(20)
    assert set(found) == METRICS
    assert all(share >= 0.85 for share in found.values()), found


@pytest.mark.slow
@pytest.mark.long
def test_coverage_of_intervals() -> None:
    """Sums over samples are covered as often as is said; what is not one, at least as often."""
    found = covered(400)
    wide = {name: found.pop(name) for name in ("recall", "coverage", "vendi", "density")}
    assert all(0.92 <= share <= 0.98 for share in found.values()), found
    assert all(share >= 0.94 for share in wide.values()), wide


def test_replicates_are_the_metrics_without_a_group() -> None:
    generator = np.random.default_rng(2)
    real, generated = reference(generator), samples(generator)
    again = replicates(generated, real)
    order = np.random.RandomState(2021).permutation(N)
    for g in (0, GROUPS - 1):
        left = np.delete(generated.pool, order[g * N // GROUPS : (g + 1) * N // GROUPS], axis=0)
        assert again["fid"][g] == pytest.approx(fid(left, real.manifold.features), rel=1e-9)
        assert again["vendi"][g] == pytest.approx(vendi(left))


def test_the_error_of_a_mean_is_the_textbook_s_where_every_sample_is_a_group() -> None:
    x = np.random.default_rng(3).normal(size=GROUPS)
    without = (x.sum() - x) / (GROUPS - 1)
    assert jackknife_error(without) == pytest.approx(stats.sem(x))
    assert pytest.approx(stats.t.ppf(0.975, GROUPS - 1)) == STUDENT


def test_what_has_no_interval_says_why() -> None:
    generator = np.random.default_rng(4)
    real, generated = reference(generator), samples(generator)
    made = intervals({"metrics": {"precision": 0.99, "recall": 0.99, "fid": 1.0}}, generated, real)
    assert list(made["unavailable"]) == ["precision", "recall"]
    assert "fewer than 10 images are behind this share" in made["unavailable"]["recall"]
    assert list(made["found"]) == ["fid"]
    with pytest.raises(UserError, match="39 samples; 20 groups need at least 40"):
        check_groups(39)
