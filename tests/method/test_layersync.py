"""LayerSync against its authors' code and a loop in float64."""

import math

import pytest
import torch
from safetensors.torch import load_file
from support.backbones import with_weights
from support.places import GOLDEN
from support.specs import rival, term_alone

from harness.config.resolve import SettingError
from harness.method.backbone import DiT
from harness.method.objective import Objective
from harness.method.processes import flow
from harness.method.rivals.layersync import LayerSync
from harness.method.terms import Draws, Sizes, StepView

GIVEN = load_file(GOLDEN / "layersync_given.safetensors")


def layersync(blocks: int, reference: int, depth: int = 5) -> LayerSync:
    return term_alone(rival("layersync", depth, blocks=blocks, reference=reference), Sizes(16, depth, 16, 2, 4, 8, 7))


def view_of(h: dict[int, torch.Tensor]) -> StepView:
    return StepView(None, None, None, None, None, None, h=h)


def test_the_loss_and_its_gradient_are_those_of_its_authors_code():
    h = {2: GIVEN["loss/h_k"].requires_grad_(), 3: GIVEN["loss/h_ref"].requires_grad_()}
    value = layersync(2, 3)(view_of(h))
    torch.testing.assert_close(value.detach(), GIVEN["loss/reg"], rtol=1e-5, atol=0)
    (0.2 * value).backward()
    torch.testing.assert_close(h[2].grad, GIVEN["loss/grad_h_k_of_0p2_reg"], atol=1e-6, rtol=0)
    assert h[3].grad is None


def test_a_whole_training_loss_and_all_its_gradients_are_those_of_its_authors_code():
    net = with_weights(DiT(8, 2, 4, 16, 5, 2, num_classes=7), GIVEN, "sit/w.")
    term = layersync(2, 3)
    assert term.lambda_ == 0.2
    draws = Draws(GIVEN["sit/t"], GIVEN["sit/noise"], torch.zeros(3, dtype=torch.bool), 0)
    losses = Objective(net, flow, [term], 7)(GIVEN["sit/x"], GIVEN["sit/y"], draws)
    torch.testing.assert_close(losses["denoising"], GIVEN["sit/denoising_per_sample"].mean(), rtol=1e-5, atol=0)
    torch.testing.assert_close(losses[term.name], GIVEN["sit/reg_per_token"].mean(), rtol=1e-5, atol=0)
    torch.testing.assert_close(losses["loss"].detach(), GIVEN["sit/total"], rtol=1e-5, atol=0)
    losses["loss"].backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, GIVEN[f"sit/g.{name}"], atol=1e-6, rtol=0)


def test_the_loss_is_that_of_a_loop_in_float64():
    h, reference = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cosines = []
    for a, b in zip(h.flatten(0, 1).tolist(), reference.flatten(0, 1).tolist(), strict=True):
        product = sum(x * y for x, y in zip(a, b, strict=True))
        cosines.append(product / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b)))
    assert layersync(1, 4)(view_of({1: h, 4: reference})).item() == pytest.approx(-sum(cosines) / 12, rel=1e-10)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"blocks": 8, "reference": 8}, r"a block deeper than 8 is expected, which blocks taps"),
        ({"blocks": "8/12", "reference": "2/3"}, r"a block deeper than 8 is expected, which blocks taps"),
        ({"blocks": 9}, r"reference: a block deeper than 9 is expected, which blocks taps"),
        ({"blocks": "all"}, r"this term teaches one block"),
        ({"blocks": [2, 3]}, r"this term teaches one block"),
        ({"group": 4}, r"this term compares no samples"),
    ],
)
def test_what_is_no_such_term_is_refused(written, words):
    with pytest.raises(SettingError, match=words):
        rival("layersync", 12, **written)


def test_the_defaults_are_our_reading_for_twelve_blocks():
    term = rival("layersync", 12)
    assert (term.blocks, term.model_extra["reference"], term.lambda_) == ((4,), 8, 0.2)
