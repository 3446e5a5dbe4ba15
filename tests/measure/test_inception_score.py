"""The Inception Score against torch-fidelity and where the number of classes is known."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_isc import isc_features_to_metric

from harness.measure.metrics.inception_score import inception_score

rng = np.random.default_rng(0)


@pytest.mark.parametrize("n", [10, 95])
def test_inception_score_is_torch_fidelitys(n: int) -> None:
    logits = 3 * rng.normal(size=(n, 20)).astype(np.float32)
    theirs = isc_features_to_metric(torch.from_numpy(logits))
    assert inception_score(logits) == pytest.approx(tuple(theirs.values()), rel=1e-12)


def test_inception_score_of_sure_and_even_classes_is_their_number() -> None:
    assert inception_score(np.zeros((40, 7)))[0] == pytest.approx(1)
    assert inception_score(100 * np.eye(4)[np.arange(4000) % 4])[0] == pytest.approx(4, rel=0.01)
