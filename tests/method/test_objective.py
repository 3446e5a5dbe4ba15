"""The training objective: what it reduces to, what its arms share, and that ranks add up to the whole batch."""

import pytest
import torch
from support.backbones import (
    ARMS,
    CONTRASTIVE,
    DISPERSIVE,
    RESTRICTED,
    SHAPE,
    batch,
    build,
    contrastive,
    dispersive,
    moved,
)

from harness.method.losses import contrast, disperse
from harness.method.objective import Objective, draw
from harness.method.processes import ddpm, flow
from harness.method.processes.meanflow import MeanFlow
from harness.method.randomness import generator


def draws(*terms, seed=0, step=5, label_drop=0.5):
    return draw(flow, terms, SHAPE, label_drop, seed, step)


def objective(*terms):
    return Objective(moved(build().initialise(0)), flow, terms, num_classes=10)


def second_view(draws):
    return draws.own["regularizer"]


def tensors(draws):
    return [draws.t, draws.noise, draws.dropped, *second_view(draws).values()]


def test_without_a_regularizer_it_is_the_process_loss():
    (x, y), d = batch(), draws()
    terms = objective()(x, y, d)
    expected = flow.loss(moved(build().initialise(0)), x, torch.where(d.dropped, 10, y), d.t, d.noise)[0].mean()
    assert 0 < d.dropped.sum() < len(y)
    assert terms.keys() == {"loss", "denoising"}
    assert terms["loss"] == expected == terms["denoising"]


def test_dispersive_adds_lambda_times_the_loss_of_the_tapped_block():
    (x, y), d = batch(), draws(DISPERSIVE)
    terms = objective(DISPERSIVE)(x, y, d)
    y = torch.where(d.dropped, 10, y)
    h = moved(build().initialise(0)).features(flow.interpolate(x, d.t, d.noise), (d.t,), y, (1,))[0].flatten(1)
    expected = (disperse(h[:4], DISPERSIVE.potential) + disperse(h[4:], DISPERSIVE.potential)) / 2
    torch.testing.assert_close(terms["regularizer"], expected)
    torch.testing.assert_close(terms["loss"], terms["denoising"] + 0.5 * expected)


@pytest.mark.parametrize("regularizer", [CONTRASTIVE, RESTRICTED])
def test_contrastive_compares_two_views_of_the_same_images(regularizer):
    (x, y), d = batch(), draws(regularizer)
    terms = objective(regularizer)(x, y, d)
    y = torch.where(d.dropped, 10, y)
    first, second = (
        moved(build().initialise(0)).features(flow.interpolate(x, t, noise), (t,), y, (1,))[0].flatten(1).view(2, 4, -1)
        for t, noise in ((d.t, d.noise), second_view(d).values())
    )
    expected = (
        contrast(first[0], second[0], regularizer.potential) + contrast(first[1], second[1], regularizer.potential)
    ) / 2
    torch.testing.assert_close(terms["regularizer"], expected)
    torch.testing.assert_close(terms["denoising"], objective()(x, y, d)["loss"])  # of the first view only
    terms["loss"].backward()


def test_several_blocks_count_as_their_mean():
    (x, y), d = batch(), draws(CONTRASTIVE)
    for make in (dispersive, contrastive):
        single = [objective(make((b,)))(x, y, d)["regularizer"] for b in (1, 3)]
        both = objective(make((1, 3)))(x, y, d)["regularizer"]
        torch.testing.assert_close(both, torch.stack(single).mean())


@pytest.mark.parametrize("make", [dispersive, contrastive])
def test_groups_do_not_see_each_other(make):
    """The gradient of the regulariser at one group's images does not change when the other group's images do."""
    x, y = batch()
    d = draws(CONTRASTIVE)
    gradients = []
    for other in (1.0, -2.0):
        mixed = torch.cat((x[:4], other * x[4:])).requires_grad_()
        terms = objective(make())(mixed, y, d)
        gradient = torch.autograd.grad(terms["loss"], mixed)[0]
        gradients.append(gradient[:4])
    torch.testing.assert_close(gradients[0], gradients[1])
    whole = objective(make(group=8))(mixed, y, d)["loss"]
    assert not torch.allclose(torch.autograd.grad(whole, mixed)[0][:4], gradients[1])


def test_all_arms_of_a_seed_share_times_noise_and_drops():
    arms = [draws(*arm) for arm in ARMS]
    for arm in arms[1:]:
        assert torch.equal(arm.t, arms[0].t)
        assert torch.equal(arm.noise, arms[0].noise)
        assert torch.equal(arm.dropped, arms[0].dropped)
    assert arms[0].own == {}
    assert arms[1].own == {"regularizer": {}}
    assert torch.equal(second_view(arms[2])["noise"], second_view(arms[3])["noise"])
    assert not torch.equal(second_view(arms[2])["noise"], arms[2].noise)
    for elsewhere in (draws(seed=1), draws(step=6)):
        assert not torch.equal(elsewhere.t, arms[0].t)
        assert not torch.equal(elsewhere.noise, arms[0].noise)


