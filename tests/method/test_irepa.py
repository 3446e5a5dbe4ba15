"""iREPA: values and gradients are those of its authors' code, and of a loop in float64."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.places import GOLDEN

from harness.method.rivals.irepa import TokenConvolution, normalize_tokens
from harness.method.terms import AlignmentTerm, StepView


def view(h, features):
    return StepView(None, None, None, None, None, None, features=features, h={1: h})


@pytest.mark.parametrize(("kernel", "alpha"), [(1, 1.0), (3, 0.6)])
def test_the_value_and_all_gradients_are_those_of_the_authors_code(kernel, alpha):
    given = load_file(GOLDEN / f"irepa_k{kernel}_given.safetensors")
    term = AlignmentTerm(TokenConvolution(16, 12, kernel), 1, 1.0, prepare=partial(normalize_tokens, alpha=alpha))
    for name, weight in term.projector.named_parameters():
        weight.data.copy_(given[f"w.projection_layer.{name}"])
    h = given["h"].requires_grad_()
    z, prepared = term.tokens(view(h, given["features"]))
    torch.testing.assert_close(z, given["z"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(prepared, given["features_normalized"], rtol=1e-5, atol=1e-6)
    loss = term(view(h, given["features"]))
    loss.backward()
    torch.testing.assert_close(loss, given["loss"], rtol=1e-5, atol=0)
    torch.testing.assert_close(h.grad, given["grad_h"], rtol=0, atol=1e-6)
    for name, weight in term.projector.named_parameters():
        torch.testing.assert_close(weight.grad, given[f"g.projection_layer.{name}"], rtol=0, atol=1e-6)


def test_the_value_is_that_of_a_loop_in_float64():
    g = torch.Generator().manual_seed(0)
    h, y = (torch.randn(2, 9, width, generator=g, dtype=torch.float64) for width in (4, 3))
    projector = TokenConvolution(4, 3, 3).double()
    term = AlignmentTerm(projector, 1, 1.0, prepare=partial(normalize_tokens, alpha=0.7))
    w, b = (p.detach().numpy() for p in projector.parameters())
    cosines = []
    for n in range(2):
        f = y[n].numpy()
        f = (f - 0.7 * f.mean(0)) / (f.std(0, ddof=1) + 1e-6)
        for row in range(3):
            for column in range(3):
                z = b.copy()
                for i in range(3):
                    for j in range(3):
                        if 0 <= row + i - 1 < 3 and 0 <= column + j - 1 < 3:
                            z += w[:, :, i, j] @ h[n, 3 * (row + i - 1) + column + j - 1].numpy()
                t = 3 * row + column
                cosines.append(z @ f[t] / math.sqrt(z @ z) / math.sqrt(f[t] @ f[t]))
    assert term(view(h, y)).item() == pytest.approx(-np.mean(cosines), rel=1e-10)
