"""One potential of each loss of Table 1, for tests of what holds for all."""

import pytest

from harness.method.losses import Potential

POTENTIALS = [
    Potential("infonce-l2", tau=0.7),
    Potential("infonce-cosine", tau=0.3),
    Potential("hinge", epsilon=1.4),
    Potential("covariance", offdiagonal=0.3),
    Potential("covariance", offdiagonal=2.0, normalization="centered"),
]
each = pytest.mark.parametrize("potential", POTENTIALS, ids=lambda p: f"{p.loss}-{p.normalization}")
