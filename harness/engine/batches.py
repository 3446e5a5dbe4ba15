"""What a training step is given: this process's share of the global batch, ready before the step asks for it.

Every process draws for the whole global batch and keeps its slice. All of it is a pure function of the step, so that
threads can make the next batches while this one is learnt from, and change nothing. NumPy and torch let go of Python's
lock while they gather and draw.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from harness.config.spec import TrainSpec
from harness.data.datasets import Dataset, positions
from harness.engine.distributed import World
from harness.gpu import device
from harness.method.objective import Objective, draw, share_of
from harness.method.randomness import generator
from harness.method.terms import Draws

AHEAD = 4  # batches that are made at once


@dataclass(frozen=True)
class Batch:
    """The samples of one forward pass and all that was drawn for them."""

    x: Tensor  # (N, C, H, W)
    y: Tensor  # (N,)
    draws: Draws
    images: Tensor | None = None  # uint8, for the frozen encoder where there is one

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Return the same batch, each tensor changed in the same way: brought to a device, or into pinned memory."""
        images = None if self.images is None else change(self.images)
        return Batch(change(self.x), change(self.y), self.draws.map(change), images)


class Batches:
    """The batches of a training, a few steps ahead, until it is closed."""

    def __init__(
        self, spec: TrainSpec, dataset: Dataset, objective: Objective, world: World, micro_batch: int | None
    ) -> None:
        self.spec, self.dataset, self.objective = spec, dataset, objective
        share = world.share(spec.batch)
        size = micro_batch or len(share)
        self.parts = [slice(start, start + size) for start in range(share.start, share.stop, size)]
        # Without this, pinned memory would be that of the first GPU's context, also where another is this process's.
        here = partial(torch.cuda.set_device, device()) if torch.cuda.is_available() else None
        self.threads = ThreadPoolExecutor(AHEAD, initializer=here)
        self.ahead: dict[int, Future[list[Batch]]] = {}

    def get(self, step: int) -> list[Batch]:
        """Return the micro-batches of step `step` on the CPU, and begin to make those of the next steps."""
        for other in self.ahead.keys() - range(step, step + 1 + AHEAD):
            self.ahead.pop(other).cancel()
        for coming in range(step, step + 1 + AHEAD):
            if coming not in self.ahead:
                self.ahead[coming] = self.threads.submit(self._make, coming)
        return self.ahead.pop(step).result()

    def whole(self, step: int) -> Batch:
        """Return the whole global batch of step `step`, without the images of an encoder; in any process the same."""
        (batch,) = self._make(step, [slice(0, self.spec.batch)])
        return replace(batch, images=None)

    def close(self) -> None:
        """Make no more; what is being made is left alone, and ends in a moment."""
        self.threads.shutdown(wait=False, cancel_futures=True)

    def _make(self, step: int, parts: list[slice] | None = None) -> list[Batch]:
        spec, dataset, size = self.spec, self.dataset, self.spec.batch
        indices = positions(spec.seed, step, size, len(dataset))
        augmentation = dataset.draw(size, generator(spec.seed, "augmentation", step))
        terms, batches = self.objective.active(step), []
        shape, drops = (size, *dataset.shape), (spec.label_drop, spec.seed, step, spec.dropout or 0.0)
        draws = draw(self.objective.process, terms, shape, *drops)
        for part in parts or self.parts:
            mine = indices[part], tuple(drawn[part] for drawn in augmentation)
            images = dataset.images_for(*mine) if any(term.needs_features for term in terms) else None
            batches.append(Batch(*dataset.batch(*mine), share_of(draws, part, self.objective.process), images))
        return [batch.map(Tensor.pin_memory) for batch in batches] if torch.cuda.is_available() else batches
