"""SRA against its authors' code, whole training steps of it, and a loop in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from support.backbones import with_weights
from support.places import GOLDEN
from support.specs import rival, term_alone

from harness.config.resolve import SettingError
from harness.engine.moving_average import MovingAverage
from harness.method.backbone import DiT
from harness.method.objective import Objective
from harness.method.processes import flow
from harness.method.rivals.sra import SelfAlignment
from harness.method.terms import Draws, Sizes

SIZES = Sizes(16, 5, 16, 2, 4, 8, 7)
HEAD = {"linear1": "head.0", "linear2": "head.2"}  # the authors' names, and ours
WEIGHTS = {"smooth-l1": 0.2, "cosine": 0.5}


class TheirTime(DiT):
    """A SiT of theirs, whose time is 1 at noise and whose velocity points there, as the harness calls a network."""

    def __init__(self) -> None:
        super().__init__(8, 2, 4, 16, 5, 2, num_classes=7)

    def forward(self, x, times, y, taps=()):
        out, h = super().forward(x, times, y, taps)
        return -out, h

    def _run_blocks(self, x, times, y, taps, last):
        return super()._run_blocks(x, (1 - times[0],), y, taps, last)


class OverTokens(SelfAlignment):
    """Their "cos" as it is computed: over the axis of tokens, which `cosine_similarity` takes by default."""

    def distance(self, z, target):
        return 1 - F.cosine_similarity(z, target).mean()


def load(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / f"sra_{name}_given.safetensors")


def with_head(term: SelfAlignment, given: dict[str, torch.Tensor], prefix: str) -> SelfAlignment:
    """Return the term with the authors' weights of its head."""
    names = {f"{ours}.{kind}": f"{theirs}.{kind}" for theirs, ours in HEAD.items() for kind in ("weight", "bias")}
    term.load_state_dict({ours: given[f"{prefix}{theirs}"] for ours, theirs in names.items()})
    return term


def self_alignment(distance: str, **written) -> SelfAlignment:
    return term_alone(rival("sra", 5, blocks=2, teacher=3, distance=distance, **written), SIZES)


@pytest.mark.parametrize(
    ("distance", "key", "gradient"),
    [("smooth-l1", "loss_sml1", "grad_h_sml1"), ("cosine", "channel_cosine_loss", "grad_h_channel_cosine"),
     ("over tokens", "loss_cos", "grad_h_cos")],
)  # fmt: skip
def test_the_distances_and_their_gradients_are_those_of_the_authors_code(distance, key, gradient):
    given = load("loss")
    term = with_head(self_alignment("cosine" if distance == "over tokens" else distance), given, "w.")
    term.__class__ = OverTokens if distance == "over tokens" else SelfAlignment
    h = given["h_student"].requires_grad_()
    z = term.head(h)
    torch.testing.assert_close(z.detach(), given["z"], rtol=1e-5, atol=1e-6)
    value = term.distance(z, given["h_teacher"])
    torch.testing.assert_close(value.detach(), given[key].mean(), rtol=1e-5, atol=0)
    value.backward()
    torch.testing.assert_close(h.grad, given[gradient], atol=1e-6, rtol=0)


@pytest.mark.parametrize("distance", WEIGHTS)
def test_a_whole_step_is_that_of_the_authors_code(distance):
    """Both losses, all gradients, and with their clipping the weights and the average after AdamW."""
    given = load({"smooth-l1": "step_sml1", "cosine": "step_cos"}[distance])
    net, teacher = (with_weights(TheirTime(), given, prefix) for prefix in ("w.", "ema."))
    term = with_head(self_alignment(distance), given, "head.")
    term.__class__ = SelfAlignment if distance == "smooth-l1" else OverTokens
    assert term.coefficient(0) == WEIGHTS[distance]
    nearer = {term.name: {"nearer": given["t"] - given["t_teacher"]}}
    dropped = given["y"] == 7
    draws = Draws(1 - given["t"], given["noise"], dropped, 0, nearer)
    objective = Objective(net, flow, [term], 7)
    losses = objective(given["x"], given["y_clean"], draws, average=teacher)
    for ours, theirs in (("loss", "total"), ("denoising", "denoising"), (term.name, "align_mean")):
        torch.testing.assert_close(losses[ours].detach(), given[theirs], rtol=1e-5, atol=0)
    losses["loss"].backward()
    trained = {n.removeprefix("net."): p for n, p in objective.named_parameters() if p.requires_grad}
    for name, parameter in trained.items():
        theirs = _their_name(name, term)
        if f"g.{theirs}" in given:
            torch.testing.assert_close(parameter.grad, given[f"g.{theirs}"], atol=1e-6, rtol=0)
    average = MovingAverage(net, 0.9999)
    average.net.load_state_dict(teacher.state_dict())
    norm = torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
    torch.testing.assert_close(norm, given["grad_norm"], rtol=1e-5, atol=0)
    torch.optim.AdamW(trained.values(), 1e-4, weight_decay=0).step()
    average.update()
    averaged = dict(average.net.named_parameters())
    # A bias of keys has no gradient but its rounding, and AdamW makes some of a step of that.
    for prefix, now, atol in (("after.", trained, 1e-6), ("ema_after.", averaged, 1e-8)):
        compared = {name: f"{prefix}{_their_name(name, term)}" for name in now}
        compared = {name: theirs for name, theirs in compared.items() if theirs in given}
        assert len(compared) > 8
        for name, theirs in compared.items():
            torch.testing.assert_close(now[name].detach(), given[theirs], rtol=1e-5, atol=atol)


