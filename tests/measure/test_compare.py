"""Features of which no number can be made are refused in one line."""

import numpy as np
import pytest
import torch
from support.feature_metrics import correlated, reference_of

from harness.errors import UserError
from harness.measure.compare import Measured, check_features, compare
from harness.measure.extractors.extractor import Extractor, Features
from harness.measure.extractors.inception import Outputs
from harness.metric_definitions import MEASURED, METRICS, Metric


def test_what_cannot_be_measured_is_refused_in_one_line() -> None:
    x = correlated(10, 3)
    broken = x.copy()
    broken[[2, 5], 1] = np.nan
    real = reference_of(x)
    extractor = Extractor("none", "", Outputs, torch.device("cpu"))
    for refused in (
        lambda: check_features(broken, "generated", 4),
        lambda: compare(Measured(Features(broken), real, extractor)),
        lambda: compare(Measured(Features(x, logits=broken), real, extractor)),
    ):
        with pytest.raises(UserError, match="generated features are not finite in 2 of 10 rows"):
            refused()
    with pytest.raises(UserError, match="1 reference samples; this metric needs at least 4: name a --reference"):
        check_features(x[:1], "reference", 4)
    with pytest.raises(UserError, match="9 generated samples; this metric needs at least 10"):
        compare(Measured(Features(x, logits=x[:9]), real, extractor))


def test_a_number_that_is_not_finite_is_missing_and_says_so() -> None:
    x = correlated(40, 3) * np.float32(1e30)  # whose squares and cubes are beyond any number
    real = reference_of(x)
    with np.errstate(over="ignore"):
        result = compare(Measured(Features(x), real, Extractor("none", "", Outputs, torch.device("cpu"))))
    assert result["unavailable"]["kid_std"] == "it came out as inf"
    assert all(np.isfinite(value) for value in result["metrics"].values())


def test_every_metric_is_what_its_entry_in_the_registry_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    x = correlated(40, 3)
    seen: list[Measured] = []

    def both(measured: Measured) -> tuple[dict[str, float], dict[str, float]]:
        seen.append(measured)
        return {"kid": 7.0, "kid_std": 0.5}, {"kid_of": 3.0}

    definition = METRICS["kid"].definition
    monkeypatch.setitem(METRICS.built_in, "kid", Metric(definition, both))
    monkeypatch.setitem(METRICS.built_in, "mine", Metric(definition, lambda measured: "not today"))
    measured = Measured(Features(x), reference_of(x), Extractor("none", "", Outputs, torch.device("cpu")))
    result = compare(measured, ["mine"])
    assert ([*seen], result["metrics"]["kid"], result["metrics"]["kid_std"]) == ([measured], 7.0, 0.5)
    assert (result["details"]["kid_of"], result["unavailable"]["mine"]) == (3.0, "not today")
    assert result["metrics"].keys() | result["unavailable"].keys() >= {*MEASURED} - {"cmmd"}
