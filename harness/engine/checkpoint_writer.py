"""Checkpoints written behind the training: what is written are copies, while the next steps are trained."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


class CheckpointWriter:
    """One thread that writes, one checkpoint after the other; at the end of the `with` all of them are on the disk.

    A kill while it writes leaves the checkpoint before, which is whole. What goes wrong, for instance a full disk, is
    raised by the next call, and at the end.
    """

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.last: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.thread.shutdown()
        if error is None:
            self.wait()
        elif self.last and (fault := self.last.exception()) and fault is not error:
            error.add_note(f"nor was the last checkpoint written: {fault}")

    def write(self, tensors: Tensors, save: Callable[[Tensors], None]) -> None:
        """Copy the tensors as they are now, and have the copies saved; first wait for what is being written.

        Raises:
            OSError: the checkpoint before this one could not be written.
        """
        self.wait()
        copies, arrived = _copies_on_host(tensors)

        def work() -> None:
            arrived()
            save(copies)

        self.last = self.thread.submit(work)

    def check(self) -> None:
        """Raise what went wrong, if anything has by now."""
        if self.last and self.last.done():
            self.wait()

    def wait(self) -> None:
        """Wait for what is being written, and raise what went wrong."""
        last, self.last = self.last, None
        if last:
            last.result()


def _copies_on_host(tensors: Tensors) -> tuple[Tensors, Callable[[], None]]:
    """Return copies in the host's memory, and what waits for them to arrive.

    A GPU copies into pinned memory as it comes to it, before the steps that are asked of it after; the host does not
    wait.
    """
    copies = {name: torch.empty(t.shape, dtype=t.dtype, pin_memory=t.is_cuda) for name, t in tensors.items()}
    for name, tensor in tensors.items():
        copies[name].copy_(tensor.detach(), non_blocking=True)
    if not any(tensor.is_cuda for tensor in tensors.values()):
        return copies, lambda: None
    event = torch.cuda.Event()
    event.record()
    return copies, event.synchronize
