"""What shortcut models, IMM and iCT have in common: taps, ranks, sizes, and that a short training learns one step."""

import copy
import math

import pytest
import torch
from support.backbones import ARMS, NULL, SHAPE, batch, build, moved
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from harness.config.kinds.process_kinds import process_kind
from harness.method.backbone import DiT
from harness.method.objective import Objective, draw
from harness.method.processes import consistency, imm, shortcut
from harness.method.processes.consistency import ConsistencyTraining
from harness.method.processes.imm import InductiveMomentMatching
from harness.method.processes.process import LearnsFromAverage
from harness.method.processes.shortcut import Shortcut

PROCESSES = {
    "shortcut": Shortcut(NULL, guidance=1.5),
    "imm": InductiveMomentMatching(k=5),
    "consistency": ConsistencyTraining(steps=80),
}
SAMPLE = {
    "shortcut": lambda net, noise, y: shortcut.sample(net, noise, y, 1),
    "imm": lambda net, noise, y: imm.sample(net, noise, y, 1),
    "consistency": consistency.sample,
}
by_name = pytest.mark.parametrize("name", PROCESSES)


def objective(name, terms=()):
    times = {"second_time": process_kind(name).second_time, "time_scale": getattr(PROCESSES[name], "time_scale", 1.0)}
    net = moved(build(**times).initialise(0))
    process = PROCESSES[name]
    if isinstance(process, LearnsFromAverage):
        process = process.with_average(copy.deepcopy(net).requires_grad_(False))
    return Objective(net, process, terms, NULL)


@by_name
def test_taps_are_those_of_a_plain_forward_pass_on_what_the_network_is_given(name):
    (x, y), whole = batch(), objective(name)
    d = draw(whole.process, (), SHAPE, 0.0, 0, 5)
    loss, taps = whole.process.loss(whole.net, x, y, d.t, d.noise, (2, 1))
    given = whole.process.interpolate(x, d.t, d.noise)
    plain = whole.net.features(given, d.t.unbind(1)[: whole.net.num_times], y, (2, 1))
    assert loss.shape == (len(x),)
    assert all(tapped.requires_grad for tapped in taps)
    torch.testing.assert_close(taps, plain, rtol=1e-4, atol=1e-5)


@by_name
@pytest.mark.parametrize("arm", ARMS[:3])
def test_two_ranks_are_one(name, arm):
    """Slices of the draws give, averaged, the loss and the gradient of the whole batch."""
    (x, y), whole = batch(), objective(name, arm)
    parts, d = copy.deepcopy(whole), draw(whole.process, arm, SHAPE, 0.5, 0, 5)
    whole(x, y, d)["loss"].backward()
    for a, b in ((0, 4), (4, 8)):
        (parts(x[a:b], y[a:b], d.slice(a, b))["loss"] / 2).backward()
    for one, two in zip(whole.net.parameters(), parts.net.parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(two.grad, one.grad, rtol=1e-4, atol=1e-4 * one.grad.abs().max().item() + 1e-7)


@by_name
def test_nearby_times_are_near_and_are_times(name):
    """Of a second view under restricted noise: no further than the gap, and nowhere that training does not go."""
    process = PROCESSES[name]
    t, gap = process.draw_times(4000, torch.Generator().manual_seed(0)), 0.1
    moved = process.nearby_times(t, gap, torch.Generator().manual_seed(1))
    shift = moved[:, 0] - t[:, 0]
    width = math.log(80 / 0.002) if name == "consistency" else 1
    assert 0.9 * gap < shift.abs().max() / width <= gap + 1e-6
    assert shift.min() < 0 < shift.max()
    if name == "shortcut":
        assert torch.equal(moved[:, 1], t[:, 1])
        assert (moved[:, 0] >= 0).all()
        assert (moved[:, 0] + 2 ** -moved[:, 1] <= 1).all()
    if name == "imm":
        torch.testing.assert_close(moved[:, 0] - moved[:, 1], t[:, 0] - t[:, 1])
        assert (moved[:, 1] >= 0).all()
        assert (moved[:, 0] <= 0.994).all()
    if name == "consistency":
        assert moved.min() >= math.log(0.002) - 1e-5
        assert moved.max() <= math.log(80) + 1e-5


@pytest.mark.parametrize(("name", "millions"), [("shortcut", 676), ("imm", 676), ("consistency", 675)])
def test_size_of_the_largest_network(name, millions):
    """The paper's table has 675M for all three: it does not count the embedding of a second time."""
    with torch.device("meta"):
        largest = DiT(32, 2, 4, 1152, 28, 16, num_classes=1000, second_time=process_kind(name).second_time)
    assert round(sum(p.numel() for p in largest.parameters() if p.requires_grad) / 1e6) == millions


def points(n, seed):
    """Images of 1×2×2: each label has two places on a circle, and a little noise."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (n,), generator=g)
    angle = torch.pi * (torch.randint(2, (n,), generator=g) + y / 2)
    flat = torch.stack((angle.cos(), angle.sin(), -angle.cos(), -angle.sin()), dim=1)
    return (flat + 0.05 * torch.randn(n, 4, generator=g)).view(n, 1, 2, 2), y


def energy_distance(a, b):
    """2 E‖a − b‖ − E‖a − a'‖ − E‖b − b'‖, 0 where the laws are equal."""
    a, b = a.flatten(1), b.flatten(1)
    return (2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()).item()


LEARNERS = {
    "shortcut": Shortcut(2),
    "imm": InductiveMomentMatching(k=8),
    "consistency": ConsistencyTraining(steps=2400),
}


@pytest.mark.slow
@by_name
def test_a_short_training_learns_to_draw_in_one_step(name):
    times = {"second_time": process_kind(name).second_time, "time_scale": getattr(LEARNERS[name], "time_scale", 1.0)}
    net = DiT(2, 2, 1, 32, 2, 2, num_classes=2, **times).initialise(0)
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.95))
    process = LEARNERS[name]
    if isinstance(process, LearnsFromAverage):
        process = process.with_average(ema.module)
    learner = Objective(net, process, (), 2)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=3e-3, fused=True)
    truth, y = points(1000, seed=1)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(2))
    before = energy_distance(SAMPLE[name](net, noise, y), truth)  # of plain noise, or little else
    for step in range(500):
        x, labels = points(256, seed=100 + step)
        optimizer.zero_grad()
        learner(x, labels, draw(process, (), x.shape, 0.1, 0, step))["loss"].backward()
        optimizer.step()
        ema.update_parameters(net)
    assert energy_distance(SAMPLE[name](ema.module, noise, y), truth) < before / 4
