"""Representations and how they go with FID."""

import math

import numpy as np
import pytest
from support.probed_study import probed_study

from harness.files import write_json
from harness.report.analysis.representations import baseline_and_default, probed_arms
from harness.report.analysis.statistics import spearman_interval


@pytest.mark.parametrize("rho", [0.0, 0.6, -0.9])
def test_the_interval_covers_the_truth_as_often_as_it_says(rho):
    """Of a normal pair of correlation ρ, Spearman's is 6/π asin(ρ/2)."""
    rng, truth, n = np.random.default_rng(1), 6 / math.pi * math.asin(rho / 2), 28
    covered = 0
    for _ in range(600):
        x, noise = rng.normal(size=(2, n))
        ranks = [np.argsort(np.argsort(v)) for v in (x, rho * x + math.sqrt(1 - rho**2) * noise)]
        interval = spearman_interval(float(np.corrcoef(*ranks)[0, 1]), n)
        covered += interval.low <= truth <= interval.high
    assert 0.92 < covered / 600 < 0.98


def test_arms_are_runs_that_differ_in_the_regulariser_alone(tmp_path):
    store, pivots = probed_study(tmp_path, lambda fid: fid)
    arms = probed_arms(store, pivots)
    trainings = {run.train.model_copy(update={"seed": 0}) for p in pivots for c in p.cells for run in c.source.runs}
    assert len(arms) == len(trainings)  # the runs that both tables share are one arm
    plain, dispersive = baseline_and_default(arms)
    assert plain.cell.settings.regularizer.loss == "none"
    assert (dispersive.name, dispersive.tables) == ("InfoNCE, ℓ2 · dispersive", 2)
    assert plain.mean("norm") == pytest.approx(3.0)  # blocks 1 and 2 of 2 · block
    other = pivots[1].cells[0].source.runs[0]
    write_json(store.probe_path(other.train_id, other.evaluation.step), {"levels": []})
    assert len(probed_arms(store, pivots)[0].seeds) == 1  # what cannot be read is left out
