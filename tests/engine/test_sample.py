"""Sampling: image i comes from seed i, guided as the spec says, from the weights that it names."""

import threading
from functools import partial
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
import torch
from support.graphs import CountedGraphs
from support.specs import make_eval, make_spec, only
from support.trainings import CPU, Calm, SamplesInMemory, make_dataset, make_trainer, nothing, sample, stirred
from torch import nn

from harness.config import resolve
from harness.config.kinds.process_kinds import PROCESSES
from harness.config.kinds.sampler_kinds import SAMPLERS, samplers_of
from harness.config.settings.data_settings import Data
from harness.config.spec import EvalSpec, TrainSpec, eval_id, train_id
from harness.data.datasets import ImageDataset
from harness.engine.distributed import World
from harness.engine.sample import Sampler, labels_of
from harness.engine.sample_cache import remove_samples
from harness.engine.train import Trainer
from harness.errors import UserError
from harness.method.backbone import DiT
from harness.method.processes import consistency, ddpm, flow, imm, meanflow, shortcut
from harness.method.processes.consistency import ConsistencyTraining
from harness.method.processes.process import HasNoiseLevels
from harness.method.randomness import generator
from harness.networks import build, checkpoint
from harness.networks.build import build_process


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return make_dataset()


def one_by_one(net: nn.Module, spec: TrainSpec, evaluation: EvalSpec, images: range) -> np.ndarray:
    """Each image alone, from a generator of its own that goes on from its first noise to the noise of its steps."""
    images_drawn, settings = [], evaluation.sampler
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
        images_drawn.append(np.floor(np.clip(127.5 * x.double().numpy() + 128, 0, 255))[0])
    return np.stack(images_drawn)


@pytest.mark.parametrize(
    ("process", "method", "nfe"),
    [("flow", "heun", 6), ("flow", "euler-maruyama", 4), ("ddpm", "ancestral", 3), ("meanflow", "average-velocity", 3)],
)
def test_image_i_comes_from_seed_i_whichever_images_are_drawn(process: str, method: str, nfe: int):
    spec = make_spec(process)
    net = Calm(stirred(spec)) if process == "ddpm" else stirred(spec)
    evaluation, progress = make_eval(0, 4, "balanced", method=method, intervals=3), []
    expected = one_by_one(net, spec, evaluation, range(45, 85))
    assert len(np.unique(expected)) > 50
    sizes: set[int] = set()
    net.register_forward_pre_hook(lambda _, inputs: sizes.add(len(inputs[0])))
    whole = sample(net, spec, only(evaluation, range(45, 85)), progress.append)
    assert progress == [19, 40]  # up to the end of tile 0, and to the end
    wrong = np.abs(whole.images.astype(float) - expected)
    assert whole.images.shape == (40, 1, 8, 8)
    assert wrong.max() <= 1  # alone, in a product of another size, a rare pixel is rounded to the other side
    assert (wrong > 0).mean() < 0.002
    for cut in (7, 32):
        for first in range(45, 85, cut):
            images = range(first, min(first + cut, 85))
            drawn = sample(net, spec, only(evaluation, images), nothing)
            np.testing.assert_array_equal(drawn.images, whole.images[first - 45 : images.stop - 45])
            assert drawn.nfe == nfe
            assert drawn.labels.tolist() == [i % 10 for i in images]
    assert sizes == {64}  # whatever is wanted, for the last bits of a matrix product depend on its size


def test_a_tile_is_as_large_as_the_protocol_says_and_of_the_same_images_however_they_are_cut():
    spec, sizes = make_spec(), set[int]()
    net, evaluation = stirred(spec), make_eval(0, 4, "balanced", method="euler", intervals=2, tile=24)
    expected = one_by_one(net, spec, evaluation, range(20, 85))
    net.register_forward_pre_hook(lambda _, inputs: sizes.add(len(inputs[0])))
    whole = sample(net, spec, only(evaluation, range(20, 85)), nothing).images
    assert np.abs(whole.astype(float) - expected).max() <= 1
    for images in (range(20, 30), range(30, 85)):
        drawn = sample(net, spec, only(evaluation, images), nothing).images
        np.testing.assert_array_equal(drawn, whole[images.start - 20 : images.stop - 20])
    assert sizes == {24}


