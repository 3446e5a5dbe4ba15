"""Training: AdamW and its EMA, terms that add up and stop, and a resume that cannot be told from no stop."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.backbones import moved
from support.host_waits import NoHostWaits
from support.pretended_gpu import pretended_gpu
from support.specs import DISPERSIVE, IREPA, PROCESSES, REPA, SARA, aligned_spec, make_eval, make_spec
from support.terms import Adversarial, AlignedWithTheAverage, BlockAlignedWithALaterOne
from support.trainings import CPU, make_dataset, make_encoder, make_trainer, nothing, sample, stir, stirred
from torch import Tensor

from harness.checkpoint_paths import latest_step, weights_path
from harness.config.kinds.process_kinds import FAMILIES
from harness.config.kinds.sampler_kinds import samplers_of
from harness.config.settings.process_settings import MeanFlowSettings
from harness.config.settings.resources import Resources
from harness.config.spec import TrainSpec
from harness.data.datasets import ImageDataset, positions
from harness.engine.batches import Batches
from harness.engine.distributed import ALONE
from harness.engine.train import Trainer, train
from harness.errors import Diverged
from harness.files import read_jsonl
from harness.method.backbone import DiT
from harness.method.losses import floor
from harness.method.objective import Objective
from harness.method.processes import flow
from harness.method.processes.process import LearnsFromAverage
from harness.method.randomness import generator
from harness.networks import checkpoint
from harness.networks.build import build_net, build_objective, build_process, build_terms
from harness.networks.encoder import FrozenEncoder

NEVER = Resources(log_every=2, checkpoint_minutes=1e9)
ALIGNED, UNALIGNED, BOTH = aligned_spec(), aligned_spec(alignment=None), aligned_spec(regularizer=DISPERSIVE)


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return make_dataset()


@pytest.fixture(scope="module")
def encoder(dataset: ImageDataset) -> FrozenEncoder:
    return make_encoder(dataset)


def seen_dtypes(net: DiT) -> set[torch.dtype]:
    """Dtypes that the first linear layer will put out from now on."""
    seen: set[torch.dtype] = set()
    net.blocks[0].mlp.fc1.register_forward_hook(lambda *io: seen.add(io[2].dtype))  # type: ignore[union-attr]
    return seen


# Training.


def flow_terms(net: DiT, dataset: ImageDataset, spec: TrainSpec, step: int) -> Tensor:
    """The flow-matching loss of a step, written out from the images to the mean."""
    chosen = positions(spec.seed, step, spec.batch, len(dataset))
    x = torch.tensor(dataset.images[chosen] / 127.5 - 1).float()
    flips = torch.rand(spec.batch, generator=generator(spec.seed, "augmentation", step)) < 0.5
    x = torch.stack([image.flip(-1) if flip else image for image, flip in zip(x, flips, strict=True)])
    t = torch.rand(spec.batch, generator=generator(spec.seed, "times", step))
    noise = torch.randn(x.shape, generator=generator(spec.seed, "noise", step))
    dropped = torch.rand(spec.batch, generator=generator(spec.seed, "label drop", step)) < spec.label_drop
    y = [10 if drop else label for drop, label in zip(dropped, dataset.labels[chosen].tolist(), strict=True)]
    s = t[:, None, None, None]
    v, _ = net(s * x + (1 - s) * noise, (t,), torch.tensor(y))
    return ((v - (x - noise)) ** 2).mean()


def test_a_step_is_adamw_on_the_loss_and_ema_on_the_weights(dataset: ImageDataset):
    """Against both written out in float64: w ← (1 − ηλ) w − η m̂/(√v̂ + 1e-8), e ← d e + (1 − d) w."""
    trainer = make_trainer(make_spec("flow"), dataset)
    spec, net = trainer.spec, trainer.net
    weights = {name: p for name, p in net.named_parameters() if p.requires_grad}
    w = {name: p.detach().double() for name, p in weights.items()}
    e, first, second = dict(w), dict.fromkeys(w, torch.zeros(())), dict.fromkeys(w, torch.zeros(()))
    frozen, compared = net.pos_embed.clone(), []
    for step in range(4):
        loss = flow_terms(net, dataset, spec, step)
        gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
        terms = trainer.step(step)
        torch.testing.assert_close(terms["denoising"], loss.detach())
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))
        assert trainer.gradient_norm() == pytest.approx(norm, rel=1e-4)
        for name, gradient in gradients.items():
            g = gradient.double()
            first[name] = 0.8 * first[name] + 0.2 * g
            second[name] = 0.9 * second[name] + 0.1 * g * g
            m, v = first[name] / (1 - 0.8 ** (step + 1)), second[name] / (1 - 0.9 ** (step + 1))
            w[name] = (1 - 0.01 * 0.3) * w[name] - 0.01 * m / (v.sqrt() + 1e-8)
            # Where a gradient is as small as its rounding, Adam's quotient of the two moments knows nothing.
            trusted = v.sqrt() > 1e-5
            compared.append(float(trusted.double().mean()))
            torch.testing.assert_close(weights[name][trusted].double(), w[name][trusted], rtol=1e-3, atol=1e-5)
            w[name] = weights[name].detach().double()
            e[name] = 0.8 * e[name] + 0.2 * w[name]
    assert np.mean(compared) > 0.8
    averages = dict(trainer.ema.named_parameters())
    for name in weights:
        torch.testing.assert_close(averages[name].double(), e[name], rtol=1e-5, atol=1e-6)
    assert torch.equal(net.pos_embed, frozen)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_what_the_network_computes_in(
    dataset: ImageDataset, process: str, precision: str, dtype: torch.dtype
):
    trainer = make_trainer(make_spec(process, precision=precision, regularizer=DISPERSIVE), dataset)
    seen = seen_dtypes(trainer.net)
    terms = trainer.step(0)
    assert seen == {dtype}
    assert terms["loss"].dtype == torch.float32
    assert {t.dtype for t in trainer.state().values()} == {torch.float32}
    method = [*samplers_of(FAMILIES[process])][-1 if process == "ddpm" else 0]
    net = stirred(trainer.spec)
    seen = seen_dtypes(net)
    sample(net, trainer.spec, make_eval(0, 4, method=method, intervals=2, precision=precision), nothing)
    assert seen == {dtype}


def test_the_targets_of_a_shortcut_model_come_from_the_ema(dataset: ImageDataset):
    trainer = make_trainer(make_spec("shortcut"), dataset)
    assert trainer.objective.process.average is trainer.ema
    assert all(name.startswith("net.") for name in trainer.objective.state_dict())  # no weights but the network's
    loss = trainer.step(0)["loss"]
    other = make_trainer(make_spec("shortcut"), dataset)
    stir(other.ema, seed=1)
    assert other.step(0)["loss"] != loss


@pytest.mark.parametrize("process", PROCESSES)
def test_a_restored_training_goes_on_bit_for_bit(dataset: ImageDataset, tmp_path: Path, process: str):
    spec = make_spec(process, regularizer=DISPERSIVE)
    whole, begun, resumed = (Trainer(spec, dataset, CPU) for _ in range(3))
    for step in range(4):
        whole.step(step)
    for step in range(2):
        begun.step(step)
    stir(resumed.net)
    for step in (1, 2):
        checkpoint.save_state(tmp_path, step, begun.state())
    assert [path.name for path in tmp_path.glob("state-*")] == ["state-00000002.safetensors"]
    assert latest_step(tmp_path) == 2
    resumed.restore(checkpoint.load_state(tmp_path), 2)
    same = {name: torch.equal(tensor, begun.state()[name]) for name, tensor in resumed.state().items()}
    assert all(same.values())
    for step in (2, 3):
        resumed.step(step)
    ours, theirs = resumed.state(), whole.state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_weights_that_are_wanted_later_are_those_that_would_have_been_kept(dataset: ImageDataset, tmp_path: Path):
    spec, progress = make_spec("flow", regularizer=DISPERSIVE), []

    def run(folder: Path, keep: set[int]) -> None:
        train(spec, dataset, folder, folder / "train.jsonl", keep, NEVER, progress.append)

    def weights(folder: Path, step: int) -> dict[str, Tensor]:
        return checkpoint.load_weights(folder, step, "model")

    run(tmp_path / "at once", {0, 1, 3, 4, 5})
    assert progress == [1, 2, 3, 4, 5]
    log = read_jsonl(tmp_path / "at once" / "train.jsonl")
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5]
    least = floor(build_objective(spec).terms[0].potential, 4)
    assert all(line["above_floor"] == pytest.approx(line["regularizer"] - least) for line in log)
    for keep in ({4}, {0, 1, 3}, {5}):
        run(tmp_path / "little by little", keep)
    for step in (0, 1, 3, 4, 5):
        once, later = (weights(tmp_path / folder, step) for folder in ("at once", "little by little"))
        assert all(torch.equal(once[name], later[name]) for name in once)
    for which in ("model", "ema"):
        begun = checkpoint.load_weights(tmp_path / "at once", 0, which)
        assert all(torch.equal(begun[name], weight) for name, weight in build_objective(spec).net.state_dict().items())
    assert [line["step"] for line in read_jsonl(tmp_path / "little by little" / "train.jsonl")] == [1, 2, 3, 4, 5]


def test_early_steps_have_lines_of_their_own_and_no_other_step_is_waited_for(
    dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The lines at every so many steps are what they are without: means since the one before."""
    spec, looked = make_spec("flow", regularizer=DISPERSIVE), list[int]()
    bare = Trainer(spec, dataset, CPU)
    losses = [float(bare.step(step)["denoising"]) for step in range(32)]
    step_of = Trainer.step

    def take(trainer: Trainer, step: int, look: bool = False) -> dict[str, Tensor]:
        if look:
            looked.append(step + 1)
            return step_of(trainer, step, look)
        with NoHostWaits():
            return step_of(trainer, step)

    monkeypatch.setattr(Trainer, "step", take)
    train(spec, dataset, tmp_path, tmp_path / "log", {32}, Resources(log_every=15, checkpoint_minutes=1e9), nothing)
    log = read_jsonl(tmp_path / "log")
    assert [line["step"] for line in log] == looked == [*range(1, 11), 15, 16, 30, 32]
    since = {15: range(15), 30: range(15, 30), 32: range(30, 32)}
    for line in log:
        step = line["step"]
        steps = since.get(step, [step - 1])
        assert line["denoising"] == pytest.approx(np.mean([losses[i] for i in steps]), rel=1e-5)
        assert ("images_per_second" in line) == (step in since)
        assert {"gradient_share", "gradient_norm"} < line.keys()
    kept = checkpoint.load_weights(tmp_path, 32, "model")
    assert all(torch.equal(weight, kept[name]) for name, weight in bare.net.state_dict().items())


