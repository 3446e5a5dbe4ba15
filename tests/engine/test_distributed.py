"""One training on one process, on several, or in micro-batches: the same run; and any process draws the same pixels."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import specs
from support.forked import forkserver
from support.graphs import CountedGraphs
from support.places import GRIDS
from support.specs import OWN, make_eval
from support.trainings import CPU, Calm, end, make_dataset, make_encoder, nothing, sample, start
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from harness import ContrastiveLoss, DispersiveLoss, tap
from harness.checkpoint_paths import latest_step, weights_path
from harness.config.settings.loss_settings import SaraSettings
from harness.config.settings.resources import Resources
from harness.config.settings.run_settings import Optimizer
from harness.config.spec import Alignment, Model, Regularizer, TrainSpec
from harness.engine import distributed
from harness.engine.batches import Batches
from harness.engine.distributed import ALONE, World, joined
from harness.engine.sample import Samples
from harness.engine.train import Trainer, train
from harness.files import read_jsonl
from harness.method.precision import matmul_precision
from harness.method.randomness import generator
from harness.networks import build
from harness.networks.build import build_net, build_objective
from harness.process_group import ProcessPlace, file_url

STEPS = 8
DATASET = make_dataset(50)
EVERY_STEP = Resources(log_every=1)
CAUTIOUS = Resources(log_every=1, checkpoint_minutes=1e-6)
SAMPLERS = {"flow": "heun", "ddpm": "ancestral", "meanflow": "average-velocity"}


def regularizer(kind: str, noise: str | None = None, stop: int | None = None) -> Regularizer:
    return Regularizer(kind=kind, loss="infonce-l2", lambda_=0.5, blocks=(1,), group=4, tau=0.5, noise=noise, stop=stop)


def alignment(stop: int | None = None, **further: Any) -> Alignment:
    settings = {"loss": "cosine", "coefficient": 0.5, "block": 1, "encoder": "own-vit", "own": OWN, "stop": stop}
    return Alignment(**settings | further)


ALIGNED, STOPPING = "dispersive and aligned", "dispersive until step 7 and aligned as iREPA and SARA until step 5"
EVERYTHING = "these two, and every rival"
SARA = alignment(stop=5, kernel=3, alpha=0.6, loss="sara", sara=SaraSettings(width=8))
ARMS = {
    "baseline": {},
    "dispersive": {"regularizer": regularizer("dispersive")},
    "contrastive": {"regularizer": regularizer("contrastive", "independent")},
    ALIGNED: {"regularizer": regularizer("dispersive"), "alignment": alignment(hidden=24)},
    STOPPING: {"regularizer": regularizer("dispersive", stop=7), "alignment": SARA},
    **{kind: {"terms": (specs.rival(kind),)} for kind in specs.RIVALS},
}
LONG = specs.make_spec().model.model_copy(update={"residuals": "long"})
ARMS["diversedit"]["model"] = LONG
ARMS[EVERYTHING] = ARMS["diversedit"] | ARMS[STOPPING] | {"terms": tuple(map(specs.rival, specs.RIVALS))}
RUNS = [(process, arm) for process in SAMPLERS for arm in ("baseline", "dispersive", "contrastive")]
RUNS += [("flow", ALIGNED), ("flow", STOPPING), ("meanflow", STOPPING), *(("flow", kind) for kind in specs.RIVALS)]
KILLED = [*((process, "dispersive") for process in SAMPLERS), ("flow", EVERYTHING)]
RUNS += [("shortcut", "dispersive"), ("imm", "contrastive"), ("consistency", "dispersive")]


def make_spec(process: str, arm: str) -> TrainSpec:
    return specs.make_spec(process, **ARMS[arm], optimizer=Optimizer(learning_rate=1e-4), batch=16, label_drop=0.3)


def train_all(folder: Path, resources: Resources, world: World = ALONE, steps: int = STEPS) -> None:
    for process, arm in RUNS:
        here = folder / process / arm
        encoder = make_encoder(DATASET) if "alignment" in ARMS[arm] else None
        train(make_spec(process, arm), DATASET, here, here / "log", {steps}, resources, nothing, world, encoder)


def draw(process: str, images: range, world: World = ALONE) -> Samples | None:
    spec = make_spec(process, "baseline")
    net = build_net(spec).initialise(0)
    for name, weight in net.named_parameters():
        weight.data += 0.05 * torch.randn(weight.shape, generator=generator(0, name, 0))
    evaluation = make_eval(images.start, len(images), method=SAMPLERS[process], intervals=3)
    return sample(Calm(net) if process == "ddpm" else net, spec, evaluation, nothing, world)


def final_weights(folder: Path) -> dict[str, Tensor]:
    return load_file(weights_path(folder, STEPS))


def log(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_jsonl(folder / "log")]


def assert_alike(one: Path, other: Path) -> None:
    """Weights to 1e-5, and every number of the log."""
    weights, weights2 = final_weights(one), final_weights(other)
    assert weights.keys() == weights2.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, weights2[name], rtol=0, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
    assert len(log(one)) == STEPS
    for line, line2 in zip(log(one), log(other), strict=True):
        assert line == pytest.approx(line2, rel=1e-5, abs=1e-5)


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """Return checkpoints of all runs after two steps of one process.

    In the first step the patch embedding's bias has a gradient that is zero but for its rounding (the head is zero,
    and distances ignore what all samples share), and Adam makes a whole step of whatever it is.
    """
    folder = tmp_path_factory.mktemp("begun")
    train_all(folder, EVERY_STEP, ALONE, 2)
    return folder


@pytest.fixture(scope="module")
def alone(begun, tmp_path_factory) -> Path:
    """Return all runs as one process makes them."""
    folder = tmp_path_factory.mktemp("alone")
    shutil.copytree(begun, folder, dirs_exist_ok=True)
    train_all(folder, EVERY_STEP)
    return folder


# The same run, whoever shares it.


@pytest.mark.slow
def test_micro_batches_are_the_same_run(begun, alone, tmp_path):
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    train_all(tmp_path, EVERY_STEP.model_copy(update={"micro_batch": 4}))
    for process, arm in RUNS:
        assert_alike(alone / process / arm, tmp_path / process / arm)


@pytest.mark.slow
def test_two_processes_are_the_same_run_and_draw_the_same_pixels(begun, alone, tmp_path):
    whole, micro = tmp_path / "whole", tmp_path / "micro"
    for folder in (whole, micro):
        shutil.copytree(begun, folder)
    assert end(start(2, tmp_path, share_everything, whole, micro)) == [0, 0]
    for process, arm in RUNS:
        assert_alike(alone / process / arm, whole / process / arm)
        assert_alike(alone / process / arm, micro / process / arm)
    for process in SAMPLERS:
        for images in (range(30, 94), range(5, 300)):  # two tiles, and an odd number of them
            drawn = np.load(whole / f"{process}-{len(images)}.npy")
            np.testing.assert_array_equal(drawn, draw(process, images).images)


def share_everything(whole: Path, micro: Path, world: World) -> None:
    train_all(whole, EVERY_STEP, world)
    train_all(micro, EVERY_STEP.model_copy(update={"micro_batch": 4}), world)
    for process in SAMPLERS:
        for images in (range(30, 94), range(5, 300)):
            drawn = draw(process, images, world)
            assert (drawn is None) == (not world.leads)
            if drawn is not None:
                assert drawn.nfe == {"flow": 6, "ddpm": 3, "meanflow": 3}[process]
                np.save(whole / f"{process}-{len(images)}.npy", drawn.images)


def test_64_images_are_the_same_however_they_are_cut():
    for process in SAMPLERS:
        whole = draw(process, range(64)).images
        assert len(np.unique(whole)) > 50
        for cut in (7, 32):
            parts = [draw(process, range(64)[first : first + cut]).images for first in range(0, 64, cut)]
            np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_shares_are_the_whole_batch_and_prepared_ahead_they_are_the_same():
    spec, dataset = make_spec("meanflow", "contrastive"), DATASET
    objective = build_objective(spec)

    def drawn(world: World, micro_batch: int | None, steps: list[int]) -> list[Tensor]:
        batches = Batches(spec, dataset, objective, world, micro_batch)
        parts = [part for step in steps for part in batches.get(step)]
        tensors = [
            (b.x, b.y, b.draws.t, b.draws.noise, b.draws.dropped, b.draws.own["regularizer"]["noise"]) for b in parts
        ]
        return [torch.cat(column) for column in zip(*tensors, strict=True)]

    whole = drawn(ALONE, None, [7])
    shares = [drawn(World(rank, 2), 4, [7]) for rank in range(2)]
    assert all(torch.equal(a, torch.cat(b)) for a, b in zip(whole, zip(*shares, strict=True), strict=True))
    ahead, jumping = drawn(ALONE, None, [5, 6, 7]), drawn(ALONE, None, [5, 9, 6, 2, 7])
    assert all(
        torch.equal(a[-16:], b) and torch.equal(c[-16:], b) for a, b, c in zip(ahead, whole, jumping, strict=True)
    )


# The losses as a library, among processes.


def library_gradients(world: World, group: int | None, gather: bool) -> Tensor:
    """Return the gradient of a network's first layer, of a share of 8 samples, under DistributedDataParallel."""
    torch.manual_seed(0)
    net: nn.Module = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    x, view = torch.randn(2, 8, 3, 6, dtype=torch.float64).chunk(world.size, 1)[world.rank]
    net = DistributedDataParallel(net) if world.size > 1 else net
    disperse = DispersiveLoss(group=group, gather=gather)
    contrast = ContrastiveLoss("hinge", epsilon=3.0, group=group, gather=gather)
    with tap(net, "1") as features:
        out = net(torch.cat((x, view)))
    z1, z2 = features["1"].chunk(2)
    (out.square().mean() + disperse(z1) + contrast(z1, z2)).backward()
    return next(net.parameters()).grad


