"""DiverseDiT's loss: its equations as they were worked out elsewhere, and a loop in float64."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.places import GOLDEN
from support.specs import make_spec, rival
from support.trainings import make_dataset, make_trainer

from harness.config.resolve import SettingError
from harness.config.settings.term_settings import TERMS
from harness.config.spec import Model
from harness.method.rivals.diversedit import DiverseDiT
from harness.method.terms import Draws, Sizes, StepView


def diversedit(depth: int, **written) -> DiverseDiT:
    term = rival("diversedit", depth, **written)
    settings = TERMS["diversedit"].Settings.model_validate(term.model_dump(by_alias=True, exclude={"name"}))
    return TERMS["diversedit"]("ours", settings, Sizes(16, depth, 16, 2, 4, 8, 7)).initialise(3)


def view_of(blocks, step=0) -> StepView:
    draws = Draws(torch.zeros(1), torch.zeros(1), torch.zeros(1), step)
    return StepView(None, None, None, None, None, draws, h=dict(enumerate(blocks, start=1)))


def test_the_parts_the_weight_and_the_gradients_are_those_of_the_equations():
    given = load_file(GOLDEN / "diversedit_given.safetensors")
    blocks = [given[f"block.{k}"].requires_grad_() for k in range(4)]
    value, health = diversedit(4, group=3).examine(view_of(blocks))
    names = {"orthogonality": "orth", "mutual_information": "mi", "dispersion": "disp", "weight": "weight"}
    for ours, theirs in names.items():
        torch.testing.assert_close(health[ours].detach(), given[theirs], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(value.detach(), given["weight"] * given["div"], rtol=1e-5, atol=0)
    value.backward()
    for k, block in enumerate(blocks):
        torch.testing.assert_close(block.grad, given[f"grad.{k}"], atol=1e-6, rtol=0)


def loop(blocks, share, low, high):
    """The loss of one group: blocks (K, N T, D)."""
    pairs, cosines = list(combinations(range(len(blocks)), 2)), {"means": [], "tokens": []}
    for k, other in pairs:
        both = [*zip(blocks[k], blocks[other], strict=True)]
        for name, vectors in (("means", [(blocks[k].mean(0), blocks[other].mean(0))]), ("tokens", both)):
            cosines[name] += [a @ b / math.sqrt((a @ a) * (b @ b)) for a, b in vectors]
    channels = []
    for d in range(blocks[0].shape[1]):
        columns = [h[:, d] / math.sqrt(h[:, d] @ h[:, d]) for h in blocks]
        channels.append(sum(column.sum() / len(column) for column in columns) / len(blocks))
    relative = [a / max(channels) for a in channels]
    mean = sum(relative) / len(relative)
    variance = sum((a - mean) ** 2 for a in relative) / len(relative)
    value = share * (np.mean(cosines["means"]) + np.mean(cosines["tokens"]) - variance)
    return value * (1 if value > high else max(0, (value - low) / high))


@pytest.mark.parametrize("likeness", [0.0, 0.6, 3.0])  # no weight, some, all
def test_the_loss_is_that_of_a_loop_in_float64(likeness):
    g = torch.Generator().manual_seed(1)
    common, own = (torch.randn(shape, dtype=torch.float64, generator=g) for shape in ((8, 2, 5), (3, 8, 2, 5)))
    blocks = own + likeness * common
    groups = [blocks[:, start : start + 4].flatten(1, 2).numpy() for start in (0, 4)]
    expected = np.mean([loop(group, 0.33, 0.1, 0.5) for group in groups])
    assert diversedit(3)(view_of(blocks)).item() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert (expected > 0) == (likeness > 0)


def test_each_step_draws_its_blocks():
    term = diversedit(12)
    drawn = [term._drawn(step) for step in range(20)]
    assert all(len(set(blocks)) == 10 for blocks in drawn)
    assert set().union(*drawn) == set(range(1, 13))
    assert drawn == [diversedit(12)._drawn(step) for step in range(20)]
    assert len({tuple(blocks) for blocks in drawn}) > 10


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"blocks": 3}, "this term compares blocks: two or more"),
        ({"blocks": ["1/4", 3]}, "this term compares blocks: two or more"),
        ({"low": 0.6}, "low is 0.6, and must be below high, 0.5"),
        ({"group": None}, "a valid integer, found None"),
    ],
)
def test_what_is_no_such_term_is_refused(written, words):
    with pytest.raises(SettingError, match=words):
        rival("diversedit", 12, **written)


def test_where_its_weight_is_0_it_rests_and_the_run_goes_on():
    model = Model(depth=4, width=16, heads=2, patch=4, residuals="long")
    spec = make_spec("flow", model=model, terms=(rival("diversedit", 4, low=5.0, high=6.0),))
    trainer = make_trainer(spec, make_dataset())
    trainer.step(0, look=True)
    line = trainer.health.line()
    assert (line["term-diversedit.weight"], line["term-diversedit.gradient_share"]) == (0, 0)
