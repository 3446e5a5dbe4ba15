"""The log of a training, train.jsonl: a line every so many steps, each the means since the line of so many before it.

Early steps have lines beside these: the first ten and the powers of two, each of that step alone and without a speed. A
term that overshoots does so there.
"""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from harness.engine.distributed import ALONE, World
from harness.errors import Diverged
from harness.files import read_jsonl, write_bytes
from harness.method.terms import Term

EARLY = 10  # steps that all have a line


def is_early(step: int) -> bool:
    """Tell whether a step, counted from 1, has a line of its own: it is one of the first, or a power of two."""
    return step <= EARLY or step & (step - 1) == 0


class MetricAverager:
    """A step's losses since the last line of the log, summed on the device so that a step waits for nothing."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms, self.steps, self.start = terms, 0, time.perf_counter()
        self.sums: dict[str, Tensor] = {}

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add one step's losses."""
        self.steps += 1
        for name, loss in losses.items():
            self.sums[name] = self.sums[name] + loss if name in self.sums else loss.clone()

    def state(self, world: World = ALONE) -> dict[str, Tensor]:
        """Return what a training that stops between two lines of the log needs to write the same next line.

        The sums are those of every process, (size,); all must call this.
        """
        parts = world.all_gather({name: total.cpu() for name, total in self.sums.items()})
        state = {f"window.sum.{name}": torch.stack([part[name] for part in parts]) for name in self.sums}
        seconds = torch.tensor(time.perf_counter() - self.start)
        return state | {"window.steps": torch.tensor(self.steps), "window.seconds": seconds}

    def restore(self, tensors: dict[str, Tensor], device: torch.device, world: World = ALONE) -> None:
        """Take back what `state` gave; a checkpoint at a line of the log has nothing of it."""
        if "window.steps" not in tensors:
            return
        self.steps = int(tensors["window.steps"])
        self.start = time.perf_counter() - float(tensors["window.seconds"])
        for name, parts in tensors.items():
            if name.startswith("window.sum."):  # other processes than before: the mean stands for each
                part = parts[world.rank] if len(parts) == world.size else parts.mean()
                self.sums[name.removeprefix("window.sum.")] = part.to(device)

    def line(self, step: int, batch: int, gradient_norm: float, world: World = ALONE) -> dict[str, float]:
        """Return the log's line: means over the window and over the processes, which must all ask for it.

        Raises:
            Diverged: a loss, or the gradient, is not finite.
        """
        means = {name: float(total) / self.steps for name, total in world.mean(self.sums).items()}
        wrong = [name for name, value in (means | {"gradient_norm": gradient_norm}).items() if not math.isfinite(value)]
        if wrong:
            raise Diverged(f"{', '.join(wrong)} not finite between steps {step - self.steps + 1} and {step}")
        for term in self.terms:
            if term.name in means and term.floor is not None:
                means[f"{term.prefix}above_floor"] = means[term.name] - term.floor
        speed = self.steps * batch / (time.perf_counter() - self.start)
        return {"step": step, **means, "gradient_norm": gradient_norm, "images_per_second": round(speed, 1)}


def append(log: Path, line: dict[str, float]) -> None:
    """Add a line to the log."""
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def cut(log: Path, step: int) -> None:
    """Take back the lines after a step, and make the log where there is none."""
    lines = [line for line in read_jsonl(log) if line["step"] <= step]
    write_bytes(log, "".join(json.dumps(line) + "\n" for line in lines).encode())
