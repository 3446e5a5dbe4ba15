"""What holds for every built-in term under `terms`: whoever is registered is tried here."""

import pytest
import torch
from support.host_waits import NoHostWaits
from support.pretended_gpu import pretended_gpu
from support.specs import DISPERSIVE, RIVALS, make_spec, rival
from support.trainings import CPU, make_dataset, make_trainer
from torch import Tensor

from harness.config.settings.resources import Resources
from harness.config.spec import Model, TrainSpec
from harness.engine.train import Trainer
from harness.errors import UserError
from harness.method.objective import Objective, draw
from harness.method.processes import flow
from harness.method.terms import Term
from harness.networks import checkpoint
from harness.networks.build import build_net, build_objective, build_terms

DEPTH, DATASET = 4, make_dataset()
ALL = [*RIVALS, "all"]


def spec_with(kind: str | None, **changes) -> TrainSpec:
    """Return a training with one of the terms, with all of them or with none, beside a dispersive loss.

    With all of them the network has long residuals as well.
    """
    kinds = {None: [], "all": RIVALS}.get(kind, [kind])
    terms = tuple(rival(name, DEPTH) for name in kinds) or None
    model = Model(depth=DEPTH, width=16, heads=2, patch=4, residuals="long" if kind == "all" else None)
    return make_spec("flow", model=model, regularizer=DISPERSIVE, terms=terms, **changes)


def gradients(trainer: Trainer) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in trainer.objective.named_parameters() if p.grad is not None}


def term_of(trainer: Trainer, kind: str) -> Term:
    return trainer.objective.get_submodule(f"term-{kind}")


@pytest.mark.parametrize("kind", RIVALS)
def test_it_changes_no_other_draw(kind):
    """Common random numbers: weights, times, noise, dropped labels and images are those of the arm without it."""
    specs = spec_with(None), spec_with(kind)
    without, beside = (build_objective(spec) for spec in specs)
    assert all(torch.equal(weight, beside.net.state_dict()[name]) for name, weight in without.net.state_dict().items())
    drawn = [draw(flow, objective.terms, (8, 1, 8, 8), 0.5, 3, 7) for objective in (without, beside)]
    for name in ("t", "noise", "dropped"):
        assert torch.equal(getattr(drawn[0], name), getattr(drawn[1], name))
    own = drawn[1].own[f"term-{kind}"].values()
    assert all(len(value) == 8 for value in own)
    assert not any(torch.equal(value.flatten()[:8], drawn[1].t) for value in own)
    batches = [make_trainer(spec, DATASET).batches.get(3)[0] for spec in specs]
    assert torch.equal(batches[0].x, batches[1].x)
    assert torch.equal(batches[0].y, batches[1].y)


@pytest.mark.parametrize("kind", RIVALS)
def test_its_gradient_flows_where_it_should_and_nowhere_else(kind):
    """Up to the block it teaches and into its own parameters: not beyond, not into references or the average."""
    trainer = make_trainer(spec_with(kind), DATASET)
    term, (batch,) = term_of(trainer, kind), trainer.batches.get(0)
    trainer.objective.terms = (term,)
    before = {name: weight.clone() for name, weight in trainer.ema.state_dict().items()}
    view = trainer.objective.view(**trainer._inputs(batch))
    blocks = trainer.objective.taps(0)
    h = view.outputs(view.net, view.draws.t, view.draws.noise, blocks)
    view.h.update(zip(blocks, h, strict=True))
    term(view).backward()
    last = max(term.blocks)
    taught = {f"blocks.{block}" for block in range(last)}
    for name, parameter in trainer.net.named_parameters():
        owner = ".".join(name.split(".")[:2])
        if owner in taught:
            assert parameter.grad.abs().max() > 0, name
        elif owner.startswith(("blocks", "final_layer")):
            assert parameter.grad is None or not parameter.grad.any(), name
    assert all(p.grad.abs().max() > 0 for p in term.parameters())
    assert all(p.grad is None for p in trainer.ema.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.ema.state_dict().items())


