"""SRA 2, of which no code is public: against values made from its formula, and a loop in float64."""

import pytest
import torch
from safetensors.torch import load_file
from support.backbones import build
from support.places import GOLDEN
from support.specs import rival, term_alone

from harness.config.resolve import SettingError
from harness.method.rivals.sra2 import patches
from harness.method.terms import Sizes, StepView, smooth_distance


def test_the_loss_its_gradient_and_its_target_are_those_made_from_the_formula():
    given = load_file(GOLDEN / "sra2_formula_given.safetensors")
    assert torch.equal(patches(given["x"], 2), given["target_token"])
    z = given["z"].requires_grad_()
    value = smooth_distance(z, patches(given["x"], 2))
    torch.testing.assert_close(value.detach(), given["loss_mean"], rtol=1e-5, atol=0)
    value.backward()
    torch.testing.assert_close(z.grad, given["grad_z_of_mean"], atol=1e-6, rtol=0)


def test_the_loss_is_that_of_a_loop_in_float64():
    g = torch.Generator().manual_seed(0)
    x, h = (
        torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=g),
        torch.randn(2, 4, 6, dtype=torch.float64, generator=g),
    )
    term = term_alone(rival("sra2", 12, layers=3), Sizes(6, 12, 4, 4, 3, 8, 7)).initialise(0).double()
    weights = [p.detach().numpy() for p in term.parameters()]
    assert [w.shape for w in weights[::2]] == [(12, 6), (12, 12), (48, 12)]
    values = []
    for n in range(2):
        for row in range(2):
            for column in range(2):
                z = h[n, 2 * row + column]
                for layer in range(3):
                    z = torch.from_numpy(weights[2 * layer]) @ z + torch.from_numpy(weights[2 * layer + 1])
                    z = z / (1 + torch.exp(-z)) if layer < 2 else z  # SiLU
                target = [x[n, c, 4 * row + i, 4 * column + j] for i in range(4) for j in range(4) for c in range(3)]
                for ours, theirs in zip(z.tolist(), target, strict=True):
                    d = abs(ours - float(theirs))
                    values.append(d * d / 0.1 if d < 0.05 else d - 0.025)
    view = StepView(None, None, x, None, None, None, h={2: h})
    assert term(view).item() == pytest.approx(sum(values) / len(values), rel=1e-10)


def test_a_patch_is_that_of_the_networks_head():
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(build()._unpatchify(patches(x, 2)), x)


def test_the_projector_has_the_parameters_that_the_paper_says():
    """At B/2: about 8 million, and 1 million of two layers."""
    for layers, millions in ((5, 8.3), (2, 1.2)):
        term = term_alone(rival("sra2", 12, layers=layers), Sizes(768, 12, 256, 2, 4, 32, 1000))
        assert sum(p.numel() for p in term.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
        assert (term.blocks, term.lambda_) == ((2,), 1.0)


@pytest.mark.parametrize(
    ("written", "words"), [({"layers": 1}, "greater than or equal to 2"), ({"blocks": "all"}, "teaches one block")]
)
def test_what_is_no_such_term_is_refused(written, words):
    with pytest.raises(SettingError, match=words):
        rival("sra2", 12, **written)