def _their_name(name: str, term: SelfAlignment) -> str:
    for theirs, ours in HEAD.items():
        name = name.replace(f"{term.name}.{ours}", f"ap_head.{theirs}")
    return name


def test_the_distances_are_those_of_a_loop_in_float64():
    g = torch.Generator().manual_seed(0)
    z, target = torch.randn(2, 3, 4, 16, dtype=torch.float64, generator=g)
    z[0] = target[0] + 0.03 * z[0]  # where smooth-ℓ1 is a square
    one_minus_cosine, smooth = [], []
    for a, b in zip(z.flatten(0, 1).tolist(), target.flatten(0, 1).tolist(), strict=True):
        norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
        one_minus_cosine.append(1 - sum(x * y for x, y in zip(a, b, strict=True)) / norms)
        for x, y in zip(a, b, strict=True):
            d = abs(x - y)
            smooth.append(0.5 * d * d / 0.05 if d < 0.05 else d - 0.05 / 2)
    assert min(abs(x - y) for x, y in zip(z.flatten().tolist(), target.flatten().tolist(), strict=True)) < 0.05
    for distance, values in (("cosine", one_minus_cosine), ("smooth-l1", smooth)):
        value = self_alignment(distance).distance(z, target).item()
        assert value == pytest.approx(sum(values) / len(values), rel=1e-10)


def test_the_teacher_sees_less_noise_the_same_noise_and_the_same_dropped_labels():
    seen, term = [], self_alignment("cosine").initialise(0)

    class Teacher(DiT):
        def features(self, x, times, y, taps):
            seen.append((x, times, y, taps))
            return super().features(x, times, y, taps)

    g = torch.Generator().manual_seed(0)
    x, noise, t = (
        torch.randn(64, 4, 8, 8, generator=g),
        torch.randn(64, 4, 8, 8, generator=g),
        torch.rand(64, generator=g),
    )
    dropped, y = torch.arange(64) % 2 == 0, torch.arange(64) % 7
    draws = Draws(t, noise, dropped, 3)
    draws.own[term.name] = term.draw(draws, flow, 0)
    arguments = {"input_size": 8, "patch_size": 2, "in_channels": 4, "hidden_size": 16, "depth": 3, "num_heads": 2}
    net, teacher = DiT(**arguments, num_classes=7), Teacher(**arguments, num_classes=7)
    Objective(net, flow, [term], 7)(x, y, draws, average=teacher)
    ((x_t, (time,), labels, taps),) = seen
    assert taps == (3,)
    assert (time >= t).all()
    assert (time <= 1).all()
    gaps = (time - t)[t < 0.8]
    assert gaps.max() < 0.2
    assert gaps.max() > 0.17
    assert gaps.min() < 0.03
    torch.testing.assert_close(x_t, time[:, None, None, None] * x + (1 - time[:, None, None, None]) * noise)
    assert torch.equal(labels, torch.where(dropped, 7, y))


def test_the_weight_of_smooth_l1_falls_to_a_tenth_in_so_many_epochs_and_that_of_the_cosine_does_not():
    """At epochs of one step; as its code: 0.2 up to epoch 149, 0.045 at 800."""
    falling, constant = self_alignment("smooth-l1"), self_alignment("cosine")
    assert [falling.coefficient(epoch) for epoch in (0, 149)] == [0.2, 0.2]
    for epoch in (150, 800, 1149):
        assert falling.coefficient(epoch) == pytest.approx(0.2 * 0.1 ** ((epoch - 149) / 1000), rel=1e-12)
    assert falling.coefficient(800) == pytest.approx(0.045, rel=0.01)
    assert {constant.coefficient(epoch) for epoch in (0, 5000)} == {0.5}
    halved = self_alignment("smooth-l1", **{"lambda": 0.1, "constant": 9, "tenfold": 10, "stop": 25})
    assert [halved.coefficient(epoch) for epoch in (9, 19, 25)] == pytest.approx([0.1, 0.01, 0.0])


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"constant": 99}, "the weight of the cosine is constant; leave it out, or set distance: smooth-l1"),
        ({"gap": 0}, "greater than 0"),
        ({"blocks": [1, 2]}, "this term teaches one block"),
        ({"teacher": 13}, "no block 13 in a network of 12 blocks"),
    ],
)
def test_what_is_no_such_term_is_refused(written, words):
    with pytest.raises(SettingError, match=words):
        rival("sra", 12, **written)