def test_precision_of_products_and_convolutions_is_the_specs_while_training_and_then_what_it_was(
    dataset: ImageDataset, tmp_path: Path
):
    seen: list[tuple[str, bool]] = []

    def now() -> tuple[str, bool]:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    def on_progress(step: int) -> None:
        seen.append(now())
        if step == 2:
            raise Diverged("stop")

    assert now() == ("highest", True)  # torch's defaults: convolutions are TF32 by themselves
    for matmul in ("high", "highest"):
        spec, folder = make_spec("flow", matmul=matmul), tmp_path / matmul
        with pytest.raises(Diverged):
            train(spec, dataset, folder, folder / "log", {9}, NEVER, on_progress)
    assert seen == [("high", True), ("high", True), ("highest", False), ("highest", False)]
    assert now() == ("highest", True)


# What a GPU would be waited for.

ARMS = (None, DISPERSIVE, DISPERSIVE.model_copy(update={"kind": "contrastive", "noise": "independent"}))


@pytest.mark.parametrize("process", PROCESSES)
def test_a_step_reads_no_number_and_has_no_shape_that_depends_on_one(dataset: ImageDataset, process: str):
    for arm in ARMS:
        trainer = Trainer(make_spec(process, regularizer=arm), dataset, CPU)
        trainer.step(0)  # and a thread makes the batch of the next
        with NoHostWaits():
            trainer.step(1)


