"""The terms of the loss: their values against loops, that they add up and stop, and others that stand beside them."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.backbones import ARMS, CONTRASTIVE, DISPERSIVE, NULL, SHAPE, batch, build, contrastive, dispersive, moved
from support.terms import Adversarial, AlignedWithTheAverage, AlignedWithTheImages, BlockAlignedWithALaterOne

from harness.method.objective import Objective, draw
from harness.method.processes import flow
from harness.method.terms import AlignmentTerm, StepView, Term, linear_layers


def test_the_alignment_is_that_of_a_loop_in_float64():
    term = AlignmentTerm(linear_layers(width=6, hidden=9, features=5), block=1, lambda_=0.5).initialise(0)
    g = torch.Generator().manual_seed(0)
    for weight in term.parameters():
        weight.data += 0.3 * torch.randn(weight.shape, generator=g)  # biases too
    h, target = torch.randn(3, 4, 6, generator=g), 3 * torch.randn(3, 4, 5, generator=g)
    w = [p.detach().double().numpy() for p in term.projector.parameters()]
    cosines = []
    for n in range(3):
        for t in range(4):
            z = h[n, t].double().numpy()
            for layer in range(3):
                z = w[2 * layer] @ z + w[2 * layer + 1]
                z = z / (1 + np.exp(-z)) if layer < 2 else z  # SiLU
            y = target[n, t].double().numpy()
            cosines.append(sum(z * y) / math.sqrt(sum(z**2)) / math.sqrt(sum(y**2)))
    view = StepView(None, None, None, None, None, None, features=target, h={1: h})
    value = term(view).item()
    assert value == pytest.approx(-sum(cosines) / 12, rel=1e-5)
    assert term(replace(view, features=7 * target)).item() == pytest.approx(value, rel=1e-6)


OTHERS = [  # which the package does not have: what a term may see and bring is enough for them
    BlockAlignedWithALaterOne,
    AlignedWithTheAverage,
    AlignedWithTheImages,
    Adversarial,
]


def loss_and_gradients(terms, parts=((0, 8),), step=5):
    """Return the losses and the network's gradients of a step, made in these parts."""
    objective = Objective(moved(build().initialise(0)), flow, [copy.deepcopy(term) for term in terms], NULL)
    average = moved(build().initialise(1)).requires_grad_(False)
    (x, y), draws, losses = batch(), draw(flow, objective.active(step), SHAPE, 0.3, 0, step), []
    for start, stop in parts:
        losses.append(objective(x[start:stop], y[start:stop], draws.slice(start, stop), average=average))
        (losses[-1]["loss"] / len(parts)).backward()
    assert all(p.grad is None for p in average.parameters())
    means = {name: torch.stack([part[name].detach() for part in losses]).mean() for name in losses[0]}
    return means, {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("other", OTHERS)
def test_terms_add_up_whatever_they_are(other):
    """Losses and gradients of a sum are the sums of those of its parts; each term is in it what it is alone."""
    term = other().initialise(0)
    both, alone, base = ([DISPERSIVE, term], [term], [])
    losses, gradients = loss_and_gradients(both)
    for terms in (alone, [DISPERSIVE]):
        assert torch.equal(loss_and_gradients(terms)[0][terms[0].name], losses[terms[0].name])
    expected = losses["denoising"] + 0.5 * losses["regularizer"] + term.lambda_ * losses[term.name]
    torch.testing.assert_close(losses["loss"], expected)
    of_each = [loss_and_gradients(terms)[1] for terms in (alone, [DISPERSIVE], base)]
    for name, gradient in gradients.items():
        if name.startswith("net."):
            torch.testing.assert_close(
                gradient, of_each[0][name] + of_each[1][name] - of_each[2][name], atol=1e-6, rtol=1e-4
            )
    trained = {name.split(".")[0] for name in gradients}
    assert trained == ({"net", term.name} if list(term.parameters()) else {"net"})


@pytest.mark.parametrize("other", OTHERS)
def test_terms_are_the_same_in_parts_of_the_batch(other):
    term = other()
    whole, parts = (loss_and_gradients([CONTRASTIVE, term], halves) for halves in (((0, 8),), ((0, 4), (4, 8))))
    torch.testing.assert_close(parts[0], whole[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(parts[1], whole[1], atol=1e-5, rtol=1e-3)


def test_one_term_more_changes_no_draw_of_the_others():
    alone = draw(flow, [CONTRASTIVE], SHAPE, 0.3, 0, 5)
    beside = draw(flow, [AlignedWithTheAverage(), CONTRASTIVE, Adversarial()], SHAPE, 0.3, 0, 5)
    for a, b in ((alone.t, beside.t), (alone.noise, beside.noise), (alone.dropped, beside.dropped)):
        assert torch.equal(a, b)
    assert {name: list(own) for name, own in beside.own.items()} == {
        "self-alignment": ["less noise"], "regularizer": ["t", "noise"], "adversary": ["real"],
    }  # fmt: skip
    assert all(torch.equal(alone.own["regularizer"][name], beside.own["regularizer"][name]) for name in ("t", "noise"))
    assert beside.own["adversary"]["real"].shape == (SHAPE[0], 16, 48)


def test_the_labels_of_a_view_are_there_with_and_without_the_drops():
    (x, y), seen = batch(), []

    class Looks(Term):
        def forward(self, view):
            seen.append(view)
            return view.h[1].mean()

    objective = Objective(build().initialise(0), flow, [Looks("looks", (1,), 1.0)], NULL)
    draws = draw(flow, objective.terms, SHAPE, 0.5, 0, 5)
    objective(x, y, draws, features=x)
    (view,) = seen
    assert torch.equal(view.labels, y)
    assert torch.equal(view.y, torch.where(draws.dropped, NULL, y))
    assert 0 < (view.y == NULL).sum() < len(y)
    assert view.features is x
    assert view.average is None


# Stopping.


@pytest.mark.parametrize("arm", ARMS[1:])
def test_a_term_that_has_stopped_is_no_term(arm):
    (term,) = copy.deepcopy(arm)
    term.stop = 6
    before, after, without = (
        loss_and_gradients(terms, step=step) for terms, step in (([term], 5), ([term], 6), ([], 6))
    )
    assert before[0].keys() == {"loss", "denoising", "regularizer"}
    assert after[0].keys() == without[0].keys() == {"loss", "denoising"}
    assert torch.equal(after[0]["loss"], without[0]["loss"])
    assert all(torch.equal(after[1][name], gradient) for name, gradient in without[1].items())
    assert Objective(build(), flow, [term], NULL).taps(5) == [1]
    assert Objective(build(), flow, [term], NULL).taps(6) == []


def test_a_weight_that_warms_up_grows_by_equal_steps_and_stops():
    term = dispersive()
    term.warm_up, term.stop = 4, 7
    assert [term.coefficient(step) / term.lambda_ for step in range(9)] == [0.25, 0.5, 0.75, 1, 1, 1, 1, 0, 0]


def test_a_coefficient_may_follow_a_schedule():
    class Decaying(AlignedWithTheImages):
        def coefficient(self, step):
            return self.lambda_ / (1 + step)

    losses, _ = loss_and_gradients([Decaying()], step=3)
    torch.testing.assert_close(losses["loss"], losses["denoising"] + losses["reconstruction"] / 4)


def test_two_terms_of_one_name_are_refused():
    with pytest.raises(AssertionError, match="two terms of the name regularizer"):
        Objective(build(), flow, [dispersive(), contrastive()], NULL)
