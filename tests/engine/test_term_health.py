"""The health of the terms: each one's share of the gradient, a run that it does not touch, and one that it stops."""

import re
from pathlib import Path

import pytest
import torch
from support.backbones import moved
from support.places import GRIDS
from support.specs import DISPERSIVE, PROCESSES, aligned_spec, make_spec
from support.trainings import CPU, make_dataset, make_encoder, make_trainer, nothing
from torch import Tensor

from harness.config.grid import load_table
from harness.config.settings.resources import Resources
from harness.config.spec import Regularizer
from harness.data.datasets import ImageDataset, load_training
from harness.engine.term_health import TermHealth
from harness.engine.train import Trainer, train
from harness.errors import UserError
from harness.files import read_jsonl
from harness.method.processes import flow
from harness.method.terms import Term
from harness.networks import checkpoint
from harness.networks.build import build_net
from harness.store.records import early_overshoot, overshoot, read_log

OFTEN, RARELY = (Resources(log_every=every, checkpoint_minutes=1e9) for every in (1, 1000))


def regularizer(kind: str = "dispersive", loss: str = "infonce-l2", blocks: tuple[int, ...] = (1,), **constants: float):
    noise = "independent" if kind == "contrastive" else None
    return Regularizer(kind=kind, loss=loss, lambda_=0.5, blocks=blocks, group=4, noise=noise, **constants)


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return make_dataset()


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(
    "arm",
    [regularizer(tau=0.5, blocks=(1, 2)), regularizer("contrastive", "hinge", epsilon=1.0)],
    ids=["disp", "contr"],
)
def test_looking_changes_no_bit(dataset, tmp_path: Path, process: str, arm: Regularizer, monkeypatch):
    monkeypatch.setattr("harness.engine.train.is_early", lambda step: False)
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


@pytest.mark.parametrize("process", PROCESSES)
def test_each_of_two_terms_has_a_share_of_its_own(dataset, process: str):
    """Against the gradients of the loss with and without the term, in the blocks that it taps."""
    encoder = make_encoder(dataset)
    trainer = Trainer(aligned_spec(process, regularizer=DISPERSIVE), dataset, CPU, encoder=encoder)
    moved(trainer.net)
    objective, (batch,), terms = trainer.objective, trainer.batches.get(0), trainer.objective.terms

    def gradient(terms, block: int) -> Tensor:
        objective.terms = terms
        loss = objective(batch.x, batch.y, batch.draws, encoder(batch.images))["loss"]
        gradients = torch.autograd.grad(loss, list(trainer.net.blocks[block - 1].parameters()))
        return torch.cat([g.flatten() for g in gradients])

    expected = {}
    for term, other in (terms, terms[::-1]):
        whole, rest = gradient(terms, *term.blocks), gradient([other], *term.blocks)
        ours = (whole - rest).norm()
        expected[f"{term.prefix}gradient_share"] = float(ours / (ours + rest.norm()))
    objective.terms = terms
    trainer.step(0, look=True)
    line = trainer.health.line()
    shares, tau = {"gradient_share", "alignment.gradient_share"}, {"tau", "distance_start"}
    health = {"saturated_pairs", "pair_evenness", "distance", "rms", "alignment.distance", "alignment.rms"}
    assert line.keys() - {"overshoot"} == shares | health | tau
    for key, share in expected.items():
        assert line[key] == pytest.approx(share, rel=5e-3)


@pytest.mark.parametrize("kind", ["dispersive", "contrastive"])
def test_a_temperature_of_the_distance_is_that_of_the_first_batch_and_the_initial_weights(dataset, kind: str):
    """Against all pairs one by one; also of a training that goes on, and whatever a process is given of the batch."""
    spec = make_spec(regularizer=regularizer(kind, tau={"of_distance": 0.25}), precision="bf16")
    trainer = make_trainer(spec, dataset)
    (batch,) = trainer.batches.get(0)
    (h,) = build_net(spec).initialise(spec.seed).features(
        flow.interpolate(batch.x, batch.draws.t, batch.draws.noise), (batch.draws.t,),
        torch.where(batch.draws.dropped, 10, batch.y), [1],
    )  # fmt: skip
    z = h.flatten(1).detach().double().numpy()
    pairs = [((a - b) ** 2).mean() for i, a in enumerate(z) for j, b in enumerate(z) if i != j]
    expected = float(f"{0.25 * sum(pairs) / len(pairs):.3g}")
    parts = Trainer(spec, dataset, CPU, Resources(micro_batch=4))
    assert trainer.objective.terms[0].potential.tau == parts.objective.terms[0].potential.tau == expected
    trainer.step(0, look=True)
    line = trainer.health.line()
    assert (line["tau"], line["distance_start"]) == (expected, pytest.approx(sum(pairs) / len(pairs), rel=1e-5))