@pytest.mark.parametrize("process", PROCESSES)
def test_the_loss_is_computed_on_the_gpu_alone(dataset: ImageDataset, process: str):
    """Nothing is copied there in a step but the batch, which is pinned; nor is anything asked back."""
    spec = make_spec(process, regularizer=ARMS[2], batch=16)
    (made,) = Batches(spec, dataset, build_objective(spec), ALONE, None).get(0)
    with pretended_gpu():
        with torch.device("cuda"):
            objective = Objective(build_net(spec), build_process(spec), build_terms(spec), 10)
            batch = made.map(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))
        if isinstance(objective.process, LearnsFromAverage):
            objective.process = objective.process.with_average(objective.net)
        objective(batch.x, batch.y, batch.draws)  # constants are brought there once
        with NoHostWaits():
            losses = objective(batch.x, batch.y, batch.draws)
    assert {loss.device.type for loss in losses.values()} == {"cuda"}


# Terms.


class OnlyAlignment:
    """Flow matching's taps with no denoising loss: what is learned is learned from the alignment."""

    draw_times = staticmethod(flow.draw_times)
    interpolate = staticmethod(flow.interpolate)

    def loss(self, net, x, y, t, noise, taps=()):
        per_sample, h = flow.loss(net, x, y, t, noise, taps)
        return 0 * per_sample.detach(), h


