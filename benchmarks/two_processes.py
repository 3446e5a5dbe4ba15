"""A training step of SiT-S/2 on one process of one thread, two processes of one, and one process of two, in turn.

All processes are started first, and the three kinds then take their steps in turn, so that what else the machine does
falls on all of them. Run: python benchmarks/two_processes.py
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from training_step import Precision, random_data, spec

from harness.config.settings.resources import Resources
from harness.engine.distributed import joined
from harness.engine.train import Trainer
from harness.gpu import device
from harness.process_group import ProcessPlace

KINDS = {"1 process × 1 thread": (1, 1), "2 processes × 1 thread": (2, 1), "1 process × 2 threads": (1, 2)}


def serve(pipe: Connection, place: ProcessPlace, threads: int, batch: int, precision: Precision) -> None:
    """Take the training step that is asked for, and tell how long it took."""
    torch.set_num_threads(threads)
    data = random_data(batch)
    with joined(place) as world:
        trainer = Trainer(spec("S", batch, precision, dispersive=False), data, device(), Resources(), world)
        while (step := pipe.recv()) >= 0:
            start = time.perf_counter()
            trainer.step(step)
            pipe.send(time.perf_counter() - start)


def team(folder: Path, size: int, threads: int, batch: int, precision: Precision) -> list[Connection]:
    """Start processes that share each step, and return the pipes to them."""
    spawn, pipes = multiprocessing.get_context("spawn"), []
    for rank in range(size):
        pipe, other = spawn.Pipe()
        place = ProcessPlace(rank, size, rank, (folder / f"{size}-{threads}").as_uri())
        spawn.Process(target=serve, args=(other, place, threads, batch, precision), daemon=True).start()
        pipes.append(pipe)
    return pipes


def seconds(pipes: list[Connection], step: int) -> float:
    """Return how long one step takes, until the last process is done."""
    for pipe in pipes:
        pipe.send(step)
    return max(pipe.recv() for pipe in pipes)


def main() -> None:
    """Print the medians, and the median ratios to one process of one thread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--rounds", type=int, default=8, help="interleaved repetitions")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        teams = {name: team(Path(folder), *kind, arguments.batch, arguments.precision) for name, kind in KINDS.items()}
        rounds = [
            {name: seconds(pipes, step) for name, pipes in teams.items()} for step in range(1 + arguments.rounds)
        ][1:]
        for pipes in teams.values():
            for pipe in pipes:
                pipe.send(-1)
    print(f"SiT-S/2, batch {arguments.batch}, {arguments.precision}; medians of {arguments.rounds} rounds")
    first = next(iter(KINDS))
    for name in KINDS:
        ratio = statistics.median(took[name] / took[first] for took in rounds)
        print(f"{name}: {statistics.median(took[name] for took in rounds):.3f} s a step, {ratio:.3f} of {first}")


if __name__ == "__main__":
    main()
