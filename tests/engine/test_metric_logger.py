"""The log: a line is the mean of its steps."""

import math

import pytest
import torch

from harness.engine.metric_logger import MetricAverager
from harness.errors import Diverged
from harness.method.losses import Potential
from harness.method.terms import DispersiveTerm


def test_a_line_of_the_log_is_the_mean_of_its_steps():
    term = DispersiveTerm(Potential("hinge", epsilon=2.0), 0.5, (1,), group=8)  # its floor is ε²/N
    averager = MetricAverager([term])
    for loss, regularizer in ((1.0, -1.0), (2.0, -0.5), (6.0, 0.0)):
        averager.add({"loss": torch.tensor(loss), "regularizer": torch.tensor(regularizer)})
    line = averager.line(30, 8, 0.25)
    assert line.pop("images_per_second") > 0
    assert line == {"step": 30, "loss": 3.0, "regularizer": -0.5, "above_floor": -1.0, "gradient_norm": 0.25}
    with pytest.raises(Diverged, match="gradient_norm not finite between steps 28 and 30"):
        averager.line(30, 8, math.inf)
    averager.add({"loss": torch.tensor(math.nan), "regularizer": torch.tensor(0.0)})
    with pytest.raises(Diverged, match=r"^loss not finite between steps 28 and 31"):
        averager.line(31, 8, 0.25)
