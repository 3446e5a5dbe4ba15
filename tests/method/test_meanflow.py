"""MeanFlow against the official code's values, a Gaussian's exact average velocity, and plain forward passes."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from support.backbones import ARMS, DISPERSIVE, NULL, RESTRICTED, SHAPE, batch, build, with_weights
from support.places import GOLDEN as GOLDEN_FOLDER
from torch.utils._python_dispatch import TorchDispatchMode

from harness.method.backbone import DiT
from harness.method.guidance import CountedNet
from harness.method.losses import disperse
from harness.method.objective import Objective, draw
from harness.method.processes import flow
from harness.method.processes.meanflow import MeanFlow, sample, velocity_and_derivative

GOLDEN = load_file(GOLDEN_FOLDER / "mf_given.safetensors")
X, Z, E, Y = GOLDEN["mf.x"], GOLDEN["mf.z"], GOLDEN["mf.e"], GOLDEN["mf.y"].long()
T = torch.stack((GOLDEN["mf.t"], GOLDEN["mf.t"] - GOLDEN["mf.r"]), dim=1)
DROPPED = torch.where(torch.arange(len(Y)) < 2, NULL, Y)
PLAIN = MeanFlow(NULL)
GUIDED = MeanFlow(NULL, omega=0.6, kappa=0.3, start=0.1, end=0.8)
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


def given():
    return with_weights(build(second_time=True), GOLDEN, "mf.weights/")


def now(t):
    """The times of an instantaneous velocity: t and t − r = 0."""
    return t[:, 0], torch.zeros_like(t[:, 0])


def gradients(loss, net):
    return torch.autograd.grad(loss, [p for p in net.parameters() if p.requires_grad], retain_graph=True)


def assert_close(actual, name, rtol=1e-5, atol=1e-5):
    torch.testing.assert_close(actual.detach(), GOLDEN[name], rtol=rtol, atol=atol, check_device=False)


@pytest.mark.parametrize("device", DEVICES)
def test_average_velocity_and_derivative_of_the_official_code(device):
    net, (z, t, y, e, x) = given().to(device), (a.to(device) for a in (Z, T, Y, E, X))
    assert_close(PLAIN.interpolate(x, t, e), "mf.z")
    u, du_dt, _ = velocity_and_derivative(net, z, t, y, e - x)
    assert_close(u, "mf.plain.u")
    assert_close(du_dt, "mf.plain.du_dt")
    assert not du_dt.requires_grad


@torch.no_grad()
def test_guided_velocity_of_the_official_code():
    net = given()
    conditional, null = (net(Z, now(T), y)[0] for y in (Y, torch.full_like(Y, NULL)))
    v = GUIDED.guided_velocity(E - X, conditional, null, Y, T)
    assert_close(v, "mf.cfg.omega0.6_kappa0.3_t0.1_0.8.v_g")
    u, du_dt, _ = velocity_and_derivative(net, Z, T, Y, v)
    assert_close(u, "mf.cfg.u")
    assert_close(du_dt, "mf.cfg.du_dt")


@pytest.mark.parametrize(
    ("process", "y", "name"), [(PLAIN, Y, "plain"), (GUIDED, Y, "cfg"), (GUIDED, DROPPED, "drop2")]
)
def test_squared_error_and_loss_of_the_official_code(process, y, name):
    """The loss is near 1 and tells an offset of 0.02 from 0.01 by its fifth digit; the sums have room for rounding."""
    error, _ = process.loss(given(), X, y, T, E)
    assert_close(process.weigh(error), f"mf.{name}.loss", rtol=3e-7, atol=0)
    assert_close(replace(process, power=0).weigh(error), f"mf.{name}.sq_error_sum", rtol=1e-5, atol=0)
    assert_close(error, f"mf.{name}.sq_error_sum", rtol=1e-5, atol=0)


@pytest.mark.parametrize("steps", [1, 2])
def test_samples_of_the_official_code_and_their_evaluations(steps):
    counted = CountedNet(given())
    assert_close(sample(counted, E, Y, steps), f"mf.sample{steps}.from_e")
    assert counted.evaluations_per_image(len(E)) == steps


def test_loss_and_gradient_of_the_plain_algorithm():
    """One JVP of the whole batch; guidance by two more passes, with the true labels, before labels are dropped."""
    net, process = given(), replace(GUIDED, start=0.5, end=0.9)
    inside, dropped = (T[:, 0] >= 0.5) & (T[:, 0] <= 0.9), torch.tensor([True, False, True, False, False, False])
    assert inside[dropped].all()
    assert not inside.all()
    with torch.no_grad():
        null, conditional = (net(Z, now(T), y)[0] for y in (torch.full_like(Y, NULL), Y))
        guided = 0.6 * (E - X) + 0.3 * conditional + 0.1 * null
    v, y = torch.where((inside & ~dropped)[:, None, None, None], guided, E - X), torch.where(dropped, NULL, Y)
    u, du_dt, _ = velocity_and_derivative(net, Z, T, y, v)
    error = (u - (v - T[:, 1, None, None, None] * du_dt)).square().sum((1, 2, 3))
    expected = error / (error + 0.01).detach()
    squared_error, _ = process.loss(net, X, y, T, E)
    torch.testing.assert_close(squared_error, error)
    loss = process.weigh(squared_error)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(gradients(loss.sum(), net), gradients(expected.sum(), net), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


def test_with_r_equal_to_t_it_is_flow_matching():
    """Time runs the other way in `flow`, and it averages over C H W where MeanFlow sums."""
    net, t = given(), torch.stack(now(T), dim=1)
    error, _ = PLAIN.loss(net, X, Y, t, E)

    def reversed_net(x, times, y, taps=()):
        v, h = net(x, (1 - times[0], torch.zeros_like(times[0])), y, taps)
        return -v, h

    expected = flow.loss(reversed_net, X, Y, 1 - t[:, 0], E)[0] * X[0].numel()
    torch.testing.assert_close(error, expected, rtol=1e-5, atol=0)
    for ours, theirs in zip(gradients(error.sum(), net), gradients(expected.sum(), net), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize("device", DEVICES)
def test_derivative_is_that_of_finite_differences(device):
    """Along the flow, r fixed; through attention, norms and both time embeddings, in float64."""
    net, (z, v, t, y) = given().double().to(device), (a.to(device) for a in (Z.double(), (E - X).double(), T, Y))
    t, eps = t.double(), 1e-5
    _, du_dt, _ = velocity_and_derivative(net, z, t, y, v)
    with torch.no_grad():
        ahead, behind = (net(z + step * v, (t + step).unbind(1), y)[0] for step in (eps, -eps))
    torch.testing.assert_close(du_dt, (ahead - behind) / (2 * eps), rtol=1e-7, atol=1e-7)


MEAN, DEVIATION = 0.7, 0.4


def gaussian_average_velocity(z, times, y, taps=()):
    """(z_t − z_r)/(t − r) where data are N(MEAN, DEVIATION²): the flow keeps (z_t − (1 − t) MEAN)/σ_t."""
    t, span = (a.view(-1, 1, 1, 1) for a in times)
    r = t - span
    sigma_t, sigma_r = (((1 - s) ** 2 * DEVIATION**2 + s**2).sqrt() for s in (t, r))
    slope = (DEVIATION**2 * (t + r - 2) + t + r) / (sigma_t + sigma_r)  # (σ_t − σ_r)/(t − r), at t = r too
    return slope / sigma_t * (z - (1 - t) * MEAN) - MEAN, []


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_gaussians_average_velocity_reaches_its_law_in_one_step(steps):
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64).view(9, 1, 1, 1)
    z = sample(gaussian_average_velocity, noise, torch.zeros(9, dtype=torch.long), steps)
    torch.testing.assert_close(z, MEAN + DEVIATION * noise, rtol=1e-12, atol=1e-12)


def test_a_gaussians_average_velocity_obeys_the_identity():
    """u = v − (t − r) du/dt (eq. 6), v the velocity of all data together."""
    n = 64
    t = PLAIN.draw_times(n, torch.Generator().manual_seed(0)).double()
    z, y = torch.linspace(-2, 2, n, dtype=torch.float64).view(n, 1, 1, 1), torch.zeros(n, dtype=torch.long)
    v, _ = gaussian_average_velocity(z, now(t), y)
    u, du_dt, _ = velocity_and_derivative(gaussian_average_velocity, z, t, y, v)
    torch.testing.assert_close(u, v - t[:, 1, None, None, None] * du_dt, rtol=1e-12, atol=1e-12)
    assert ((u - v).abs().flatten() > 1e-3).sum() >= n // 4 - 2


def test_taps_and_their_gradients_are_those_of_a_plain_forward_pass():
    net = given()
    _, taps = GUIDED.loss(net, X, DROPPED, T, E, (3, 1))
    for tapped, plain in zip(taps, net(Z, T.unbind(1), DROPPED, (3, 1))[1], strict=True):
        torch.testing.assert_close(tapped, plain, rtol=1e-5, atol=1e-5)
        below = [*net.h_embedder.parameters(), *net.blocks[0].parameters()]
        ours, theirs = (
            torch.autograd.grad(disperse(h.flatten(1), DISPERSIVE.potential), below, retain_graph=True)
            for h in (tapped, plain)
        )
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())


def test_times_are_the_official_draws():
    t = PLAIN.draw_times(40_000, torch.Generator().manual_seed(0)).double()
    moving = t[:, 1] > 0
    for start in (0, 16, 4 * 977):  # a rank, a group, a micro-batch
        assert moving[start : start + 16].sum() == 4
    pairs = torch.cat((t[moving, 0], t[moving, 0] - t[moving, 1])).logit()
    assert pairs.mean().item() == pytest.approx(-0.4, abs=0.03)
    assert pairs.std().item() == pytest.approx(1.0, abs=0.03)
    larger = t[~moving, 0].logit()  # E max of two standard normal numbers is 1/√π
    assert larger.mean().item() == pytest.approx(-0.4 + torch.pi**-0.5, abs=0.03)
    assert t.min() == 0
    assert (t[:, 0] > t[:, 1]).all()  # r > 0


def test_dropped_labels_have_r_equal_to_t():
    d = draw(PLAIN, (), (4001, 1, 1, 1), 0.1, seed=0, step=0)
    plain = draw(flow, (), (4001, 1, 1, 1), 0.1, seed=0, step=0).dropped
    assert d.dropped.sum() == plain.sum()
    assert plain[d.t[:, 1] > 0].float().mean().item() == pytest.approx(0.1, abs=0.03)
    assert d.dropped[d.t[:, 1] > 0].float().mean() < 0.002  # all four were drawn: one in 10,000
    everything = draw(PLAIN, (), (7, 1, 1, 1), 1.0, seed=0, step=0)
    assert everything.dropped.all()
    assert len(everything.dropped) == 7


@pytest.mark.parametrize("arm", ARMS)
def test_two_ranks_are_one(arm):
    """Slices of the draws give, averaged, the loss and the gradient of the whole batch."""
    (x, y), d = batch(), draw(GUIDED, arm, SHAPE, 0.5, 0, 5)
    whole = Objective(given(), GUIDED, arm, NULL)
    parts = copy.deepcopy(whole)
    whole(x, y, d)["loss"].backward()
    for a, b in ((0, 4), (4, 8)):
        (parts(x[a:b], y[a:b], d.slice(a, b))["loss"] / 2).backward()
    for one, two in zip(whole.parameters(), parts.parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(two.grad, one.grad, rtol=1e-4, atol=1e-4 * one.grad.abs().max().item())


@pytest.mark.parametrize("arm", ARMS[:2])
def test_the_log_tells_the_squared_error_that_the_loss_hides(arm):
    """The loss is about 1 whatever the network does; beside it stands the error itself, averaged over C H W."""
    (x, y), d = batch(), draw(GUIDED, arm, SHAPE, 0.0, 0, 5)
    terms = Objective(given(), GUIDED, arm, NULL)(x, y, d)
    errors, _ = GUIDED.loss(given(), x, y, d.t, d.noise)
    loss, error = GUIDED.weigh(errors).mean(), errors.mean() / x[0].numel()
    torch.testing.assert_close(terms["denoising"], loss.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(terms["squared_error"], error.detach(), rtol=1e-6, atol=0)
    assert terms["denoising"].item() == pytest.approx(1, abs=0.01)
    assert terms["squared_error"] > 0.1
    assert not terms["squared_error"].requires_grad


def test_second_view_of_a_contrastive_run_has_both_times():
    (x, y), d = batch(), draw(PLAIN, [RESTRICTED], SHAPE, 0.0, 0, 5)
    second = d.own["regularizer"]
    moved = second["t"] - d.t
    assert (second["t"][:, 0] >= second["t"][:, 1]).all()
    assert (second["t"][:, 1] >= 0).all()
    assert 0 < moved.abs().max() <= RESTRICTED.gap + 1e-6
    objective = Objective(given(), PLAIN, [RESTRICTED], NULL)
    t = torch.stack((second["t"][:, 0], second["t"][:, 1] * 0.5), dim=1)
    changed = replace(d, own={"regularizer": second | {"t": t}})
    assert not torch.equal(objective(x, y, changed)["regularizer"], objective(x, y, d)["regularizer"])


@pytest.mark.parametrize("device", DEVICES)
def test_gradient_in_bf16(device):
    net, (x, y, t, e) = given().to(device), (a.to(device) for a in (X, Y, T, E))
    exact = torch.cat([g.flatten() for g in gradients(GUIDED.loss(net, x, y, t, e)[0].mean(), net)])
    with torch.autocast(device, torch.bfloat16):
        error, _ = GUIDED.loss(net, x, y, t, e)
    rough = torch.cat([g.flatten() for g in gradients(error.mean(), net)])
    assert error.dtype == torch.float32
    assert (rough - exact).norm() < 0.03 * exact.norm()


class Products(TorchDispatchMode):
    """Collects the precisions of attention's products."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ == "bmm":
            self.dtypes.add(args[0].dtype)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_under_the_jvp_multiplies_in_the_precision_of_the_network(dtype):
    """Torch by itself takes float32 for bf16; the setting is put back."""
    assert not torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    z, t, v = Z.to(dtype), T.to(dtype), (E - X).to(dtype)
    with Products() as products:
        velocity_and_derivative(lambda z, *_: (F.scaled_dot_product_attention(z, z, z), []), z, t, Y, v)
    assert products.dtypes == {dtype}
    assert not torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()


def test_initial_weights_and_size_of_the_network():
    net = DiT(8, 2, 4, 256, 1, 4, num_classes=1000, second_time=True).initialise(0)
    assert net.h_embedder.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not net.h_embedder.mlp[0].bias.any()
    with torch.device("meta"):
        largest = DiT(32, 2, 4, 1152, 28, 16, num_classes=1000, second_time=True)
    trained = sum(p.numel() for p in largest.parameters() if p.requires_grad)
    assert round(trained / 1e6) == 676  # MeanFlow-XL/2