def share_library(folder: Path, world: World) -> None:
    gathered, local = library_gradients(world, None, True), library_gradients(world, None, False)
    if world.leads:
        save_file({"gathered": gathered, "local": local}, folder / "gradients")


@pytest.mark.slow
def test_pairs_among_two_processes_or_inside_each_have_the_gradient_of_one_process(tmp_path):
    assert end(start(2, tmp_path, share_library, tmp_path)) == [0, 0]
    two = load_file(tmp_path / "gradients")
    torch.testing.assert_close(two["gathered"], library_gradients(ALONE, None, True), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(two["local"], library_gradients(ALONE, 4, False), rtol=1e-9, atol=1e-12)
    assert not torch.allclose(two["gathered"], two["local"])


# Killed.


@pytest.mark.slow
def test_one_killed_process_ends_both_and_the_run_goes_on_bit_for_bit(tmp_path):
    """kill −9 at random steps of every family, now one of two processes, now both."""
    whole, killed, chance = tmp_path / "whole", tmp_path / "killed", random.Random(0)
    assert end(start(2, whole, train_to_be_killed, whole)) == [0, 0]
    for process, arm in KILLED:
        progress = killed / process / arm / "log"
        for victims, aim in (((chance.randrange(2),), chance.randrange(1, 12)), ((0, 1), chance.randrange(12, 24))):
            team = start(2, killed, train_to_be_killed, killed)
            while all(member.is_alive() for member in team) and len(read_jsonl(progress)) < aim:
                time.sleep(0.002)
            assert all(member.is_alive() for member in team), "the run ended before it could be killed"
            for rank in victims:
                team[rank].kill()
            codes = end(team, seconds=60)
            assert [codes[rank] for rank in victims] == [-signal.SIGKILL] * len(victims)
            assert None not in codes
            assert 0 not in codes
    assert end(start(2, killed, train_to_be_killed, killed)) == [0, 0]
    for process, arm in KILLED:
        ours, theirs = killed / process / arm, whole / process / arm
        weights = final_weights(theirs)
        assert all(torch.equal(weight, weights[name]) for name, weight in final_weights(ours).items())
        assert log(ours) == log(theirs)


@pytest.mark.slow
def test_two_processes_that_stop_between_two_lines_of_the_log_write_the_same_next_line(tmp_path):
    """The processes have different samples, hence sums; the checkpoint keeps those of both."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert end(start(2, whole, train_and_stop, whole, False)) == [0, 0]
    assert end(start(2, stopped, train_and_stop, stopped, True)) == [0, 0]
    assert latest_step(stopped) == 6
    assert end(start(2, stopped, train_and_stop, stopped, False)) == [0, 0]
    assert all(torch.equal(weight, final_weights(whole)[name]) for name, weight in final_weights(stopped).items())
    assert [line["step"] for line in log(whole)] == list(range(1, 9))  # the first ten steps, each alone
    assert log(stopped) == log(whole)


@pytest.mark.slow
def test_a_gradient_is_waited_for_shortly_and_a_decision_for_days(tmp_path):
    places = [ProcessPlace(rank, 2, rank, file_url(tmp_path / "rendezvous")) for rank in range(2)]
    processes = [forkserver().Process(target=lag, args=(place,)) for place in places]
    for process in processes:
        process.start()
    assert end(processes, seconds=120)[0] == GAVE_UP


GAVE_UP = 7


def lag(place: ProcessPlace) -> None:
    """Be three seconds late for a decision and then for a mean, among processes that wait a second for a mean."""
    distributed.PATIENCE = timedelta(seconds=1)
    with joined(place) as world:
        for share in (lambda: world.any(False), lambda: world.mean({"gradient": torch.ones(1)})):
            time.sleep(3 * world.rank)
            try:
                share()
            except RuntimeError as error:
                os._exit(GAVE_UP if "imed out" in str(error) else 1)


class Stopped(Exception):
    pass


def train_and_stop(folder: Path, stop: bool, world: World) -> None:
    """Train with a line at every fourth step, and stop after the sixth, where asked."""
    saves = []

    def on_step(save: Callable[[], None]) -> None:
        saves.append(save)
        if stop and len(saves) == 6:
            save()
            raise Stopped

    spec, seldom = make_spec("flow", "dispersive"), Resources(log_every=4)
    with suppress(Stopped):
        train(spec, DATASET, folder, folder / "log", {STEPS}, seldom, nothing, world, on_step=on_step)


def train_to_be_killed(folder: Path, world: World) -> None:
    """Train long enough to be killed on the way, with a checkpoint at every step."""
    for process, arm in KILLED:
        here = folder / process / arm
        encoder = make_encoder(DATASET) if "alignment" in ARMS[arm] else None
        spec = make_spec(process, arm)
        train(spec, DATASET, here, here / "log", {STEPS, 30}, CAUTIOUS, nothing, world, encoder)


# Blocks.


@pytest.mark.parametrize("process", ["flow", "ddpm"])
def test_blocks_computed_again_give_the_same_gradient(process: str):
    trainers = [
        Trainer(
            make_spec(process, "contrastive").model_copy(update={"model": LONG}),
            DATASET,
            CPU,
            Resources(checkpoint_blocks=again),
        )
        for again in (False, True)
    ]
    counts = [0, 0]

    def count(which: int) -> None:
        counts[which] += 1

    for which, trainer in enumerate(trainers):
        trainer.net.blocks[0].mlp.register_forward_hook(lambda *_, which=which: count(which))
        for step in range(3):
            trainer.step(step)
    plain, again = (trainer.state() for trainer in trainers)
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert counts == [6, 12]  # two views, and each once more on the way back


@pytest.mark.slow
def test_compiled_blocks_give_the_same_gradient_under_the_jvp_too():
    """One block, because compiling takes a minute; MeanFlow's passes without the JVP are flow matching's."""
    spec = make_spec("meanflow", "dispersive").model_copy(update={"model": Model(depth=1, width=16, heads=2, patch=4)})
    plain, compiled = (Trainer(spec, DATASET, CPU, Resources(compile=compiled)) for compiled in (False, True))
    for step in range(2):
        terms, terms2 = plain.step(step), compiled.step(step)
        assert float(terms["loss"]) == pytest.approx(float(terms2["loss"]), abs=1e-5)
    for weight, weight2 in zip(plain.net.parameters(), compiled.net.parameters(), strict=True):
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, weight2.grad, rtol=1e-4, atol=1e-6)
    assert compiled.weights().keys() == plain.weights().keys()


@pytest.mark.slow
def test_a_compiled_block_is_one_graph_under_ddp_with_and_without_the_loss(tmp_path):
    """A block of width 768 is larger than one of DDP's buckets, where torch would cut its graph."""
    assert end(start(2, tmp_path, count_graphs, tmp_path)) == [0, 0]
    for rank in range(2):
        counted = json.loads((tmp_path / f"graphs-{rank}.json").read_text())
        assert counted == {"graphs": [1, 1], "calls": [2, 2], "same": True}  # none in the look at the health


def count_graphs(folder: Path, world: World) -> None:
    build.BACKEND, counts, calls, used = CountedGraphs(), [], [], set()
    for arm in ("baseline", "dispersive"):
        build.BACKEND.clear()
        model = Model(depth=2, width=768, heads=2, patch=4)
        spec = make_spec("flow", arm).model_copy(update={"model": model, "batch": 8})
        trainer = Trainer(spec, DATASET, CPU, Resources(compile=True), world)
        with matmul_precision(spec.matmul):
            trainer.step(0, look=arm != "baseline")
        counts.append(build.BACKEND.count)
        calls.append(build.BACKEND.calls)
        used |= set(build.BACKEND.used)
    counted = {"graphs": counts, "calls": calls, "same": len(used) == 1}
    (folder / f"graphs-{world.rank}.json").write_text(json.dumps(counted))


# From the command line.


@pytest.mark.slow
@pytest.mark.long
def test_worker_and_torchrun_give_the_metrics_of_one_process(tmp_path, scratch):
    shutil.copytree(GRIDS, tmp_path / "grids")
    harness = ["-m", "harness.cli", "run", "grids/convergence.yaml", "--scale", "smoke", "--study"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *harness]
    commands = {
        "one": [sys.executable, *harness, "one"],
        "team": [sys.executable, *harness, "team", "--set", "resources.processes=2"],
        "torchrun": [*torchrun, "torchrun"],
        "again": [*torchrun, "torchrun"],
        "torn": [*torchrun, "torn", "--set", "regularizer.group=32"],
    }
    processes = {name: call(tmp_path, command) for name, command in commands.items()}
    assert processes["torchrun"].stdout.count("2/2 trainings") == 1  # one process talks
    assert "everything is done already" in processes["again"].stdout
    assert (
        "resources.processes: 2 processes cannot share a batch of 32 evenly in whole groups" in processes["torn"].stderr
    )
    assert not (tmp_path / "results" / "torn").exists()
    measured = {study: metrics(tmp_path / "results" / study) for study in ("one", "team", "torchrun")}
    assert len(measured["one"]) == 8
    for study in ("team", "torchrun"):
        assert measured[study].keys() == measured["one"].keys()
        for name, values in measured["one"].items():
            assert measured[study][name] == pytest.approx(values, rel=1e-3, abs=1e-4)


def call(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(GRIDS.parent), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=300)


def metrics(study: Path) -> dict[str, dict[str, float]]:
    return {path.stem: json.loads(path.read_text())["metrics"] for path in study.glob("*/evals/*.json")}
