"""The term that docs/plugins.md shows: against a double loop, in parts, and trained, stopped and resumed."""

import math

import numpy as np
import pytest
import torch
from support.plugin_files import write_plugin_grid
from support.trainings import CPU, make_dataset, stir

from harness import plugins
from harness.config.grid import load_table
from harness.engine.train import Trainer
from harness.method.terms import Draws, StepView
from harness.networks.build import build_terms


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_FILES", {})
    return load_table(write_plugin_grid(tmp_path), "smoke").runs[1].train


def test_only_samples_of_similar_times_repel(spec):
    (term,) = build_terms(spec)
    g = torch.Generator().manual_seed(0)
    h, t = torch.randn(32, 3, 5, generator=g), torch.rand(32, generator=g)
    draws = Draws(t, h, torch.zeros(32, dtype=torch.bool), 0)
    value = term(StepView(None, None, h, None, None, draws, h={1: h})).item()
    z, expected = h.flatten(1).double().numpy(), []
    for group in (range(16), range(16, 32)):
        kernel = [math.exp(-np.mean((z[i] - z[j]) ** 2) / 0.5) for i in group for j in group if abs(t[i] - t[j]) <= 0.2]
        expected.append(math.log(np.mean(kernel)))
    assert value == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_training_with_it_draws_what_one_without_draws_and_repels(spec):
    plain = spec.model_copy(update={"terms": None, "plugins": None})
    trainers = [Trainer(each, make_dataset(64), CPU) for each in (spec, plain)]
    for trainer in trainers:
        stir(trainer.net)
    with_it, without = (trainer.step(0) for trainer in trainers)
    assert torch.equal(with_it["denoising"], without["denoising"])
    assert torch.allclose(with_it["loss"], with_it["denoising"] + 0.5 * with_it["term-near"])
    assert any(
        not torch.equal(a, b) for a, b in zip(trainers[0].net.parameters(), trainers[1].net.parameters(), strict=True)
    )
