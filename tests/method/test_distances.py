"""Distances by a Gram matrix: few kernels on a GPU, and the same numbers as by stretches on a CPU."""

from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.method import distances
from harness.method.losses import Potential, disperse

# Neither reads nor writes numbers.
FREE = {"view", "_unsafe_view", "expand", "transpose", "unsqueeze", "select", "slice", "split", "detach", "alias"}
FREE |= {"permute", "t", "diagonal", "new_empty", "empty_like", "promote_types"}


class CountedKernels(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if (name := function.overloadpacket.__name__) not in FREE:
            self.names.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("width", "group"), [(768, 16), (1152, 16), (768, 128)])
def test_the_loss_of_a_block_is_thirty_kernels_forward_and_backward(monkeypatch, width, group):
    """For 256 images of 256 tokens in bf16, as on a GPU; by stretches there were 225 at B/2, and 321 at XL/2."""
    monkeypatch.setattr("torch.autocast", lambda *_, **__: nullcontext())  # there is none on "meta"
    h = torch.empty(256, 256, width, device="meta", dtype=torch.bfloat16, requires_grad=True)
    with CountedKernels() as counted:
        disperse(h, Potential("infonce-l2"), group).backward()
    assert {"sub", "bmm", "logsumexp", "threshold_backward"} <= set(counted.names)
    assert len(counted.names) <= 30


@pytest.mark.parametrize("features", [100, distances.STRETCH, 3 * distances.STRETCH, 3 * distances.STRETCH + 77])
def test_all_stretches_at_once_give_the_bits_of_one_after_the_other(features):
    a, b = torch.randn(2, 3, 16, features, generator=torch.Generator().manual_seed(0))
    offset = a[:, :8].mean(1, keepdim=True)
    once = distances._product_at_once(a, offset=offset)
    assert torch.equal(once, distances._centred_product(a, offset))
    torch.testing.assert_close(once.double(), (a - offset).double() @ (a - offset).double().mT, rtol=1e-5, atol=1e-3)
    assert torch.equal(distances._product_at_once(a, b), distances.gram(a, b))


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
