"""The regulariser's health: its numbers against loops, a run that it does not touch, and one that it stops."""

import math
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from support.specs import PROCESSES, make_spec
from support.trainings import make_dataset, make_trainer, nothing
from torch import Tensor

from harness.config.settings import Resources
from harness.config.spec import Regularizer
from harness.data.datasets import ImageDataset
from harness.engine.train import train
from harness.errors import UserError
from harness.files import read_jsonl
from harness.method.losses import Potential, pair_health
from harness.method.randomness import generator
from harness.networks import checkpoint

OFTEN, RARELY = (Resources(log_every=every, checkpoint_minutes=1e9) for every in (1, 1000))


def regularizer(kind: str = "dispersive", loss: str = "infonce-l2", blocks: tuple[int, ...] = (1,), **said: float):
    noise = "independent" if kind == "contrastive" else None
    return Regularizer(kind=kind, loss=loss, lambda_=0.5, blocks=blocks, group=4, noise=noise, **said)


def views(*shape: int) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, *shape, generator=generator(0, "views", 0))
    return z[0], z[1]


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return make_dataset()


# Pairs.


def loop_weights(z: np.ndarray, other: np.ndarray, distance, tau: float, one_view: bool) -> np.ndarray:
    """exp(−D/τ) over the sum that the loss's logarithm is taken of, times the number of its terms."""
    kernel = np.array([[math.exp(-distance(a, b) / tau) for b in other] for a in z])
    return kernel / (kernel.mean() if one_view else kernel.mean(1, keepdims=True))


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize(("loss", "tau"), [("infonce-l2", 0.2), ("infonce-cosine", 0.07)])
def test_infonce_pairs_against_loops(loss: str, tau: float, two: bool):
    z, z_plus = views(7, 3)
    cosine = loss == "infonce-cosine"

    def distance(a, b) -> float:
        return -(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) if cosine else ((a - b) ** 2).mean()

    told = pair_health(z, z_plus if two else None, Potential(loss, tau=tau))
    a, b = z.double().numpy(), (z_plus if two else z).double().numpy()
    weights = loop_weights(a, b, distance, tau, not two)
    between = np.array([weights[i, j] for i, j in permutations(range(7), 2)])
    assert 0 < float(told["saturated_pairs"]) < 1
    assert float(told["saturated_pairs"]) == pytest.approx(np.mean(between < 1e-3))
    kernel = np.array([math.exp(-distance(a[i], b[j]) / tau) for i, j in permutations(range(7), 2)])
    shares = kernel / kernel.sum()
    entropy = -sum(share * math.log(share) for share in shares if share)
    assert float(told["pair_evenness"]) == pytest.approx(math.exp(entropy) / 42, rel=1e-4)


def test_the_ends_of_the_temperature():
    z, _ = views(3, 6, 10)
    hot, cold = (pair_health(z, None, Potential("infonce-l2", tau=tau)) for tau in (1e4, 1e-3))
    assert (float(hot["saturated_pairs"]), float(cold["saturated_pairs"])) == (0, 1)
    assert float(hot["pair_evenness"]) == pytest.approx(1, abs=1e-3)
    assert float(cold["pair_evenness"]) < 0.1


def test_hinge_pairs_are_counted_beyond_the_margin():
    z, _ = views(2, 6, 5)
    apart = [math.sqrt(float((g[i] - g[j]).square().mean())) for g in z for i, j in permutations(range(6), 2)]
    margin = float(np.median(apart)) + 0.01
    told = pair_health(z, None, Potential("hinge", epsilon=margin))
    assert told.keys() == {"saturated_pairs"}
    assert float(told["saturated_pairs"]) == pytest.approx(np.mean(np.array(apart) >= margin))
    assert pair_health(z, None, Potential("covariance")) == {}


# In training.


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(
    "arm",
    [regularizer(tau=0.5, blocks=(1, 2)), regularizer("contrastive", "hinge", epsilon=1.0)],
    ids=["disp", "contr"],
)
def test_looking_changes_no_bit(dataset, tmp_path: Path, process: str, arm: Regularizer):
    spec = make_spec(process, regularizer=arm, precision="bf16" if process == "ddpm" else "fp32")
    for name, resources in (("often", OFTEN), ("rarely", RARELY)):
        train(spec, dataset, tmp_path / name, tmp_path / f"{name}.jsonl", {4}, resources, nothing)
    often, rarely = (checkpoint.load_weights(tmp_path / name, 4, "model") for name in ("often", "rarely"))
    assert all(torch.equal(often[name], rarely[name]) for name in often)
    logs = [read_jsonl(tmp_path / f"{name}.jsonl") for name in ("often", "rarely")]
    assert [len(log) for log in logs] == [4, 1]
    shared = ("gradient_norm", "gradient_share", "saturated_pairs")  # of the last step, not of the window
    assert all(logs[0][-1][key] == logs[1][-1][key] for key in shared)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("kind", ["dispersive", "contrastive"])
def test_the_share_is_of_the_gradients_that_the_loss_has(dataset, process: str, kind: str):
    trainer = make_trainer(make_spec(process, regularizer=regularizer(kind, tau=0.5, blocks=(1, 2))), dataset)
    objective, parameters = trainer.objective, list(trainer.net.blocks.parameters())
    (batch,) = trainer.batches.get(0)

    def gradient() -> Tensor:
        loss = objective(batch.x, batch.y, batch.draws)["loss"]
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])

    whole, terms = gradient(), objective.terms
    objective.terms = ()
    rest = gradient()
    objective.terms = terms
    ours = (whole - rest).norm()
    trainer.step(0, look=True)
    assert trainer.health.line()["gradient_share"] == pytest.approx(float(ours / (ours + rest.norm())), rel=2e-3)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"loss": "hinge", "epsilon": 1e-6}, "margin; raise regularizer.epsilon (1e-06 now)"),
        ({"loss": "infonce-l2", "tau": 1e-6}, "raise regularizer.tau (1e-06 now)"),
        ({"loss": "infonce-cosine", "tau": 1e-6}, "raise regularizer.tau (1e-06 now)"),
    ],
)
def test_a_regularizer_that_does_nothing_stops_the_run(dataset, tmp_path: Path, said: dict, told: str):
    spec, steps = make_spec("flow", regularizer=regularizer(**said)), []
    with pytest.raises(UserError, match="its gradient is zero at the first step") as error:
        train(spec, dataset, tmp_path, tmp_path / "log", {9}, RARELY, steps.append)
    assert told in str(error.value)
    assert steps == []
    assert read_jsonl(tmp_path / "log") == []


def test_without_a_regularizer_the_log_says_nothing_of_one(dataset, tmp_path: Path):
    train(make_spec("flow"), dataset, tmp_path, tmp_path / "log", {1}, OFTEN, nothing)
    assert read_jsonl(tmp_path / "log")[0].keys() == {"step", "loss", "denoising", "gradient_norm", "images_per_second"}
