"""Losses for a GPU: few kernels, counted without one, and the values and gradients of the losses of Table 1."""

from contextlib import nullcontext

import pytest
import torch
from support.potentials import each
from torch.utils._python_dispatch import TorchDispatchMode

from harness.method.losses import TABLE_1, contrast, disperse

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


@each
@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize(("width", "group"), [(768, 16), (1152, 16), (768, 128)])
def test_a_loss_is_thirty_kernels_forward_and_backward(monkeypatch, potential, two, width, group):
    """For 256 images of 256 tokens in bf16, as on a GPU; standardising two views takes eleven more."""
    monkeypatch.setattr("torch.autocast", lambda *_, **__: nullcontext())  # there is none on "meta"
    blocks = [
        torch.empty(256, 256, width, device="meta", dtype=torch.bfloat16).requires_grad_() for _ in range(1 + two)
    ]
    loss = contrast if two else disperse
    with CountedKernels() as counted:
        value = loss(*blocks, potential, group)
        torch.autograd.grad(value, blocks)
    assert {"sub", "bmm", "mul"} <= set(counted.names)
    most = 41 if two and potential.normalization == "standardized" and potential.loss == "covariance" else 30
    assert len(counted.names) <= most


def groups(dtype: torch.dtype, features: int, mean: float = 0) -> torch.Tensor:
    """Two views of three groups of seven; some rows coincide, in a view and across, and one feature is constant."""
    z = torch.randn(2, 3, 7, features, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + mean
    z[:, 0, 1], z[1, 1, 2] = z[:, 0, 0], z[0, 1, 3]
    z[:, 2, :, 0] = 3.0
    return z.to(dtype)


def value_and_gradient(loss, z, two):
    z = z.clone().requires_grad_()
    value = loss(z[0], z[1] if two else None)
    return value, torch.autograd.grad(value, z)[0]


def by_autograd(potential):
    """The losses as they are on a CPU."""

    def loss(z, z_plus):
        views = [view.flatten(0, 1) for view in (z, z_plus) if view is not None]
        return (disperse if z_plus is None else contrast)(*views, potential, group=7)

    return loss


@each
@pytest.mark.parametrize("two", [False, True])
def test_values_and_gradients_are_those_of_table_1(potential, two):
    """In float64; in float32, under a mean that all rows share, no further from them than automatic differentiation."""

    def fused(z, z_plus):
        return TABLE_1[potential.loss].fused(z, z_plus, potential)

    z = groups(torch.float64, 5)
    for computed, exact in zip(
        value_and_gradient(fused, z, two), value_and_gradient(by_autograd(potential), z, two), strict=True
    ):
        torch.testing.assert_close(computed, exact, rtol=1e-12, atol=1e-13)
    z = groups(torch.float32, 2000, mean=100)
    exact, plain, ours = (
        value_and_gradient(loss, view, two)[1].double()
        for loss, view in ((by_autograd(potential), z.double()), (by_autograd(potential), z), (fused, z))
    )
    assert (ours - exact).norm() <= 2 * (plain - exact).norm() + 1e-6 * exact.norm()


@each
@pytest.mark.parametrize("two", [False, True])
def test_half_precision_comes_in_and_goes_back(potential, two):
    z = groups(torch.bfloat16, 16)
    value, gradient = value_and_gradient(lambda a, b: TABLE_1[potential.loss].fused(a, b, potential), z, two)
    exact, of_exact = value_and_gradient(by_autograd(potential), z.double(), two)
    assert (value.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), of_exact, rtol=1e-2, atol=1e-3 * float(of_exact.abs().max()))
