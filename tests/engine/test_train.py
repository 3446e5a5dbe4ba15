"""The engine: what is built is what the spec says, what is trained is AdamW and its EMA, image i comes from seed i."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from support.places import GRIDS
from support.specs import DISPERSIVE, PROCESSES, make_eval, make_spec, only
from support.trainings import CPU, Calm, make_dataset, make_trainer, nothing, sample, stir, stirred
from torch import Tensor, nn

from harness.checkpoint_files import latest_step, weights_path
from harness.config.grid import load_table
from harness.config.resolve import SAMPLERS
from harness.config.settings import (
    Data,
    MeanFlowSettings,
    Optimizer,
    Resources,
)
from harness.config.spec import EvalSpec, Model, TrainSpec
from harness.data.datasets import ImageDataset, positions
from harness.engine.distributed import ALONE
from harness.engine.metric_logger import MetricAverager
from harness.engine.sample import draw_samples, labels_of
from harness.engine.train import Trainer, train
from harness.errors import Diverged, UserError
from harness.files import read_jsonl
from harness.method.backbone import DiT
from harness.method.losses import Potential, floor
from harness.method.processes import ddpm, flow, meanflow
from harness.method.processes.consistency import ConsistencyTraining
from harness.method.processes.imm import InductiveMomentMatching
from harness.method.processes.shortcut import Shortcut
from harness.method.randomness import generator
from harness.method.terms import ContrastiveTerm, DispersiveTerm
from harness.networks import checkpoint
from harness.networks.build import build_objective

NEVER = Resources(log_every=2, checkpoint_minutes=1e9)


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return make_dataset()


def seen_dtypes(net: DiT) -> set[torch.dtype]:
    """Dtypes that the first linear layer will put out from now on."""
    seen: set[torch.dtype] = set()
    net.blocks[0].mlp.fc1.register_forward_hook(lambda *io: seen.add(io[2].dtype))  # type: ignore[union-attr]
    return seen


# What is built.


def test_every_loss_and_arm_is_built_as_its_cell_says():
    blocks = [f"regularizer.{name}" for name in ("blocks=[2,4]", "group=8", "lambda=0.21", "tau=0.37", "epsilon=1.3")]
    others = [f"regularizer.{name}" for name in ("offdiagonal=0.6", "normalization=centered", "gap=0.02")]
    cells = load_table(GRIDS / "table2.yaml", "smoke", blocks + others).cells
    built = [(cell.settings.regularizer, build_objective(cell.runs[0].train).terms) for cell in cells]
    assert built[0][1] == ()
    assert len(built) == 1 + 4 * 3
    for settings, (term,) in built[1:]:
        assert type(term) is {"dispersive": DispersiveTerm, "contrastive": ContrastiveTerm}[settings.kind]
        assert term.potential.loss == settings.loss
        assert (term.lambda_, term.blocks, term.group) == (0.21, (2, 4), 8)
        if settings.loss.startswith("infonce"):
            assert term.potential.tau == 0.37
        if settings.loss == "hinge":
            assert term.potential.epsilon == 1.3
        if settings.loss == "covariance":
            assert term.potential.normalization == "centered"
        if settings.kind == "contrastive":
            assert term.gap == {"independent": None, "restricted": 0.02}[settings.noise]
            assert settings.loss != "covariance" or term.potential.offdiagonal == 0.6


@pytest.mark.parametrize(
    ("process", "channels", "embedders", "time_scale"),
    [
        ("flow", 3, 1, 1),
        ("ddpm", 6, 1, 1),
        ("meanflow", 3, 2, 1),
        ("shortcut", 3, 2, 1),
        ("imm", 3, 2, 1000),
        ("consistency", 3, 1, 250),
    ],
)
def test_networks_and_processes_are_those_of_the_spec(process: str, channels: int, embedders: int, time_scale: float):
    guidance = MeanFlowSettings(omega=0.3, kappa=0.6, start=0.1, end=0.7, power=0.5)
    spec = make_spec(
        process,
        data=Data(name="made up", channels=3, size=12, classes=7, flip=False),
        model=Model(depth=3, width=24, heads=3, patch=2),
        meanflow=guidance if process == "meanflow" else None,
    )
    objective = build_objective(spec)
    net = objective.net
    assert net.y_embedder.embedding_table.weight.shape == (8, 24)
    assert (len(net.blocks), net.blocks[0].attn.num_heads, net.pos_embed.shape) == (3, 3, (1, 36, 24))
    assert objective.num_classes == 7
    times = (torch.rand(2),) * embedders
    assert net(torch.zeros(2, 3, 12, 12), times, torch.tensor([6, 7]))[0].shape == (2, channels, 12, 12)
    assert (net.num_times, net.time_scale) == (embedders, time_scale)
    expected = {
        "flow": flow,
        "ddpm": ddpm,
        "meanflow": meanflow.MeanFlow(7, 0.3, 0.6, 0.1, 0.7, 0.5),
        "shortcut": Shortcut(7, 1.5),
        "imm": InductiveMomentMatching(5),
        "consistency": ConsistencyTraining(16, 40),
    }
    assert objective.process == expected[process]


def test_all_arms_of_a_seed_begin_with_equal_weights():
    arms = [{}, {"regularizer": DISPERSIVE}, {"optimizer": Optimizer()}, {"seed": 4}]
    base, *same, other = (build_objective(make_spec("flow", **arm)).net.x_embedder.proj.weight for arm in arms)
    assert all(torch.equal(base, weight) for weight in same)
    assert not torch.equal(base, other)


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
    averages = dict(trainer.ema.module.named_parameters())
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
    method = SAMPLERS[process][-1 if process == "ddpm" else 0]
    net = stirred(trainer.spec)
    seen = seen_dtypes(net)
    sample(net, trainer.spec, make_eval(0, 4, method=method, intervals=2, precision=precision), nothing)
    assert seen == {dtype}


def test_the_targets_of_a_shortcut_model_come_from_the_ema(dataset: ImageDataset):
    trainer = make_trainer(make_spec("shortcut"), dataset)
    assert trainer.objective.process.average is trainer.ema.module
    assert all(name.startswith("net.") for name in trainer.objective.state_dict())  # no weights but the network's
    loss = trainer.step(0)["loss"]
    other = make_trainer(make_spec("shortcut"), dataset)
    stir(other.ema.module, seed=1)
    assert other.step(0)["loss"] != loss


def test_a_writer_that_is_behind_erases_no_later_state(tmp_path: Path):
    tensors = {"a": torch.zeros(1)}
    for step, left in ((300, [300]), (100, [100, 300]), (200, [200, 300]), (400, [400])):
        checkpoint.save_state(tmp_path, step, tensors)
        assert sorted(path.name for path in tmp_path.glob("state-*")) == [f"state-{n:08}.safetensors" for n in left]
        assert latest_step(tmp_path) == step


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
    spec, beats = make_spec("flow", regularizer=DISPERSIVE), []

    def run(folder: Path, keep: set[int]) -> None:
        train(spec, dataset, folder, folder / "train.jsonl", keep, NEVER, beats.append)

    def kept(folder: Path, step: int) -> dict[str, Tensor]:
        return checkpoint.load_weights(folder, step, "model")

    run(tmp_path / "at once", {0, 1, 3, 4, 5})
    assert beats == [1, 2, 3, 4, 5]
    log = read_jsonl(tmp_path / "at once" / "train.jsonl")
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5]
    least = floor(build_objective(spec).terms[0].potential, 4)
    assert all(line["above_floor"] == pytest.approx(line["regularizer"] - least) for line in log)
    for keep in ({4}, {0, 1, 3}, {5}):
        run(tmp_path / "little by little", keep)
    for step in (0, 1, 3, 4, 5):
        once, later = (kept(tmp_path / folder, step) for folder in ("at once", "little by little"))
        assert all(torch.equal(once[name], later[name]) for name in once)
    for which in ("model", "ema"):
        begun = checkpoint.load_weights(tmp_path / "at once", 0, which)
        assert all(torch.equal(begun[name], weight) for name, weight in build_objective(spec).net.state_dict().items())
    assert [line["step"] for line in read_jsonl(tmp_path / "little by little" / "train.jsonl")] == [2, 4, 5]


def test_matmul_precision_is_the_specs_while_training_and_then_what_it_was(dataset: ImageDataset, tmp_path: Path):
    seen: list[str] = []

    def beat(step: int) -> None:
        seen.append(torch.get_float32_matmul_precision())
        if step == 2:
            raise Diverged("stop")

    before = torch.get_float32_matmul_precision()
    assert before == "highest"
    with pytest.raises(Diverged):
        train(make_spec("flow", matmul="high"), dataset, tmp_path, tmp_path / "log", {9}, NEVER, beat)
    assert seen == ["high", "high"]
    assert torch.get_float32_matmul_precision() == before


def test_a_line_of_the_log_is_the_mean_of_its_steps():
    term = DispersiveTerm(Potential("hinge", epsilon=2.0), 0.5, (1,), group=8)  # its floor is ε²/N
    averager = MetricAverager([term])
    for loss, regularizer in ((1.0, -1.0), (2.0, -0.5), (6.0, 0.0)):
        averager.add({"loss": torch.tensor(loss), "regularizer": torch.tensor(regularizer)})
    line = averager.line(30, 8, 0.25)
    assert line.pop("images_per_second") > 0
    assert line == {"step": 30, "loss": 3.0, "regularizer": -0.5, "above_floor": -1.0, "gradient_norm": 0.25}
    with pytest.raises(Diverged, match="gradient_norm not finite between steps 28 and 30"):
        averager.line(30, 8, math.inf)
    averager.add({"loss": torch.tensor(math.nan), "regularizer": torch.tensor(0.0)})
    with pytest.raises(Diverged, match=r"^loss not finite between steps 28 and 31"):
        averager.line(31, 8, 0.25)


# Sampling.


def one_by_one(net: nn.Module, spec: TrainSpec, evaluation: EvalSpec, images: range) -> np.ndarray:
    """Each image alone, from a generator of its own that goes on from its first noise to the noise of its steps."""
    found, settings = [], evaluation.sampler
    for image in images:
        stream = generator(0, "sample", image)
        shape = (1, spec.data.channels, spec.data.size, spec.data.size)
        noise, y = torch.randn(shape, generator=stream), torch.tensor([image % spec.data.classes])
        if spec.process == "meanflow":
            x = meanflow.sample(net, noise, y, settings.intervals)
        else:
            process = {"flow": flow, "ddpm": ddpm}[spec.process]
            again = partial(torch.randn, shape, generator=stream)
            x = process.sample(net, noise, y, settings.method, settings.intervals, lambda _, again=again: again())
        found.append(np.floor(np.clip(127.5 * x.double().numpy() + 128, 0, 255))[0])
    return np.stack(found)


@pytest.mark.parametrize(
    ("process", "method", "nfe"),
    [("flow", "heun", 6), ("flow", "euler-maruyama", 4), ("ddpm", "ancestral", 3), ("meanflow", "average-velocity", 3)],
)
def test_image_i_comes_from_seed_i_whichever_images_are_drawn(process: str, method: str, nfe: int):
    spec = make_spec(process)
    net = Calm(stirred(spec)) if process == "ddpm" else stirred(spec)
    evaluation, beats = make_eval(0, 4, "balanced", method=method, intervals=3), []
    expected = one_by_one(net, spec, evaluation, range(45, 85))
    assert len(np.unique(expected)) > 50
    sizes: set[int] = set()
    net.register_forward_pre_hook(lambda _, inputs: sizes.add(len(inputs[0])))
    whole = sample(net, spec, only(evaluation, range(45, 85)), beats.append)
    assert beats == [19, 40]  # up to the end of tile 0, and to the end
    wrong = np.abs(whole.images.astype(float) - expected)
    assert whole.images.shape == (40, 1, 8, 8)
    assert wrong.max() <= 1  # alone, in a product of another size, a rare pixel is rounded to the other side
    assert (wrong > 0).mean() < 0.002
    for cut in (7, 32):
        for first in range(45, 85, cut):
            images = range(first, min(first + cut, 85))
            drawn = sample(net, spec, only(evaluation, images), nothing)
            np.testing.assert_array_equal(drawn.images, whole.images[first - 45 : images.stop - 45])
            assert (drawn.nfe, drawn.device) == (nfe, "cpu")
            assert drawn.labels.tolist() == [i % 10 for i in images]
    assert sizes == {64}  # whatever is wanted, for the last bits of a matrix product depend on its size


@pytest.mark.parametrize(("channels", "guided"), [("three", 3), ("all", 4)])
def test_guidance_is_that_of_a_loop_with_the_null_label(channels: str, guided: int):
    spec = make_spec("flow", data=Data(name="made up", channels=4, size=8, classes=10, flip=False))
    net, count = stirred(spec), 6
    evaluation = make_eval(2, count, method="euler", intervals=4, guidance=2.5, guidance_channels=channels)
    drawn = sample(net, spec, evaluation, nothing)
    x = torch.stack([torch.randn(4, 8, 8, generator=generator(0, "sample", 2 + i)) for i in range(count)])
    y = torch.from_numpy(labels_of(range(2, 2 + count), 10, "random"))
    assert drawn.labels.tolist() == y.tolist()
    with torch.no_grad():
        for k in range(4):
            t = torch.full((count,), k / 4)
            with_label, without = net(x, (t,), y)[0], net(x, (t,), torch.full((count,), 10))[0]
            v = with_label.clone()
            v[:, :guided] = without[:, :guided] + 2.5 * (with_label - without)[:, :guided]
            x = x + v / 4
    wrong = np.abs(drawn.images.astype(float) - np.floor(np.clip(127.5 * x.numpy() + 128, 0, 255)))
    assert wrong.max() <= 1
    assert (wrong > 0).mean() < 0.002
    assert drawn.nfe == 8


@pytest.mark.parametrize(
    ("process", "method", "intervals", "highest", "nfe"),
    [("flow", "euler", 4, 1.0, 4 + 2), ("ddpm", "ddim", 3, 10.0, 3 + 2)],  # σ: ∞, 3, 1, 1/3; 157, 3.4, 0.01
)
def test_guidance_in_an_interval_is_that_of_the_spec(
    process: str, method: str, intervals: int, highest: float, nfe: int
):
    spec = make_spec(process)
    net = Calm(stirred(spec)) if process == "ddpm" else stirred(spec)
    how = {"method": method, "intervals": intervals}
    drawn = [
        sample(net, spec, make_eval(0, 6, **how, **guidance, guidance_channels="all"), nothing)
        for guidance in (
            {"guidance": 2.5, "guidance_to": highest}, {"guidance": 2.5, "guidance_from": highest},
            {"guidance": 2.5, "guidance_from": 0.001, "guidance_to": 1e6}, {"guidance": 2.5}, {"guidance": 1.0},
        )
    ]  # fmt: skip
    assert [d.nfe for d in drawn[3:]] == [2 * intervals, intervals]
    assert [d.nfe for d in drawn[:2]] == [nfe, 3 * intervals - nfe]
    assert drawn[2].nfe == 2 * intervals - (process == "flow")  # t = 0 has infinite noise
    assert len({d.images.tobytes() for d in (drawn[0], drawn[1], *drawn[3:])}) == 4


def test_the_measured_weights_are_those_of_the_ema(dataset: ImageDataset, tmp_path: Path):
    trainer = make_trainer(make_spec("flow"), dataset)
    for step in range(3):
        trainer.step(step)
    checkpoint.save_weights(tmp_path, 3, trainer.weights())
    checkpoint.save_weights(tmp_path, 2, Trainer(trainer.spec, dataset, CPU).weights())
    drawn = {}
    for weights, net in (("ema", trainer.ema.module), ("raw", trainer.net)):
        evaluation = make_eval(0, 4, weights=weights, method="euler", intervals=2)
        drawn[weights] = draw_samples(trainer.spec, evaluation, tmp_path, nothing, ALONE).images
        assert isinstance(net, DiT)
        expected = sample(net, trainer.spec, evaluation, nothing).images
        np.testing.assert_allclose(drawn[weights].astype(float), expected, atol=1)
    assert np.abs(drawn["ema"].astype(float) - drawn["raw"]).max() > 3


def test_labels_are_functions_of_the_image():
    assert labels_of(range(7, 12), 3, "balanced").tolist() == [1, 2, 0, 1, 2]
    many = labels_of(range(100, 3100), 10, "random")
    assert many.dtype == np.int64
    np.testing.assert_array_equal(labels_of(range(1100, 1150), 10, "random"), many[1000:1050])
    counts = np.bincount(many, minlength=10)
    assert len(counts) == 10
    assert ((counts - 300) ** 2 / 300).sum() < 33  # chi-square with 9 degrees of freedom: once in 10,000
    pairs = np.bincount(many[:-1] * 10 + many[1:], minlength=100)
    assert ((pairs - 30) ** 2 / 30).sum() < 170  # neighbours know nothing of each other: likewise, with 99


@pytest.mark.parametrize("length", [0, 4, 500])
def test_a_checkpoint_that_was_cut_is_named(tmp_path, length):
    checkpoint.save_state(tmp_path, 3, {"model.w": torch.zeros(1000)})
    checkpoint.save_weights(tmp_path, 3, {"model.w": torch.zeros(1000)})
    for path, load in (
        (tmp_path / "state-00000003.safetensors", lambda: checkpoint.load_state(tmp_path)),
        (weights_path(tmp_path, 3), lambda: checkpoint.load_weights(tmp_path, 3, "model")),
    ):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(UserError, match=rf"{path.name}: damaged .*; delete it, and the training makes it again"):
            load()
