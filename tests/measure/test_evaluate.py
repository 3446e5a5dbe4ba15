"""One call from samples to numbers, and what is refused before a training."""

import json
from pathlib import Path

import numpy as np
import pytest

from harness.data.datasets import ImageDataset
from harness.errors import UserError
from harness.measure.evaluate import check_measurable, measure
from harness.measure.extractors.classifier import RECIPES
from harness.metric_definitions import DEFINITIONS, MEASURED, base

rng = np.random.default_rng(0)


def test_measuring_digits(data: Path, cache: Path, digits: tuple[ImageDataset, ImageDataset]) -> None:
    train, test = digits
    noise = rng.integers(0, 256, (200, 1, 8, 8), np.uint8)
    real, unreal = (measure(x, "digits", "train", "classifier", data, cache) for x in (test.images, noise))
    told = {*map(base, real["metrics"]), *real["unavailable"]}
    assert told == {*MEASURED, "kid_std"}
    assert set(real["unavailable"]) == {"sfid", "inception_score", "fid_infinity", "class_fid", "class_diversity"}
    for name in ("fid", "kid", "cmmd:classifier", "precision", "recall", "density", "coverage", "vendi"):
        lower = DEFINITIONS[base(name)].direction == "lower"
        assert (real["metrics"][name] < unreal["metrics"][name]) == lower, name
    assert real["metrics"]["fid"] < 1
    assert real["metrics"]["precision"] > 0.8
    protocol = json.loads(json.dumps(real))["protocol"]
    assert protocol["reference"] == "digits/train"
    assert protocol["reference_content"] == train.content[:12]
    assert (protocol["generated"], protocol["reference_count"], protocol["kid_subset_size"]) == (355, 1442, 177)
    record = json.loads(next(cache.glob("classifier-digits-*.json")).read_text())
    assert record["accuracy"] >= 0.97
    assert protocol["features_note"] == f"digits classifier, {100 * record['accuracy']:.1f}% test accuracy"
    assert protocol["features"].endswith(record["weights"][:12])
    with pytest.raises(UserError, match=r"samples of shape \(1, 9, 9\) cannot be measured on digits"):
        measure(np.zeros((9, 1, 9, 9), np.uint8), "digits", "train", "classifier", data, cache)


def test_what_could_not_be_measured_is_refused_before_the_training(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_measurable("digits", "train", "classifier", data)
    monkeypatch.delitem(RECIPES, "digits")
    with pytest.raises(UserError, match="features 'classifier': no recipe for data set digits; legal: fashion-mnist"):
        check_measurable("digits", "train", "classifier", data)
    with pytest.raises(UserError, match=r"no weights at .*run: harness data get inception-v3-compat"):
        check_measurable("digits", "train", "inception-v3-compat", data)
    with pytest.raises(UserError, match="no split 'validation'; legal: train, test"):
        check_measurable("digits", "validation", "classifier", data)
