"""What a single setting may be, and that each constant of a loss is hashed."""

from typing import get_args

import pytest
from pydantic import ValidationError

from harness.config.grid_file import Scale
from harness.config.settings.data_settings import EvaluationSettings
from harness.config.settings.loss_settings import CONSTANTS, CONTRASTIVE_CONSTANTS, LossName, RegularizerSettings
from harness.config.settings.resources import Resources
from harness.config.settings.run_settings import Optimizer


@pytest.mark.parametrize(
    "words", [0, -1, 2.5, True, None, "quarter", "0/12", "3/0", "1.5", [], [3, 0], [[3]], {"k": 3}]
)
def test_a_wrong_block_is_one_mistake_with_its_own_words(words):
    with pytest.raises(ValidationError) as error:
        RegularizerSettings(blocks=words)
    assert [mistake["loc"] for mistake in error.value.errors()] == [("blocks",)]
    assert "k/n (that share of the depth), last, all" in str(error.value)


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        (Optimizer, "learning_rate", True),
        (Optimizer, "beta1", False),
        (Optimizer, "weight_decay", float("inf")),
        (Optimizer, "learning_rate", float("nan")),
        (Resources, "cpus", True),
        (Resources, "hours", float("inf")),
        (EvaluationSettings, "samples", True),
        (EvaluationSettings, "samples", 3),
    ],
)
def test_what_is_no_usable_number_is_refused(model, field, value):
    with pytest.raises(ValidationError, match=field):
        model(**{field: value})


@pytest.mark.parametrize("seeds", [[], [True], [0, 0], [0.0], [-1], "0", [[0]], [10**20]])
def test_seeds_are_different_whole_numbers(seeds):
    rest = {"scale": "s", "title": "t", "ladder": {}, "patches": {}, "steps_per_epoch": 1}
    assert Scale(**rest, seeds=[2, 0]).seeds == (2, 0)
    with pytest.raises(ValidationError, match="different whole numbers"):
        Scale(**rest, seeds=seeds)


def test_every_constant_has_a_loss_that_owns_it():
    """One without would be left out of every identity, and runs that differ in it would be taken for one."""
    of_every_loss = {"loss", "kind", "lambda_", "blocks", "group", "noise", "gap", "stop", "warm_up"}
    owned = {name for names in (*CONSTANTS.values(), *CONTRASTIVE_CONSTANTS.values()) for name in names}
    assert owned == RegularizerSettings.model_fields.keys() - of_every_loss
    assert CONSTANTS.keys() == set(get_args(LossName))
