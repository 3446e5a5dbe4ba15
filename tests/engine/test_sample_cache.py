"""Measuring that is stopped goes on with the images that were drawn: none is drawn twice, and none is another."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from support.places import GRIDS
from support.signals import restored_handlers
from support.specs import make_spec
from support.trainings import end, nothing, start

from harness.checkpoint_paths import weights_path
from harness.config.grid import load_table
from harness.config.settings.data_settings import EvaluationSettings
from harness.config.settings.process_settings import SamplerSettings
from harness.config.spec import EvalSpec, Model, eval_id, shard_of, train_id
from harness.engine import sample_cache
from harness.engine.distributed import ALONE, World
from harness.engine.sample import Sampler, Samples
from harness.engine.sample_cache import SampleFile, join, kept_images, saved_images
from harness.jobs.failures import class_of
from harness.jobs.job import Job, jobs_for
from harness.jobs.preemption import PreemptionHandler
from harness.networks import checkpoint
from harness.networks.build import build_net
from harness.store.store import Store

SPEC = make_spec(model=Model(depth=1, width=16, heads=2, patch=4))
HEUN = SamplerSettings(method="heun", intervals=3)  # six evaluations
EVALUATION = EvalSpec(step=7, sampler=HEUN, evaluation=EvaluationSettings(samples=314), first_image=40)  # tiles 0 to 5
NAME = eval_id(train_id(SPEC), EVALUATION)
GRID = GRIDS / "convergence.yaml"


class Stopped(BaseException):
    """As SystemExit, which submitit raises when it has queued a job again."""


def keep_weights(folder: Path, seed: int = 0) -> None:
    net = build_net(SPEC).initialise(seed)
    torch.manual_seed(seed)
    tensors = {name: t + 0.1 * torch.randn(t.shape) for name, t in net.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save_weights(folder, 7, {f"ema.{name}": t for name, t in tensors.items()})


def draw(folder: Path, on_step: Callable[..., None] = nothing, world: World = ALONE) -> Samples | None:
    return Sampler(SPEC, EVALUATION, world, on_step=on_step).draw(folder)


class Evaluations:
    """Counts them, and saves and stops before one of them."""

    def __init__(self, last: int | None = None) -> None:
        self.last, self.count = last, 0

    def __call__(self, save: Callable[[], None]) -> None:
        if self.count == self.last:
            save()
            raise Stopped
        self.count += 1


@pytest.fixture
def whole(tmp_path) -> Samples:
    """Return the images as they are drawn at one go, the weights being in both folders."""
    keep_weights(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "here")
    return draw(tmp_path / "whole")


@pytest.fixture
def here(tmp_path) -> Path:
    return tmp_path / "here"


def assert_same(drawn: Samples, whole: Samples) -> None:
    np.testing.assert_array_equal(drawn.images, whole.images)
    assert drawn.images.shape == (314, 1, 8, 8)
    assert len({image.tobytes() for image in drawn.images}) == 314
    assert (drawn.nfe, drawn.labels.tolist()) == (whole.nfe, whole.labels.tolist()) == (6, whole.labels.tolist())


def stop_at(folder: Path, evaluation: int) -> int:
    """Draw until before an evaluation, and return how many images are kept then."""
    with pytest.raises(Stopped):
        draw(folder, Evaluations(evaluation))
    (count,) = saved_images(folder).values()
    return count


def test_what_is_stopped_again_and_again_draws_the_same_and_no_tile_twice(whole, here):
    assert [stop_at(here, evaluation) for evaluation in (3, 8, 5, 17)] == [0, 64, 64, 192]  # within tiles 0, 1, 1 and 3
    rest = Evaluations()
    with pytest.raises(Stopped):
        draw(here, Evaluations(18))  # when all are there
    assert_same(draw(here, rest), whole)
    assert rest.count == 1  # the one after the last


@pytest.mark.slow
def test_a_process_that_drew_none_finds_the_same_images(whole, tmp_path):
    first = EVALUATION.first_image % EVALUATION.tile
    assert np.array_equal(kept_images(tmp_path / "whole", NAME, first, whole.images.shape), whole.images)


def test_another_number_of_processes_goes_on(whole, here):
    assert 0 not in end(start(2, here, hear_a_signal, here))
    (kept,) = saved_images(here).values()
    assert kept in (128, 256)  # whole rounds of two tiles: processes ask each other for signals now and then
    assert stop_at(here, 7) == kept + 64
    assert end(start(2, here, draw_rest, here)) == [0, 0]  # of the last round one draws what is not wanted
    assert (here / f"samples-{NAME}.bin").stat().st_size == 6 * 64 * 64
    assert np.load(here / "rest.npy").tobytes() == whole.images.tobytes()


def hear_a_signal(folder: Path, world: World) -> None:
    """Draw; in the second round of two tiles a signal comes to one process."""
    os.environ["SUBMITIT_EXECUTOR"] = "slurm"
    evaluations = 0

    def stop(*_: object) -> None:
        raise Stopped

    signal.signal(signal.SIGUSR2, stop)
    signal.signal(signal.SIGTERM, stop)

    def on_step(save: Callable[[], None]) -> None:
        nonlocal evaluations
        evaluations += 1
        if evaluations == 9 and not world.leads:
            os.kill(os.getpid(), signal.SIGUSR2)
        notice.on_step(save)

    with PreemptionHandler(world) as notice:
        draw(folder, on_step, world)


def draw_rest(folder: Path, world: World) -> None:
    drawn = draw(folder, world=world)
    if world.leads:
        assert drawn is not None
        assert drawn.nfe == 6
        np.save(folder / "rest.npy", drawn.images)


@pytest.mark.waits
def test_a_signal_keeps_what_is_drawn_and_is_then_handed_on(whole, here, monkeypatch):
    heard: list[dict[str, int]] = []

    def hear(*_: object) -> None:
        heard.append(saved_images(here))
        raise Stopped

    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    evaluations = 0

    def on_step(save: Callable[[], None]) -> None:
        nonlocal evaluations
        evaluations += 1
        if evaluations == 16:
            os.kill(os.getpid(), signal.SIGUSR2)
        notice.on_step(save)

    with restored_handlers():
        signal.signal(signal.SIGUSR2, hear)
        signal.signal(signal.SIGTERM, hear)
        with pytest.raises(Stopped), PreemptionHandler(ALONE) as notice:
            draw(here, on_step)
        assert signal.getsignal(signal.SIGUSR2) is hear
    assert heard == [{f"samples-{NAME}.json": 128}]
    assert evaluations == 16
    assert_same(draw(here), whole)


def test_what_took_long_is_kept_without_a_signal_and_its_time_is_counted(whole, here, monkeypatch):
    assert not saved_images(here.with_name("whole"))  # that was drawn in no time

    def kill(_: Callable[[], None]) -> None:
        if sum(saved_images(here).values()) == 128:
            raise Stopped

    monkeypatch.setattr(sample_cache, "SECONDS", 0.0)
    with pytest.raises(Stopped):
        draw(here, kill)
    record = json.loads((here / f"samples-{NAME}.json").read_text())
    drawn = draw(here)
    assert drawn.earlier == record["seconds"] > 0
    assert_same(drawn, whole)


def cut_off(here: Path, pixels: Path, record: Path) -> None:
    os.truncate(pixels, 128 * 64 - 1)


def flip(here: Path, pixels: Path, record: Path) -> None:
    with pixels.open("r+b") as file:
        file.seek(70 * 64)
        byte = file.read(1)[0]
        file.seek(70 * 64)
        file.write(bytes([byte ^ 1]))


def tear(here: Path, pixels: Path, record: Path) -> None:
    record.write_text(record.read_text()[:30])


def misspell(here: Path, pixels: Path, record: Path) -> None:
    record.write_text(record.read_text().replace("checksum", "sum"))


def lose(here: Path, pixels: Path, record: Path) -> None:
    pixels.unlink()


def make_weights_anew(here: Path, pixels: Path, record: Path) -> None:
    keep_weights(here, seed=1)


@pytest.mark.parametrize("damage", [cut_off, flip, tear, misspell, lose, make_weights_anew])
def test_what_is_damaged_or_of_other_weights_is_drawn_anew(whole, here, damage):
    assert stop_at(here, 14) == 128
    damage(here, here / f"samples-{NAME}.bin", here / f"samples-{NAME}.json")
    evaluations = Evaluations()
    drawn = draw(here, evaluations)
    assert evaluations.count == 6 * 6 + 1
    same = (drawn.images == whole.images).all()
    assert same == (damage is not make_weights_anew)


def test_a_full_disk_is_told_as_such(here, whole):
    drawn = SampleFile(here, NAME, weights_path(here, 7))
    assert drawn.begin() == 0
    with Path("/dev/full").open("wb") as drawn.file, pytest.raises(OSError, match="No space left") as full:  # noqa: PT012
        drawn.add([np.ones((64, 3, 64, 64), np.uint8)], 6)
        drawn.save()
    assert class_of(full.value) == "disk full"
    assert not saved_images(here)


# Shards.


def draw_shards(here: Path, which: list[int], shards: int = 4) -> dict[Path, int]:
    """Draw some of the shards; return how many images each of all has, by its folder."""
    tiles = {here / str(shard): shard_of(EVALUATION.tiles, shard, shards) for shard in range(1, shards + 1)}
    for shard in which:
        Sampler(SPEC, EVALUATION, tiles=tiles[here / str(shard)]).draw_shard(here, here / str(shard))
    return {folder: 64 * len(mine) for folder, mine in tiles.items()}


def test_shards_drawn_in_any_order_are_together_the_images_of_one_process(whole, here):
    assert stop_at(here, 14) == 128  # one process had begun
    counts = draw_shards(here, [3, 1, 4])
    assert list(counts.values()) == [64, 128, 64, 128]
    weights, rest = weights_path(here, 7), Evaluations()
    assert join(here, NAME, weights, counts) == [here / "2"]
    assert saved_images(here) == {f"samples-{NAME}.json": 128}
    draw_shards(here, [2])
    flip(here, here / "4" / f"samples-{NAME}.bin", here)
    assert join(here, NAME, weights, counts) == [here / "4"]
    assert not saved_images(here / "4")  # and is drawn again, alone
    draw_shards(here, [4])
    assert join(here, NAME, weights, counts) == []
    assert_same(draw(here, rest), whole)
    assert rest.count == 1
    assert not any(saved_images(folder) for folder in counts)


def test_a_shard_that_is_stopped_goes_on(whole, here):
    sampler = Sampler(SPEC, EVALUATION, tiles=range(2, 6), on_step=Evaluations(13))
    with pytest.raises(Stopped):
        sampler.draw_shard(here, here / "2")
    assert list(saved_images(here / "2").values()) == [128]
    rest = Evaluations()
    replace(sampler, on_step=rest).draw_shard(here, here / "2")
    assert rest.count == 2 * 6 + 1
    pixels = np.fromfile(here / "2" / f"samples-{NAME}.bin", np.uint8).reshape(256, 1, 8, 8)
    np.testing.assert_array_equal(pixels[:226], whole.images[128 - 40 :])


# The job around it.


@pytest.fixture
def job(tmp_path) -> Job:
    runs = load_table(GRID, "smoke", ["seeds=[0]"]).runs
    return jobs_for(runs[:1], Store(tmp_path / "results", tmp_path / "scratch", "study"), tmp_path / "data")[0]


@pytest.mark.slow
def test_a_job_that_fails_in_measuring_measures_what_it_had_drawn(job, tmp_path, monkeypatch, scratch):
    whole = replace(job, store=Store(tmp_path / "whole", tmp_path / "whole-scratch", "study"))
    assert whole().state == "done"
    monkeypatch.setattr(sample_cache, "SECONDS", 0.0)
    with monkeypatch.context() as broken:
        broken.setattr("harness.jobs.measuring.Measuring.measure", fail)
        assert job().state == "failed"
    assert len(saved_images(job.store.scratch_folder(job.train_id))) == 1
    monkeypatch.setattr(import_module("harness.engine.sample"), "_draw_tile", fail)
    assert job().state == "done"
    assert not list(job.store.scratch.rglob("samples-*"))
    for path in whole.store.root.rglob("evals/*"):
        ours = job.store.root / path.relative_to(whole.store.root)
        if path.suffix == ".json":
            assert {**json.loads(ours.read_text()), "seconds": 0} == {**json.loads(path.read_text()), "seconds": 0}
        else:
            assert ours.read_bytes() == path.read_bytes()


def fail(*_: object) -> None:
    raise KeyError("nothing")
