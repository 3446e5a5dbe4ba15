"""A second phase after SoftREPA against its authors' loss, a double loop in float64, and the frozen network itself."""

import math

import pytest
import torch
from safetensors.torch import load_file
from support.backbones import batch, moved, with_weights
from support.places import GOLDEN
from support.specs import make_spec, second_phase
from support.trainings import stir
from torch import Tensor

from harness.config.spec import Model
from harness.method.backbone import DiT
from harness.method.processes import flow
from harness.method.rivals.softrepa import SoftTokenObjective, contrast, errors_of
from harness.method.soft_tokens import SoftTokens
from harness.method.terms import Draws
from harness.networks.build import build_objective

GIVEN = load_file(GOLDEN / "softrepa_given.safetensors")


def published(errors: Tensor) -> Tensor:
    """Logits of the authors' code, which vanish at errors of velocities."""
    return 4 * torch.exp(-errors / 0.07)


@pytest.mark.parametrize("weight", [0, 10])
def test_the_loss_and_its_gradient_are_those_of_its_authors_code(weight):
    errors = GIVEN["loss/errors"].clone().requires_grad_()
    value = contrast(published(errors)[None], torch.arange(4)[None]) + weight * errors.diagonal().mean()
    torch.testing.assert_close(value.detach(), GIVEN[f"loss/loss_dweight{weight}"], rtol=1e-5, atol=0)
    value.backward()
    torch.testing.assert_close(errors.grad, GIVEN[f"loss/grad_errors_dweight{weight}"], atol=1e-6, rtol=0)


def test_errors_are_paired_as_in_its_authors_code():
    net = with_weights(DiT(8, 2, 4, 16, 4, 2, num_classes=7), GIVEN, "sit/w.")
    x, y, t, noise = (GIVEN[f"sit/{name}"] for name in ("x", "y", "t", "noise"))
    errors = errors_of(net, flow, x[None], y[None], t, noise)
    torch.testing.assert_close(errors[0].detach(), GIVEN["sit/errors"], rtol=1e-5, atol=0)
    value = contrast(published(errors), torch.arange(4)[None])  # its labels are not compared there
    torch.testing.assert_close(value.detach(), GIVEN["sit/loss"], rtol=1e-5, atol=0)
    value.backward()
    table = net.y_embedder["embedding_table"].weight.grad
    torch.testing.assert_close(table, GIVEN["sit/grad_label_table"], atol=1e-6, rtol=0)


def with_tokens() -> DiT:
    """Return a network whose every block acts, with soft tokens before the first two of three."""
    net = moved(DiT(8, 2, 4, 48, 3, 3, num_classes=10))
    net.soft_tokens = SoftTokens(10, 48, 2, 4)
    stir(net.soft_tokens)
    return net.double()


def test_the_loss_is_that_of_a_double_loop_in_float64():
    """Two groups of four images, of which two have the same class, each with the time and noise of its first."""
    net, temperature, weight = with_tokens(), 0.2, 0.3
    x, y = batch()[0].double(), torch.tensor([3, 1, 3, 0, 5, 6, 7, 8])
    g = torch.Generator().manual_seed(0)
    draws = Draws(torch.rand(8, generator=g).double(), torch.randn(x.shape, generator=g).double(), y > 4, 0)
    ours = SoftTokenObjective(net, flow, 10, 4, temperature, weight)(x, y, draws)
    losses, own, other = [], [], []
    for start in (0, 4):
        t, noise = draws.t[start : start + 1], draws.noise[start : start + 1]
        errors = [
            [float(flow.loss(net, x[i : i + 1], y[j : j + 1], t, noise)[0].detach()) for j in range(start, start + 4)]
            for i in range(start, start + 4)
        ]
        tau = temperature * sum(map(sum, errors)) / 16
        for i, row in enumerate(errors):
            allowed = [j for j in range(4) if j == i or y[start + j] != y[start + i]]
            losses.append(row[i] / tau + math.log(sum(math.exp(-row[j] / tau) for j in allowed)))
            own.append(row[i])
            others = [row[j] for j in allowed if j != i]
            other.append(sum(others) / len(others))
    mean = sum(own) / 8
    assert float(ours["contrast"]) == pytest.approx(sum(losses) / 8, rel=1e-10)
    assert float(ours["loss"].detach()) == pytest.approx(sum(losses) / 8 + weight * mean, rel=1e-10)
    assert float(ours["denoising"]) == pytest.approx(mean, rel=1e-10)
    assert float(ours["mismatched"]) == pytest.approx(sum(other) / 8, rel=1e-10)


def test_the_gradient_reaches_the_soft_tokens_and_nothing_else():
    """At velocities' errors, where the published temperature has none; also through a block that has no tokens."""
    spec = second_phase(make_spec(model=Model(depth=4, width=16, heads=2, patch=4)), blocks=3)
    objective = build_objective(spec)
    stir(objective.net)
    assert [p for p in objective.net.parameters() if p.requires_grad] == list(objective.net.soft_tokens.parameters())
    for parameter in objective.net.parameters():
        if not parameter.requires_grad:
            parameter.data.normal_(std=0.15, generator=torch.Generator().manual_seed(parameter.numel()))
    x, t = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((8,), 0.305)
    y = torch.tensor([0, 1, 2, 1, 4, 4, 0, 2])
    draws = Draws(t, torch.flip(x, (0,)), torch.zeros(8, dtype=torch.bool), 0)
    objective(x, y, draws)["loss"].backward()
    touched = {name for name, p in objective.named_parameters() if p.grad is not None}
    assert touched == {"net.soft_tokens.of_class", "net.soft_tokens.of_time"}
    of_class, of_time = (p.grad.abs().sum((2, 3)) > 0 for p in objective.net.soft_tokens.parameters())
    assert of_class.tolist() == [[c in (0, 1, 2, 4) for c in range(10)]] * 3
    assert of_time.tolist() == [[bucket == 30 for bucket in range(100)]] * 3


def test_the_null_label_has_no_tokens_and_others_have_their_own():
    """Mixed into one batch, as guidance has them, an unlabelled image is the frozen network's own."""
    net, (x, y) = with_tokens(), batch()
    x, t, null = x.double(), torch.linspace(0, 1, 8, dtype=torch.float64), torch.full_like(y, 10)
    mixed = torch.where(torch.arange(8) % 2 == 0, null, y)
    together = net(x, (t,), mixed)[0]
    alone = net(x, (t,), y)[0]
    net.soft_tokens = None
    torch.testing.assert_close(together[::2], net(x, (t,), null)[0][::2], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(together[1::2], alone[1::2], rtol=1e-12, atol=1e-12)
    assert (net(x, (t,), y)[0] - alone).abs().amax((1, 2, 3)).min() > 1e-3