def test_draws_do_not_depend_on_what_was_drawn_before():
    first = draws(CONTRASTIVE)
    torch.manual_seed(1)
    draws(step=4)
    again = draws(CONTRASTIVE)
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(again), strict=True))


def test_restricted_times_are_those_of_stored_runs():
    """t + gap · u from the stream of the second view, clamped: written out, as stored runs drew it."""
    u = 2 * torch.rand(4000, generator=generator(3, "times of the second view", 7)) - 1
    d = draw(flow, [RESTRICTED], (4000, 1, 1, 1), 0.1, 3, 7)
    assert torch.equal(second_view(d)["t"], (d.t + 0.1 * u).clamp(0, 1))
    pair = draw(MeanFlow(10), [RESTRICTED], (4000, 1, 1, 1), 0.1, 3, 7)
    assert torch.equal(second_view(pair)["t"], (pair.t + (0.1 * u).view(-1, 1)).clamp(0, 1))
    whole = draw(ddpm, [RESTRICTED], (4000, 1, 1, 1), 0.1, 3, 7)
    assert torch.equal(second_view(whole)["t"], (whole.t + (1000 * 0.1 * u).round().long()).clamp(0, 999))


def test_restricted_times_of_dit_are_whole_and_near():
    d = draw(ddpm, [contrastive(gap=0.005)], (40_000, 1, 1, 1), 0.1, 0, 0)
    moved = (second_view(d)["t"] - d.t)[(d.t - 500).abs() < 400]
    counts = (moved + 5).bincount(minlength=11) / len(moved)
    assert second_view(d)["t"].dtype == torch.int64
    assert (int(second_view(d)["t"].min()), int(second_view(d)["t"].max())) == (0, 999)
    expected = torch.tensor([0.05] + [0.1] * 9 + [0.05])  # only half as much is rounded to the ends
    torch.testing.assert_close(counts, expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("arm", [CONTRASTIVE, RESTRICTED], ids=["independent", "restricted"])
def test_dit_too_compares_two_views(arm):
    x, y = batch()
    net = build(learn_sigma=True).initialise(0)
    d = draw(ddpm, [arm], SHAPE, 0.5, 0, 5)
    terms = Objective(net, ddpm, [arm], 10)(x, y, d)
    y = torch.where(d.dropped, 10, y)
    first, second = (
        net.features(ddpm.interpolate(x, t, noise), (t,), y, (1,))[0].flatten(1).view(2, 4, -1)
        for t, noise in ((d.t, d.noise), second_view(d).values())
    )
    expected = (contrast(first[0], second[0], arm.potential) + contrast(first[1], second[1], arm.potential)) / 2
    torch.testing.assert_close(terms["regularizer"], expected)


def test_restricted_times_stay_within_the_gap_and_the_unit_interval():
    d = draw(flow, [RESTRICTED], (4000, 1, 1, 1), 0.1, 0, 0)
    assert (second_view(d)["t"] - d.t).abs().max() <= 0.1 + 1e-6
    assert second_view(d)["t"].min() == 0  # clamped, as some times lie within the gap of an end
    assert second_view(d)["t"].max() == 1
    inside = (d.t - 0.5).abs() < 0.4
    assert (second_view(d)["t"] - d.t)[inside].std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)  # uniform on ±gap
    independent = draw(flow, [CONTRASTIVE], (4000, 1, 1, 1), 0.1, 0, 0)
    assert abs(torch.corrcoef(torch.stack((independent.t, second_view(independent)["t"])))[0, 1]) < 0.05
    assert independent.dropped.float().mean().item() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("arm", ARMS[:3])
def test_two_ranks_are_one(arm):
    """Slices of the draws give, averaged, the loss and the gradient of the whole batch."""
    (x, y), d = batch(), draws(*arm)
    whole = objective(*arm)
    whole(x, y, d)["loss"].backward()
    parts = objective(*arm)
    for a, b in ((0, 4), (4, 8)):
        (parts(x[a:b], y[a:b], d.slice(a, b))["loss"] / 2).backward()
    for one, two in zip(whole.parameters(), parts.parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(two.grad, one.grad, rtol=1e-4, atol=1e-6)


def test_slices_of_draws_join_to_the_draws():
    d = draws(CONTRASTIVE)
    joined = [torch.cat(pair) for pair in zip(tensors(d.slice(0, 3)), tensors(d.slice(3, 8)), strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(joined, tensors(d), strict=True))
    assert draws().slice(0, 3).own == {}
    assert d.slice(0, 3).step == d.step == 5


def test_a_batch_that_is_no_multiple_of_the_group_is_refused():
    x, y = batch()
    with pytest.raises(ValueError, match="a batch of 6 cannot be cut into groups of 4"):
        objective(DISPERSIVE)(x[:6], y[:6], draws(DISPERSIVE).slice(0, 6))
