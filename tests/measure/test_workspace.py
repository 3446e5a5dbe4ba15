"""What is measured is the same after any number of kills, and by any number of processes; nothing is done twice."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.forked import forkserver
from support.stand_in import stand_in
from support.trainings import end, start

from harness import files
from harness.engine.distributed import ALONE, World
from harness.errors import UserError
from harness.measure import evaluate, images
from harness.measure.evaluate import MeasureRequest, measure
from harness.measure.extractors import extractor
from harness.measure.images import Images
from harness.measure.metrics import pairs
from harness.measure.workspace import Workspace


def small_parts(set_to: Callable[[object, str, object], None]) -> None:
    """Cut everything into several parts, whose blocks do not fit them."""
    set_to(evaluate, "extractor", stand_in)
    set_to(extractor, "PART", 32)
    for name, size in (("ROWS", 8), ("COLUMNS", 7), ("PART", 24)):
        set_to(pairs, name, size)


def pictures(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 8, 8), np.uint8)


def samples() -> Images:
    return images.of_array(pictures(50, 1), "samples", "some", np.arange(50) % 3)


def measured(folder: Path, world: World = ALONE, content: Images | None = None) -> dict:
    reference = folder / "real.npz"
    if not reference.is_file() and world.leads:
        np.savez(reference, arr_0=pictures(60, 2).transpose(0, 2, 3, 1), arr_1=np.arange(60) // 20)
    world.decide(lambda: None)
    scratch = folder / "measured"
    request = MeasureRequest(
        str(reference), "any", folder, folder / "cache", device="cpu", batch=16, part=20, scratch=scratch
    )
    return measure(content or samples(), request, world)[0]


class Killed(BaseException):
    """Raised as a file is written, and nothing catches it."""


def test_whoever_is_killed_at_any_stage_goes_on_from_there(tmp_path, monkeypatch):
    small_parts(monkeypatch.setattr)
    replace, kept = files.replace, list[str]()

    def write(path: Path, make: Callable[[Path], object]) -> None:
        replace(path, make)
        kept.append(path.name)
        if kill:
            raise Killed

    monkeypatch.setattr(files, "replace", write)
    kill = False
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = measured(tmp_path / "whole")
    stages, kill = list(kept), True
    assert {"made-of.json", "fid.json", "kid.json", "vendi.json", "000001.npz"} <= set(stages)
    kept.clear()
    for _ in stages:
        with pytest.raises(Killed):
            measured(tmp_path / "killed")
    assert measured(tmp_path / "killed") == whole
    assert kept == stages  # each part once, in the same order, though every one was the last of its process
    assert len(stages) > 20


def test_other_samples_find_nothing_of_the_former(tmp_path, monkeypatch):
    small_parts(monkeypatch.setattr)
    measured(tmp_path)
    found = {name: files.read_json(tmp_path / "measured" / f"{name}.json") for name in ("fid", "vendi")}
    measured(tmp_path, content=images.of_array(pictures(50, 5), "samples", "others", np.arange(50) % 3))
    for name, values in found.items():
        assert files.read_json(tmp_path / "measured" / f"{name}.json") != values


def _die(folder: str, last: int) -> None:
    """Measure, and be killed by the system as soon as so many files are there."""
    small_parts(setattr)
    replace, kept = files.replace, list[Path]()

    def write(path: Path, make: Callable[[Path], object]) -> None:
        replace(path, make)
        kept.append(path)
        if len(kept) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    files.replace = write
    measured(Path(folder))


@pytest.mark.slow
def test_the_system_may_kill_it(tmp_path, monkeypatch):
    """In the reference's features, and then in the features of the samples."""
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    for last in (1, 12):
        process = forkserver().Process(target=_die, args=(str(tmp_path / "killed"), last))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    small_parts(monkeypatch.setattr)
    assert measured(tmp_path / "killed") == measured(tmp_path / "whole")


def _worker(folder: Path, world: World) -> None:
    small_parts(setattr)
    files.write_json(folder / f"rank{world.rank}.json", measured(folder, world))
    try:
        Workspace(world).parts(2, lambda number: {} if number == 0 else _refuse())
    except UserError as error:
        files.write_json(folder / f"error{world.rank}.json", str(error))


def _refuse() -> dict:
    raise UserError("image 7 cannot be read")


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one_to_the_last_bit(tmp_path, monkeypatch):
    assert end(start(2, tmp_path / "two", _worker, tmp_path / "two")) == [0, 0]
    first, second = (files.read_json(tmp_path / "two" / f"rank{rank}.json") for rank in (0, 1))
    small_parts(monkeypatch.setattr)
    assert first == second == measured(tmp_path)
    problems = {files.read_json(tmp_path / "two" / f"error{rank}.json") for rank in (0, 1)}
    assert problems == {"image 7 cannot be read"}