@pytest.mark.parametrize("term", [REPA, IREPA, SARA])
def test_an_alignment_teaches_the_network_up_to_its_block_and_the_projector_but_not_the_encoder(dataset, encoder, term):
    trainer = Trainer(aligned_spec(alignment=term), dataset, CPU, encoder=encoder)
    moved(trainer.net)
    before = {name: t.clone() for name, t in encoder.state_dict().items()}
    trainer.objective.process = OnlyAlignment()
    terms = trainer.step(0)
    assert float(terms["loss"]) == pytest.approx(term.coefficient * float(terms["alignment"]))
    taught = {n.split(".")[0] + n.split(".")[1] for n, p in trainer.net.named_parameters() if p.grad is not None}
    assert {"blocks0", "blocks1", "x_embedderproj"} <= taught
    assert not {"blocks2", "final_layerlinear"} & taught
    assert all(p.grad.abs().max() > 0 for p in trainer.objective.alignment.parameters())
    assert all(not p.requires_grad and p.grad is None for p in encoder.parameters())
    assert all(torch.equal(t, before[name]) for name, t in encoder.state_dict().items())


def test_an_alignment_draws_from_a_stream_of_its_own(dataset, encoder):
    """The arms of a seed begin with equal weights and see equal noise, so that their first denoising loss is equal."""
    alone, repa = Trainer(UNALIGNED, dataset, CPU), Trainer(ALIGNED, dataset, CPU, encoder=encoder)
    assert all(torch.equal(a, b) for a, b in zip(alone.net.parameters(), repa.net.parameters(), strict=True))
    assert torch.equal(alone.step(0)["denoising"], repa.step(0)["denoising"])
    first = build_objective(ALIGNED, 64).alignment.projector[0].weight
    other = build_objective(ALIGNED.model_copy(update={"seed": 4}), 64).alignment.projector[0].weight
    assert torch.equal(first, build_objective(BOTH, 64).alignment.projector[0].weight)
    assert not torch.equal(first, other)
    assert first.abs().max() <= math.sqrt(6 / (16 + 24))  # xavier's bound