def flags() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("matmul", "expected"), [("tf32", ("high", True)), (None, ("highest", False))])
def test_network_and_decoder_multiply_as_the_protocol_says_and_nothing_does_so_after(matmul, expected, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", expected[0] == "highest")
    spec, seen, before = make_spec(), set[tuple[str, bool]](), flags()
    net = stirred(spec)
    net.register_forward_pre_hook(lambda *_: seen.add(flags()))
    evaluation = make_eval(0, 150, method="euler", intervals=2, matmul=matmul)

    def decode(samples: torch.Tensor) -> np.ndarray:
        seen.add(flags())
        if len(threads) == 1:
            raise ValueError
        threads.add(threading.get_ident())
        return np.zeros((64, 1, 8, 8), np.uint8)

    threads = set[int]()
    with pytest.raises(ValueError):
        Sampler(spec, evaluation, decode=decode).draw_from(net, SamplesInMemory())
    assert threads.isdisjoint({threading.get_ident()})
    assert (seen, flags()) == ({expected}, before)


def test_a_compiled_sampler_calls_its_compiled_blocks_at_every_evaluation(monkeypatch, tmp_path, dataset):
    graphs = CountedGraphs()
    monkeypatch.setattr(build, "BACKEND", graphs)
    trainer = make_trainer(make_spec("flow"), dataset)
    checkpoint.save_weights(tmp_path, 3, trainer.weights())
    evaluation = make_eval(0, 150, method="euler", intervals=2, guidance=2.0, guidance_channels="all")
    plain = Sampler(trainer.spec, evaluation).draw(tmp_path)
    remove_samples(tmp_path, eval_id(train_id(trainer.spec), evaluation))
    assert graphs.calls == 0
    drawn = Sampler(trainer.spec, evaluation, compiled=True).draw(tmp_path)
    assert graphs.calls == 3 * 2 * trainer.spec.model.depth  # tiles, intervals: with and without a label in one pass
    assert graphs.count == 1
    np.testing.assert_array_equal(drawn.images, plain.images)


@pytest.mark.parametrize(("channels", "guided"), [("three", 3), ("all", 4)])
def test_guidance_is_that_of_a_loop_with_the_null_label(channels: str, guided: int):
    spec = make_spec("flow", data=Data(name="made-up", channels=4, size=8, classes=10, flip=False))
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
    for weights, net in (("ema", trainer.ema), ("raw", trainer.net)):
        evaluation = make_eval(0, 4, weights=weights, method="euler", intervals=2)
        drawn[weights] = Sampler(trainer.spec, evaluation).draw(tmp_path).images
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


def test_what_plans_know_without_torch_is_what_the_processes_say():
    assert resolve.PARTICLES == imm.PARTICLES
    assert max(SAMPLERS["shortcut"].intervals) == 2**shortcut.LEVELS
    for family, kind in PROCESSES.built_in.items():
        process, samplers = build_process(make_spec(kind.process)), [*samplers_of(family)]
        assert isinstance(process, HasNoiseLevels) == kind.noise_levels == (not kind.unguided), family
        assert all([samplers, *(resolve_name(SAMPLERS[name].sample) for name in samplers)]), family
    doublings = (1280 // consistency.FIRST).bit_length()  # iCT's parts, of which a plan says how many steps they need
    assert ConsistencyTraining(steps=doublings).at_step(doublings - 1).intervals == 1280


class BrokenAt(nn.Module):
    """A network whose velocity is no number for one image of the noise."""

    def __init__(self, net: nn.Module, noise: torch.Tensor, value: float) -> None:
        super().__init__()
        self.net, self.noise, self.value = net, noise, value

    def forward(self, x: torch.Tensor, times: tuple[torch.Tensor, ...], y: torch.Tensor, taps: tuple[int, ...] = ()):
        out, h = self.net(x, times, y, taps)
        broken = (x == self.noise).flatten(1).all(1)
        return torch.where(broken[:, None, None, None], self.value, out), h


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_sample_that_is_no_number_is_refused_by_its_seed_and_step(value: float):
    spec, evaluation = make_spec(), make_eval(7, 4, "balanced", method="euler", intervals=2)
    shape = (spec.data.channels, spec.data.size, spec.data.size)
    net = BrokenAt(stirred(spec), torch.randn(shape, generator=generator(0, "sample", 70)), value)
    only_these = evaluation.model_copy(update={"first_image": 64})
    with pytest.raises(UserError, match=r"^sample 70 \(seed 70\) of the ema weights of step 3: pixels: .* not finite"):
        sample(net, spec, only_these)


class OneOfTwo(World):
    """The leading process beside another, which has drawn what is no number."""

    def all_gather(self, part: str) -> list[str]:
        return [part, "sample 130 of the other process: pixels: …"]


def test_a_sample_of_another_process_is_refused_in_this_one():
    with pytest.raises(UserError, match=r"^sample 130 of the other process"):
        sample(stirred(make_spec()), make_spec(), make_eval(0, 4, "balanced", intervals=2), world=OneOfTwo())
