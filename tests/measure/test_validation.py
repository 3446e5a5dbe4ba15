"""Features of which no number can be made are refused in one line."""

import numpy as np
import pytest
from support.feature_metrics import correlated

from harness.errors import UserError
from harness.measure.metrics.kernel import kid
from harness.measure.metrics.validation import check_features


def test_what_cannot_be_measured_is_refused_in_one_line() -> None:
    x = correlated(10, 3)
    broken = x.copy()
    broken[[2, 5], 1] = np.nan
    for metric in (kid, lambda x, y: check_features(4, generated=x, reference=y)):
        with pytest.raises(UserError, match="generated features are not finite in 2 of 10 rows"):
            metric(broken, x)
        with pytest.raises(UserError, match="1 reference samples; this metric needs at least"):
            metric(x, x[:1])