@pytest.mark.parametrize("term", [REPA, IREPA, SARA])
def test_micro_batches_are_aligned_with_their_own_images(dataset, encoder, term):
    spec = BOTH.model_copy(update={"alignment": term})
    whole, parts = (Trainer(spec, dataset, CPU, Resources(micro_batch=size), encoder=encoder) for size in (None, 4))
    for step in range(2):
        expected = whole.step(step)
        torch.testing.assert_close(parts.step(step), expected)
    torch.testing.assert_close(parts.state(), whole.state(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("process", ["flow", "ddpm", "meanflow"])
def test_beside_a_regulariser_each_term_is_what_it_is_alone(dataset, encoder, process):
    changes = {"process": process, "meanflow": MeanFlowSettings() if process == "meanflow" else None}
    arms, terms = {"repa": ALIGNED, "both": BOTH, "dispersive": BOTH.model_copy(update={"alignment": None})}, {}
    for name, arm in arms.items():
        spec = arm.model_copy(update=changes)
        trainer = Trainer(spec, dataset, CPU, encoder=encoder if spec.alignment else None)
        moved(trainer.net)
        terms[name] = trainer.step(0)
    both = terms["both"]
    assert torch.equal(both["alignment"], terms["repa"]["alignment"])
    assert torch.equal(both["regularizer"], terms["dispersive"]["regularizer"])
    expected = both["denoising"] + 0.5 * both["regularizer"] + 0.5 * both["alignment"]
    torch.testing.assert_close(both["loss"], expected)


def test_the_encoder_sees_the_clean_image_that_the_network_gets(dataset, encoder):
    seen, trainer = {}, Trainer(ALIGNED, dataset, CPU, encoder=encoder)
    trainer.objective.register_forward_pre_hook(lambda _, args, inputs: seen.update(x=inputs["x"]), with_kwargs=True)
    with encoder.register_forward_pre_hook(lambda _, given: seen.update(images=given[0])):
        trainer.step(0)
    assert torch.equal(seen["images"].float() / 127.5 - 1, seen["x"])


@pytest.mark.parametrize("process", ["flow", "ddpm", "meanflow"])
def test_the_gradients_of_the_terms_add_up(dataset, encoder, process):
    """The gradient of a combination is that of the denoising loss and of λ_k L_k, each as it is alone."""
    arms = {"both": (DISPERSIVE, REPA), "none": (None, None), "dispersive": (DISPERSIVE, None), "repa": (None, REPA)}
    gradients = {}
    for name, (regularizer, alignment) in arms.items():
        spec = aligned_spec(process, regularizer=regularizer, alignment=alignment)
        trainer = Trainer(spec, dataset, CPU, encoder=encoder if alignment else None)
        moved(trainer.net)
        trainer.step(0)
        trained = [p for p in trainer.net.parameters() if p.requires_grad]
        gradients[name] = torch.cat([p.grad.flatten() for p in trained])
    expected = gradients["dispersive"] + gradients["repa"] - gradients["none"]
    torch.testing.assert_close(gradients["both"], expected, atol=1e-6, rtol=1e-4)


def advance(spec: TrainSpec, dataset, encoder, folder: Path, steps: set[int], log_every: int = 1):
    """Train to the last of these steps, and return the state that the training stops in."""
    resources = Resources(log_every=log_every, checkpoint_minutes=1e9)
    train(spec, dataset, folder, folder / "log", steps, resources, nothing, encoder=encoder)
    return checkpoint.load_state(folder)


@pytest.mark.parametrize(
    ("term", "tensors", "stop"),
    [(REPA, 6, None), (REPA, 6, 2), (IREPA, 2, None), (SARA, 14, None), (SARA, 14, 3), (REPA, 6, 1)],
)
def test_a_resumed_combination_cannot_be_told_from_one_that_never_stopped(
    dataset, encoder, tmp_path, term, tensors, stop
):
    """Also where a term is left out before, at, or after the step that the training is resumed at."""
    spec = BOTH.model_copy(update={"alignment": term.model_copy(update={"stop": stop})})
    advance(spec, dataset, encoder, tmp_path / "twice", {2})
    twice = advance(spec, dataset, encoder, tmp_path / "twice", {4})
    once = advance(spec, dataset, encoder, tmp_path / "once", {4})
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)
    projector = {name for name in once if name.startswith("alignment.")}
    assert len(projector) == tensors
    assert {f"exp_avg.{name}" for name in projector} < once.keys()
    weights = load_file(weights_path(tmp_path / "once", 4))
    assert not any("alignment" in name for name in weights)  # sampling needs no projector
    logs = [read_jsonl(tmp_path / name / "log") for name in ("once", "twice")]
    for line in (*logs[0], *logs[1]):
        line.pop("images_per_second")
    assert logs[0] == logs[1]


def test_a_term_that_has_stopped_costs_nothing_and_leaves_the_rest_as_it_is(dataset, encoder, tmp_path):
    """From then on the training is that without the term, from the same state; the log has a line at the stop."""
    stopping = BOTH.model_copy(update={
        "alignment": REPA.model_copy(update={"stop": 3}), "regularizer": DISPERSIVE.model_copy(update={"stop": 5}),
    })  # fmt: skip
    images: list[int] = []
    with encoder.register_forward_pre_hook(lambda _, inputs: images.append(len(inputs[0]))):
        early = advance(stopping, dataset, encoder, tmp_path, {4}, log_every=100)
        late = advance(stopping, dataset, encoder, tmp_path, {8}, log_every=100)
    assert sum(images) == (3 + 3) * 8  # three steps, and as many looks into the health of the terms
    assert all(torch.equal(late[name], early[name]) for name in late if "projector" in name)  # it rests
    log = read_jsonl(tmp_path / "log")
    assert [line["step"] for line in log] == list(range(1, 9))
    for key, last in (("alignment", 3), ("alignment.gradient_share", 3), ("regularizer", 5), ("gradient_share", 5)):
        assert [line["step"] for line in log if key in line] == list(range(1, last + 1))
    trainers = Trainer(UNALIGNED, dataset, CPU), Trainer(stopping, dataset, CPU, encoder=encoder)
    for trainer in trainers:
        trainer.restore(checkpoint.load_state(tmp_path), 8)
    for step in (8, 9):
        losses = [trainer.step(step) for trainer in trainers]
        assert losses[0].keys() == losses[1].keys() == {"loss", "denoising"}
        assert torch.equal(losses[0]["loss"], losses[1]["loss"])


def test_any_other_term_is_trained_at_rates_of_its_own_and_resumed(dataset, tmp_path, monkeypatch):
    """One from the averaged network, one with an adversary, one with a reference block, beside a dispersive one."""

    def with_others(spec, features=None):
        built = build_objective(spec, features)
        others = [AlignedWithTheAverage(width=16), Adversarial(width=16, tokens=4), BlockAlignedWithALaterOne()]
        return Objective(built.net, built.process, [*built.terms, *others], built.num_classes)

    monkeypatch.setattr("harness.engine.train.build_objective", with_others)
    torch.manual_seed(0)
    whole = Trainer(BOTH.model_copy(update={"alignment": None}), dataset, CPU)
    torch.manual_seed(0)
    begun, resumed = (Trainer(whole.spec, dataset, CPU) for _ in range(2))
    begun.objective.load_state_dict(whole.objective.state_dict())
    critic = whole.objective.adversary.critic
    before = critic.weight.clone()
    losses = whole.step(0, look=True)
    assert losses.keys() == {"loss", "denoising", "regularizer", "self-alignment", "adversary", "layersync"}
    shares = {"gradient_share", "self-alignment.gradient_share", "adversary.gradient_share", "layersync.gradient_share"}
    health = {f"{share.removesuffix('gradient_share')}{key}" for share in shares for key in ("distance", "rms")}
    line = whole.health.line().keys() - {"overshoot", "tau", "distance_start"}
    assert line == shares | health | {"saturated_pairs", "pair_evenness"}
    assert float((critic.weight - before).detach().abs().max()) == pytest.approx(
        2e-4, rel=0.1
    )  # AdamW's first step is its rate
    assert (whole.objective.get_submodule("self-alignment").head.bias.grad != 0).any()
    begun.step(0)
    checkpoint.save_state(tmp_path, 1, begun.state())
    resumed.restore(checkpoint.load_state(tmp_path), 1)
    for step in (1, 2):
        assert torch.equal(whole.step(step)["loss"], resumed.step(step)["loss"])
    ours, theirs = resumed.state(), whole.state()
    assert ours.keys() == theirs.keys()
    assert {"adversary.critic.weight", "exp_avg.adversary.critic.weight", "self-alignment.head.bias"} < ours.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("process", ["flow", "ddpm"])
def test_dropout_is_the_same_in_micro_batches_and_after_a_resume_and_no_other_draw(dataset, tmp_path, process):
    spec = make_spec(process, regularizer=DISPERSIVE, dropout=0.3)
    whole, parts, resumed = (Trainer(spec, dataset, CPU, Resources(micro_batch=size)) for size in (None, 4, None))
    without = Trainer(spec.model_copy(update={"dropout": None}), dataset, CPU)
    (ours,), (theirs,) = whole.batches.get(5), without.batches.get(5)
    assert torch.equal(ours.x, theirs.x)
    assert torch.equal(ours.draws.t, theirs.draws.t)
    assert torch.equal(ours.draws.noise, theirs.draws.noise)
    for step in range(3):
        losses = [trainer.step(step, look=trainer is whole)["loss"] for trainer in (whole, parts, without)]
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-4)
    assert float(losses[0]) != pytest.approx(float(losses[2]), rel=1e-4)
    checkpoint.save_state(tmp_path, 3, whole.state())
    resumed.restore(checkpoint.load_state(tmp_path), 3)
    assert torch.equal(whole.step(3)["loss"], resumed.step(3)["loss"])
