"""Losses on held-out and on training images: against a loop in NumPy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.backbones import moved
from support.specs import PROCESSES, make_eval, make_spec

from harness.config.settings.data_settings import Data
from harness.config.spec import EvalSpec
from harness.data.datasets import ImageDataset, training_rows
from harness.measure.measure_request import KeptNetwork
from harness.measure.metrics.neighbours import copying, nearest_distances
from harness.measure.overfitting import BANDS, measure_losses
from harness.method.processes import ddpm
from harness.method.randomness import generator
from harness.networks.build import build_net
from harness.networks.checkpoint import save_weights

DIGITS = Data(name="digits", channels=1, size=8, classes=10, flip=True)
DRAWS = 360  # more than there are held-out images: some come twice


def asked(draws: int) -> EvalSpec:
    spec = make_eval(0, 8)
    return spec.model_copy(update={"evaluation": spec.evaluation.model_copy(update={"held_out": draws})})


def kept_network(spec, folder: Path):
    """Keep weights of a network whose output is not zero; return it in float64."""
    net = moved(build_net(spec).initialise(0))
    save_weights(folder, 3, {f"ema.{name}": t for name, t in net.state_dict().items()})
    return net.double().eval()


def expected_losses(net, process: str, split: ImageDataset) -> np.ndarray:
    """Return the loss of each draw and its share of noise, (DRAWS, 2), in float64."""
    order = np.random.RandomState(2020).permutation(len(split.labels))
    ranks = np.random.RandomState(2021).permutation(DRAWS)
    rows = []
    for i in range(DRAWS):
        image, share = order[i % len(order)], (ranks[i] + 0.5) / DRAWS
        x = split.images[image].astype(float) / 127.5 - 1
        noise = torch.randn(1, 8, 8, generator=generator(0, "noise of a held-out loss", i)).double().numpy()
        if process == "flow":
            t, keep, spoil, target = 1 - share, 1 - share, share, x - noise
        else:
            t = int(1000 * share)
            kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[t]
            keep, spoil, target = kept**0.5, (1 - kept) ** 0.5, noise
        rows.append((keep * x + spoil * noise, float(t), split.labels[image], target, x, noise, share))
    x_t, t, y, target, x, noise, share = (torch.from_numpy(np.array(column)) for column in zip(*rows, strict=True))
    with torch.no_grad():
        output = net(x_t, (t,), y)[0]
    errors = (output[:, :1] - target).square().mean((1, 2, 3))
    if process == "ddpm":  # and the bound that teaches its variance, which tests of DDPM settle
        errors += ddpm.loss_terms(output, x, t.long(), noise)[1]
    return torch.stack((errors, share), 1).numpy()


@pytest.mark.parametrize("process", ["flow", "ddpm"])
def test_the_losses_are_those_of_a_loop_in_float64(data: Path, digits, tmp_path: Path, process: str):
    """A part of the training images, where only that was trained on."""
    spec = make_spec(process, data=DIGITS.model_copy(update={"subset": 100 if process == "flow" else None}))
    net = kept_network(spec, tmp_path)
    rows = training_rows(spec.data, spec.seed, data)
    assert (rows is None) == (process == "ddpm")
    train, test = digits
    seen = train if rows is None else replace(train, images=train.images[rows], labels=train.labels[rows])
    training, held_out = (expected_losses(net, process, split) for split in (seen, test))
    result = measure_losses(KeptNetwork(spec, asked(DRAWS), tmp_path), data)
    expected = {"training_loss": training[:, 0], "held_out_loss": held_out[:, 0]}
    expected["loss_gap"] = expected["held_out_loss"] - expected["training_loss"]
    for name, values in expected.items():
        assert result.pop(name) == pytest.approx(values.mean(), abs=1e-6)
        for number, band in enumerate(BANDS):
            inside = (training[:, 1] * 3 // 1).astype(int) == number
            assert inside.sum() == 120
            assert result.pop(f"{name}:{band}") == pytest.approx(values[inside].mean(), abs=1e-6)
    assert result == {}


def test_what_has_no_such_loss_says_why(data: Path, tmp_path: Path):
    for process in set(PROCESSES) - {"flow", "ddpm"}:
        result = measure_losses(KeptNetwork(make_spec(process, data=DIGITS), asked(10), tmp_path), data)
        why = f"{process}: its loss is against targets of its own network"
        assert result == dict.fromkeys(("held_out_loss", "training_loss", "loss_gap"), why)


def test_copying_counts_pairs_and_distances_are_to_the_nearest():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, (7, 2)).astype(float), rng.integers(0, 4, (9, 2)).astype(float)
    expected = [min(((a - b) ** 2).sum() for b in y) for a in x]
    assert nearest_distances(x, y) == pytest.approx(expected)
    generated, held_out = rng.integers(0, 5, 7).astype(float), rng.integers(0, 5, 9).astype(float)
    pairs = [(g < h) + (g == h) / 2 for g in generated for h in held_out]
    assert copying(generated, held_out) == pytest.approx(np.mean(pairs))