@pytest.mark.parametrize("kind", ALL)
def test_it_is_computed_on_the_gpu_alone(kind):
    """Nothing of it is left on the CPU, brought there or asked back in a step."""
    spec = spec_with(kind)
    (made,) = make_trainer(spec, DATASET).batches.get(0)
    with pretended_gpu():
        with torch.device("cuda"):
            objective, average = Objective(build_net(spec), flow, build_terms(spec), 10), build_net(spec)
            batch = made.map(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))
        for term in objective.terms:
            vars(term).setdefault("seed", 0)  # as `initialise` gives it, which draws weights as well
        objective(batch.x, batch.y, batch.draws, average=average)  # constants are brought there once
        with NoHostWaits():
            losses = objective(batch.x, batch.y, batch.draws, average=average)
    assert {loss.device.type for loss in losses.values()} == {"cuda"}


@pytest.mark.parametrize("kind", ALL)
def test_micro_batches_are_the_same_step(kind):
    whole, parts = (
        Trainer(spec_with(kind), DATASET, CPU, Resources(micro_batch=size)) for size in (None, 4)
    )  # fmt: skip
    for step in range(3):
        expected = whole.step(step)
        torch.testing.assert_close(parts.step(step), expected, atol=1e-5, rtol=1e-4)
    assert any(name.startswith("term-") for name in expected)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_training_cannot_be_told_from_one_that_never_stopped(kind, precision, tmp_path):
    spec = spec_with(kind, precision=precision)
    whole, begun, resumed = (Trainer(spec, DATASET, CPU) for _ in range(3))
    for step in range(3):
        assert all(value.dtype == torch.float32 for value in whole.step(step, look=step == 2).values())
    for step in range(2):
        begun.step(step)
    checkpoint.save_state(tmp_path, 2, begun.state())
    resumed.restore(checkpoint.load_state(tmp_path), 2)
    resumed.step(2, look=True)
    ours, theirs = resumed.state(), whole.state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    line = resumed.health.line()
    assert line == whole.health.line()
    acting = [name for name in (RIVALS if kind == "all" else [kind]) if line.get(f"term-{name}.weight") != 0]
    assert all(0 < line[f"term-{name}.gradient_share"] < 1 for name in acting)


@pytest.mark.parametrize("kind", RIVALS)
def test_a_term_without_gradient_stops_the_run(kind, monkeypatch):
    trainer = make_trainer(spec_with(kind), DATASET)
    monkeypatch.setattr(type(term_of(trainer, kind)), "forward", lambda term, view: 0 * view.h[term.blocks[0]].mean())

    def train() -> None:
        for step in range(3):
            trainer.step(step, look=True)

    with pytest.raises(UserError, match=f"term-{kind}: its gradient is zero at (the first step|step 3): its loss"):
        train()


@pytest.mark.parametrize("kind", ALL)
def test_it_stops(kind):
    """From its stop on the step is that without it."""
    spec = spec_with(kind)
    stopping = spec.model_copy(update={"terms": tuple(t.model_copy(update={"stop": 2}) for t in spec.terms)})
    trainer, without = (make_trainer(each, DATASET) for each in (stopping, spec.model_copy(update={"terms": None})))
    assert any(name.startswith("term-") for name in trainer.step(1))
    state = trainer.state()
    for name, weight in without.net.state_dict().items():
        weight.copy_(state[f"model.{name}"])
    losses = trainer.step(2), without.step(2)
    assert losses[0].keys() == losses[1].keys()
    assert torch.equal(losses[0]["loss"], losses[1]["loss"])


@pytest.mark.slow
@pytest.mark.long
def test_compiled_blocks_give_the_same_gradients():
    plain, compiled = (
        Trainer(spec_with("all"), DATASET, CPU, Resources(compile=compiled)) for compiled in (False, True)
    )
    for step in range(2):
        losses = (trainer.step(step, look=True) for trainer in (compiled, plain))
        torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradients(compiled), gradients(plain), atol=1e-6, rtol=1e-3)
