"""What is built after SARA: its structural level against another's code, the adversary against its formulas."""

import math

import pytest
import torch
from safetensors.torch import load_file
from support.places import GOLDEN
from support.specs import SARA, aligned_spec
from support.trainings import CPU, make_dataset, make_encoder
from torch import nn

from harness.engine.train import Trainer
from harness.method.rivals.sara import SaraTerm, autocorrelation_error
from harness.method.terms import Draws, StepView


@pytest.mark.parametrize(("summed", "name"), [(False, "mse"), (True, "frobenius_squared")])
def test_the_structural_level_and_its_gradient_are_those_of_a_third_party(summed, name):
    given = load_file(GOLDEN / "sara_structure_given.safetensors")
    z = given["z"].requires_grad_()
    value = autocorrelation_error(z, given["features"], summed)
    value.backward()
    torch.testing.assert_close(value.detach(), given[f"loss_{name}"], rtol=1e-5, atol=0)
    torch.testing.assert_close(z.grad, given[f"grad_z_{name}"], atol=1e-6, rtol=1e-5)


def tokens(seed):
    return torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_structural_level_is_that_of_a_loop_in_float64():
    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    z, f = tokens(0), tokens(1)
    squares = [
        (cosine(z[i, m].tolist(), z[i, n].tolist()) - cosine(f[i, m].tolist(), f[i, n].tolist())) ** 2
        for i in range(3) for m in range(4) for n in range(4)
    ]  # fmt: skip
    assert autocorrelation_error(z, f).item() == pytest.approx(sum(squares) / 48, rel=1e-10)
    assert autocorrelation_error(z, f, summed=True).item() == pytest.approx(sum(squares) / 3, rel=1e-10)


def adversary_alone(coefficient=0.5):
    """Return a term whose projector is the identity, and a view of it whose tokens are those of seed 0."""
    settings = {"structure": 0.0, "summed": False, "adversary": 0.1, "width": 6, "rates": {}}
    term = SaraTerm(nn.Identity(), 1, coefficient, features=5, **settings).initialise(0).double()
    draws = Draws(*(torch.zeros(3),) * 3, step=0)
    z = tokens(0).requires_grad_()
    return term, StepView(None, None, None, None, None, draws, features=tokens(1), h={1: z})


def test_tokens_learn_to_be_taken_for_an_encoders_and_the_discriminator_to_tell_them():
    term, view = adversary_alone()
    z, weights = view.h[1], list(term.discriminator.parameters())
    fake, real = (term.discriminator(x).sigmoid() for x in (z, view.features))
    patch = term.levels(view)["patch"]
    fooled, told = -fake.log().mean(), -((1 - fake).log() + real.log()).mean() / 2
    value = term(view)
    torch.testing.assert_close(value, (patch + 0.1 * fooled), rtol=1e-6, atol=0)  # logits are float32
    (0.5 * value).backward()
    expected = torch.autograd.grad(0.5 * (patch + 0.1 * fooled), z, retain_graph=True)[0]
    torch.testing.assert_close(z.grad, expected, rtol=1e-5, atol=1e-8)
    for weight, gradient in zip(weights, torch.autograd.grad(told, weights), strict=True):  # whatever λ is
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-5, atol=1e-8)


def test_the_discriminator_is_trained_at_rates_of_its_own_and_learns():
    dataset = make_dataset()
    trainer = Trainer(aligned_spec(alignment=SARA), dataset, CPU, encoder=make_encoder(dataset))
    term, groups = trainer.objective.alignment, trainer.optimizer.param_groups
    rates = {id(p): (group["lr"], group["betas"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert {rates[id(p)] for p in term.discriminator.parameters()} == {(2e-4, (0.5, 0.999), 0.0)}
    own = {id(p) for p in term.discriminator.parameters()}
    assert {lr for p, (lr, *_) in rates.items() if p not in own} == {0.01}
    assert rates.keys() == {id(p) for p in trainer.trained.values()}
    trainer.step(0, look=True)
    first = trainer.health.line()
    for group in groups:
        group["lr"] = 0.05 if group["lr"] == 2e-4 else 0.0  # the discriminator alone
    for step in range(1, 30):
        trainer.step(step)
    trainer.step(30, look=True)
    assert trainer.health.line()["alignment.discriminator"] < first["alignment.discriminator"] - 0.2
    assert first.keys() >= {f"alignment.{level}" for level in ("patch", "structure", "adversary", "gradient_share")}
