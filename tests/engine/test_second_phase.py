"""A second phase: what it trains and keeps, that it goes on bit for bit, and that it is the same run however shared."""

import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from support.specs import make_eval, make_spec, second_phase
from support.trainings import CPU, end, make_dataset, make_trainer, nothing, sample, start

from harness.checkpoint_paths import state_path, weights_path
from harness.config.settings.resources import Resources
from harness.config.spec import TrainSpec
from harness.engine.distributed import ALONE, World
from harness.engine.second_phase import SecondPhaseTrainer
from harness.engine.train import train
from harness.errors import UserError
from harness.files import read_jsonl, sha256_of
from harness.networks import checkpoint
from harness.networks.build import build_net

STEPS, DATASET = 5, make_dataset()
CAUTIOUS = Resources(log_every=1, checkpoint_minutes=1e-6)
FIRST = make_spec()
SPEC = second_phase(FIRST)


def first_weights(folder: Path) -> Path:
    """Keep the weights of a first phase, each block of which acts, where a second one is to go on from them."""
    trainer = make_trainer(FIRST, DATASET)
    trainer.net.x_embedder.proj.bias.data += 1  # so that the average is another network
    checkpoint.save_weights(folder / "first", 3, trainer.weights())
    checkpoint.keep_frozen(weights_path(folder / "first", 3), folder)
    return folder


def train_second(
    folder: Path, spec: TrainSpec = SPEC, on_progress=nothing, resources: Resources = CAUTIOUS, world: World = ALONE
) -> None:
    extra = {"world": world, "trainer": SecondPhaseTrainer}
    train(spec, DATASET, folder, folder / "log", {2, STEPS}, resources, on_progress, **extra)


def log(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_jsonl(folder / "log")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = first_weights(tmp_path_factory.mktemp("whole"))
    train_second(folder)
    return folder


def test_checkpoints_hold_the_tokens_and_where_the_rest_comes_from(whole):
    frozen = load_file(weights_path(whole / "first", 3))
    names = {"soft_tokens.of_class", "soft_tokens.of_time"}
    moments = {f"{moment}.{name}" for moment in ("exp_avg", "exp_avg_sq") for name in names}
    for path, held in ((weights_path(whole, STEPS), names), (state_path(whole, STEPS), names | moments)):
        assert load_file(path).keys() == held
        with safe_open(path, "pt") as file:
            assert file.metadata() == {"frozen": sha256_of(weights_path(whole / "first", 3))}
    net = build_net(SPEC)
    net.load_state_dict(checkpoint.load_weights(whole, STEPS, "ema"))
    for name, weight in net.state_dict().items():
        if name in names:
            assert not torch.equal(weight, checkpoint.load_weights(whole, 2, "ema")[name])
        else:
            assert torch.equal(weight, frozen[f"ema.{name}"]), name
    drawn, plain = (sample(each, SPEC, make_eval(0, 8, method="heun", intervals=2)).images for each in (net, bare(net)))
    assert (drawn != plain).any()


def bare(net):
    without = build_net(FIRST)
    without.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("soft_tokens")})
    return without


def test_the_log_says_how_well_classes_are_told_apart(whole):
    lines = log(whole)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[-1].keys() == {"step", "loss", "denoising", "contrast", "mismatched", "right", "gradient_norm"}
    assert all(0 <= line["right"] <= 1 and line["gradient_norm"] > 0 for line in lines)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stopped_phase_goes_on_bit_for_bit_and_with_no_other_network(precision, tmp_path):
    class Stopped(Exception):
        pass

    def stop(step: int) -> None:
        if step == 3:
            raise Stopped

    spec = SPEC.model_copy(update={"precision": precision})
    one, two = (first_weights(tmp_path / name) for name in ("one", "two"))
    train_second(one, spec)
    with pytest.raises(Stopped):
        train_second(two, spec, stop)
    kept = weights_path(two, 0).read_bytes()
    weights_path(two, 0).unlink()
    checkpoint.save_weights(two, 0, make_trainer(FIRST.model_copy(update={"seed": 4}), DATASET).weights())
    with pytest.raises(UserError, match=r"weights-00000000.safetensors: sha256 \w{12}…, and what was trained goes on"):
        train_second(two, spec)
    weights_path(two, 0).write_bytes(kept)
    train_second(two, spec)
    assert weights_path(one, STEPS).read_bytes() == weights_path(two, STEPS).read_bytes()
    assert log(one) == log(two)


def test_micro_batches_are_the_same_phase(whole, tmp_path):
    train_second(first_weights(tmp_path), resources=CAUTIOUS.model_copy(update={"micro_batch": 4}))
    assert_alike(whole, tmp_path)


def assert_alike(one: Path, other: Path) -> None:
    torch.testing.assert_close(*(load_file(weights_path(each, STEPS)) for each in (one, other)), rtol=0, atol=1e-5)
    for line, line2 in zip(log(one), log(other), strict=True):
        assert line == pytest.approx(line2, rel=1e-5, abs=1e-5)


def test_a_network_that_does_not_see_the_tokens_stops_the_run():
    trainer = SecondPhaseTrainer(SPEC, DATASET, CPU)  # its blocks are the identity, and its head is zero
    with pytest.raises(UserError, match="soft_tokens: its gradient is zero at the first step"):
        trainer.step(0)


def share(folder: Path, world: World) -> None:
    train_second(folder, on_progress=lambda step: time.sleep(0.02), world=world)


@pytest.mark.slow
def test_two_processes_are_the_same_phase_and_go_on_bit_for_bit_after_a_kill(whole, tmp_path):
    """The matrices are of groups of four, of which each process has one."""
    one, killed = (first_weights(tmp_path / name) for name in ("one", "killed"))
    assert end(start(2, one, share, one)) == [0, 0]
    assert_alike(whole, one)
    team = start(2, killed, share, killed)
    while all(member.is_alive() for member in team) and len(read_jsonl(killed / "log")) < 2:
        time.sleep(0.002)
    assert all(member.is_alive() for member in team)
    for member in team:
        member.kill()
    assert end(team) == [-signal.SIGKILL] * 2
    assert end(start(2, killed, share, killed)) == [0, 0]
    assert weights_path(one, STEPS).read_bytes() == weights_path(killed, STEPS).read_bytes()
    assert log(one) == log(killed)


@pytest.mark.slow
@pytest.mark.long
def test_compiled_blocks_give_the_same_gradients():
    plain, compiled = (
        SecondPhaseTrainer(SPEC, DATASET, CPU, Resources(compile=compiled)) for compiled in (False, True)
    )
    for trainer in (plain, compiled):
        trainer.net.load_state_dict(make_trainer(FIRST, DATASET).net.state_dict(), strict=False)
    for step in range(2):
        torch.testing.assert_close(compiled.step(step), plain.step(step), atol=1e-5, rtol=1e-4)
    gradients = ([p.grad for p in trainer.net.soft_tokens.parameters()] for trainer in (plain, compiled))
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-3)
