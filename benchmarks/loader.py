"""Images a second through `LatentDataset`: with batches made four ahead, against one ahead or another checkout.

Each side is a process of its own; they make the same batches in turn and nothing else. Then, in this process, on a
store whose page faults take a millisecond: as it is, and once its files were read in advance.
Run: python benchmarks/loader.py --rounds 7 [--against OTHER_CHECKOUT]
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
from training_step import spec

from harness.config.settings.data_settings import Data
from harness.data.datasets import LatentDataset
from harness.engine import batches
from harness.engine.allocator import keep_freed_memory
from harness.engine.distributed import ALONE
from harness.networks.build import build_objective

ROWS, SHAPE, BATCH = 4096, (8, 32, 32), 256
NAMES = ("moments", "flipped")
GOAL = 5700  # images a second, more than S/2 is expected to learn from on an H200
FAULT, WINDOW, BANDWIDTH = 1e-3, 1 << 16, 1e9  # seconds, bytes that come with a fault, bytes a second read in order


def write(folder: Path) -> None:
    """Write made-up moments, which memory holds from then on."""
    chance = np.random.default_rng(0)
    for name in NAMES:
        array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (ROWS, *SHAPE))
        array[:] = chance.standard_normal(array.shape, np.float32)


def loader(moments: np.ndarray, flipped: np.ndarray) -> Callable[[int], float]:
    """Return what makes the next so many batches, and returns images a second."""
    labels = np.random.default_rng(1).integers(0, 1000, ROWS)
    dataset = LatentDataset("made up", "train", labels, 1000, "", moments, flipped, 0.18215, "mean,logvar")
    data = Data(name="made-up", channels=4, size=32, classes=1000, flip=True)
    train = spec("S", BATCH, "fp32", True).model_copy(update={"data": data})
    made, steps = batches.Batches(train, dataset, build_objective(train), ALONE, None), count()

    def run(number: int) -> float:
        start = time.perf_counter()
        for _ in range(number):
            made.get(next(steps))
        return number * BATCH / (time.perf_counter() - start)

    return run


def serve(folder: Path) -> None:
    """Make as many batches as each line of the standard input says, and print images a second."""
    keep_freed_memory()
    moments, flipped = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in NAMES)
    run = loader(moments, flipped)
    run(8)
    for line in sys.stdin:
        print(run(int(line)), flush=True)


class Side:
    """A process that makes batches with the code of a checkout."""

    def __init__(self, folder: Path, checkout: Path, *words: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        command = [sys.executable, __file__, "--serve", str(folder), *words]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def images_per_second(self, number: int) -> float:
        """Make so many batches."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def compare(folder: Path, against: Path | None, rounds: int, number: int) -> None:
    """Let both sides make batches in turn, and print medians and the median of the ratios."""
    here = Path(__file__).parents[1]
    name = f"{against}" if against else "one ahead"
    sides = {name: Side(folder, against or here, *([] if against else ["--ahead", "1"])), "ours": Side(folder, here)}
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for k in range(rounds):
        for which in list(sides)[:: 1 if k % 2 else -1]:
            speeds[which].append(sides[which].images_per_second(number))
    for which, values in speeds.items():
        print(f"{which}: {statistics.median(values):,.0f} images/s")
    ratios = [ours / theirs for theirs, ours in zip(*speeds.values(), strict=True)]
    print(f"median of the ratios: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    for side in sides.values():
        side.process.communicate()


class ColdStore:
    """An array in a file of which nothing is in memory: what is touched costs a fault, what is read in order does not.

    The faults of one thread follow each other, those of several wait side by side.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.row = array[0].nbytes
        self.warm = np.zeros(-(-array.nbytes // WINDOW), bool)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return a row, after the faults that it takes."""
        windows = slice(index * self.row // WINDOW, -(-(index + 1) * self.row // WINDOW))
        time.sleep(FAULT * int((~self.warm[windows]).sum()) or 0)
        self.warm[windows] = True
        return self.array[index]

    def open(self) -> io.RawIOBase:
        """Return the file, as whoever reads it in advance opens it."""
        return ColdFile(self)


class ColdFile(io.RawIOBase):
    """Reads a `ColdStore` at a bandwidth."""

    def __init__(self, store: ColdStore) -> None:
        self.store, self.at = store, 0

    def seek(self, at: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte, or to the end."""
        self.at = self.store.array.nbytes if whence == io.SEEK_END else at
        return self.at

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Wait for as long as the bytes take."""
        time.sleep(len(buffer) / BANDWIDTH)
        self.store.warm[self.at // WINDOW : -(-(self.at + len(buffer)) // WINDOW)] = True
        return len(buffer)


def cold(folder: Path, number: int) -> None:
    """Print images a second from a cold store, and from one that was read in advance."""
    from harness.data.page_cache import pre_reading

    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in NAMES]
    stores = {f"{name}.npy": ColdStore(array) for name, array in zip(NAMES, arrays, strict=True)}
    speed = loader(*stores.values())(4)  # type: ignore[arg-type]
    print(f"cold, {1000 * FAULT:g} ms a fault of {WINDOW >> 10} KiB: {speed:,.0f} images/s")
    stores = {name: ColdStore(store.array) for name, store in stores.items()}
    run, start = loader(*stores.values()), time.perf_counter()  # type: ignore[arg-type]
    with pre_reading([Path(name) for name in stores], open_file=lambda path: stores[path.name].open()) as thread:
        during = run(4)
        thread.join()
        took = time.perf_counter() - start
        speeds = [run(number) for _ in range(5)]
    assert all(store.warm.all() for store in stores.values())
    print(f"while it is read in advance, {took:.1f} s: {during:,.0f} images/s")
    print(f"after that: {statistics.median(speeds):,.0f} images/s; the goal is {GOAL:,}")


def main() -> None:
    """Print the speeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout of the harness; by default one batch ahead")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ahead", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.ahead:
        batches.AHEAD = chosen.ahead
    if chosen.serve:
        serve(chosen.serve)
        return
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        print(f"batches of {BATCH}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        compare(Path(name), chosen.against, chosen.rounds, chosen.batches)
        cold(Path(name), chosen.batches)


if __name__ == "__main__":
    main()
