"""Distances by a Gram matrix: the same numbers at once, as on a GPU, and by stretches, as on a CPU."""

import pytest
import torch

from harness.method import distances


@pytest.mark.parametrize("features", [100, distances.STRETCH, 3 * distances.STRETCH, 3 * distances.STRETCH + 77])
def test_all_stretches_at_once_give_the_bits_of_one_after_the_other(features):
    a, b = torch.randn(2, 3, 16, features, generator=torch.Generator().manual_seed(0))
    offset = a[:, :8].mean(1, keepdim=True)
    once = distances.product_at_once(a, offset=offset)
    assert torch.equal(once, distances.centred_product(a, offset))
    torch.testing.assert_close(once.double(), (a - offset).double() @ (a - offset).double().mT, rtol=1e-5, atol=1e-3)
    assert torch.equal(distances.product_at_once(a, b), distances.gram(a, b))


def test_gradient_is_that_of_the_formula_where_rows_coincide_too():
    """Against ‖z_i − z_j‖² written out in float64, each pair with a weight of its own."""
    g = torch.Generator().manual_seed(0)
    z, weights = torch.randn(2, 6, 50, generator=g), torch.randn(2, 6, 6, generator=g)
    z[:, 1] = z[:, 0]
    ours, exact = z.clone().requires_grad_(), z.double().requires_grad_()
    square = distances.squared_distances(ours)
    expected = (exact[:, :, None] - exact[:, None]).square().sum(-1)
    torch.testing.assert_close(square.double(), expected, rtol=1e-5, atol=1e-5)
    (square * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=1e-4, atol=1e-4)