def test_the_distance_of_each_step_is_the_mean_of_all_pairs(dataset):
    trainer = Trainer(make_spec(regularizer=DISPERSIVE), dataset, CPU)
    (batch,) = trainer.batches.get(0)
    view = trainer.objective.view(batch.x, batch.y, batch.draws)
    (h,) = view.outputs(trainer.net, batch.draws.t, batch.draws.noise, [1])
    z = h.flatten(1).detach().double()
    distance = sum(((a - b) ** 2).mean() for a in z for b in z) / (len(z) * (len(z) - 1))
    trainer.step(0, look=True)
    line = trainer.health.line()
    assert line["distance"] == pytest.approx(float(distance), rel=1e-5)
    assert line["rms"] == pytest.approx(float(z.square().mean().sqrt()), rel=1e-5)


@pytest.mark.parametrize(("tau", "blown_up"), [(0.5, True), (0.05, False)])
def test_the_log_of_the_default_at_digits_warns_of_an_overshoot_and_that_of_a_small_tau_does_not(
    tmp_path: Path, tau: float, blown_up: bool
):
    runs = load_table(GRIDS / "demo.yaml", "digits", [f"regularizer.tau={tau}"]).runs
    spec = next(r.train for r in runs if r.train.regularizer and r.train.regularizer.loss == "infonce-l2")
    train(spec, load_training(spec.data, 0, tmp_path), tmp_path, tmp_path / "log", {9}, OFTEN, nothing)
    found = early_overshoot(tmp_path / "log")
    assert (found is not None) == blown_up
    if found:
        assert found == overshoot(read_log(tmp_path / "log"))
        assert found.growth > 20
        assert re.match(r"D has grown \d+-fold in 9 steps; τ = 0.5 is 1\.3 times the features' D at", found.words)


def test_measuring_the_distance_before_the_first_step_changes_no_bit(dataset, monkeypatch):
    spec = make_spec(regularizer=DISPERSIVE)
    with_it = Trainer(spec, dataset, CPU)
    monkeypatch.setattr(TermHealth, "begin", lambda *_: None)
    without = Trainer(spec, dataset, CPU)
    for step in range(3):
        with_it.step(step, look=True)
        without.step(step)
    weights = with_it.net.state_dict(), without.net.state_dict()
    assert with_it.health.line().keys() >= {"distance_start", "tau"}
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_term_that_its_block_does_not_move_stops_the_run(dataset):
    class Still(Term):
        def forward(self, view):
            return 0 * view.h[1].mean()

    trainer = make_trainer(make_spec("flow"), dataset)
    trainer.objective.terms = (Still("still", (1,), 0.5),)
    with pytest.raises(UserError, match=r"still: its gradient is zero at the first step: .* block \(1,\)"):
        trainer.step(0, look=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "hinge", "epsilon": 1e-6}, "margin; raise regularizer.epsilon (1e-06 now)"),
        ({"loss": "infonce-l2", "tau": 1e-6}, "raise regularizer.tau (1e-06 now)"),
        ({"loss": "infonce-cosine", "tau": 1e-6}, "raise regularizer.tau (1e-06 now)"),
    ],
)
def test_a_regularizer_that_does_nothing_stops_the_run(dataset, tmp_path: Path, settings: dict, message: str):
    spec, steps = make_spec("flow", regularizer=regularizer(**settings)), []
    with pytest.raises(UserError, match="its gradient is zero at the first step") as error:
        train(spec, dataset, tmp_path, tmp_path / "log", {9}, RARELY, steps.append)
    assert message in str(error.value)
    assert steps == []
    assert read_jsonl(tmp_path / "log") == []


def test_without_a_regularizer_the_log_says_nothing_of_one(dataset, tmp_path: Path):
    train(make_spec("flow"), dataset, tmp_path, tmp_path / "log", {1}, OFTEN, nothing)
    assert read_jsonl(tmp_path / "log")[0].keys() == {"step", "loss", "denoising", "gradient_norm", "images_per_second"}
