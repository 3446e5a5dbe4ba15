"""What is measured of representations, on features whose numbers are known; and of networks whose knowledge is."""

import pytest
import torch
from support.specs import PROCESSES, make_spec
from support.trainings import stirred
from torch import Tensor

from harness.errors import UserError
from harness.measure import representation_probe as probe
from harness.measure.metrics.representation import probe_accuracy
from harness.measure.representation_probe import NOISE_LEVELS, bench
from harness.method.processes import ddpm
from harness.method.randomness import generator
from harness.networks.build import build_process

CPU = torch.device("cpu")


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("share", NOISE_LEVELS)
def test_a_noise_level_is_the_same_for_every_process(process, share):
    """x_t is a x + b ε with b/a = u/(1 − u), whatever the process scales it by."""
    made = build_process(make_spec(process))
    one, zero, t = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), made.times_at(share)
    ratio = float(made.interpolate(zero, t, one) / made.interpolate(one, t, zero))
    nearest = float(ddpm.noise_level(torch.arange(2)).diff()) if process == "ddpm" else 1e-5
    assert ratio == pytest.approx(share / (1 - share), rel=0.02 if process == "ddpm" else nearest)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    made = bench("digits", "inception-v3-compat", folder, folder, CPU)  # whose weights are not there
    assert made.reference is None
    assert made.protocol["encoder"].startswith("none: ")
    return made


def test_a_random_network_knows_what_pixels_give_and_no_more(digits, monkeypatch):
    monkeypatch.setattr(probe, "NOISE_LEVELS", (0.1, 0.7))
    spec = make_spec("flow")
    net = stirred(spec)
    for level, least in zip(probe.representations(net, spec, digits, CPU), (0.4, 0.1), strict=True):
        pixels, *blocks = (block["probe_accuracy"] for block in level["blocks"])
        assert len(blocks) == spec.model.depth
        assert all(least < accuracy < pixels + 0.03 for accuracy in blocks)
        assert all("cka" not in block for block in level["blocks"])


def test_no_label_is_given_away():
    spec, x = make_spec("flow"), torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    net = stirred(spec)

    def outputs() -> Tensor:
        return probe.outputs(net, build_process(spec), spec.data.classes, 0.4, x, x)[-1]

    first, table = outputs(), net.y_embedder.embedding_table.weight.data
    table[: spec.data.classes] += 1
    assert torch.equal(outputs(), first)
    table[spec.data.classes] += 1
    assert not torch.equal(outputs(), first)


def test_features_that_are_not_finite_are_refused(digits):
    spec = make_spec("flow")
    net = stirred(spec)
    net.x_embedder.proj.weight.data.fill_(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        probe.representations(net, spec, digits, CPU)


def test_labels_that_say_nothing_are_told_by_chance(digits):
    y = torch.arange(len(digits.fit.y)) % 10
    x = digits.fit.x.flatten(1).double()
    held = digits.held_out.x.flatten(1).double()
    chance = probe_accuracy(x, y[torch.randperm(len(y), generator=generator(0, "y", 0))], held, digits.held_out.y)
    assert chance == pytest.approx(0.1, abs=0.05)
