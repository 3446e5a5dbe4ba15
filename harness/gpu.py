"""Which GPU a process computes on.

Each process of a machine computes on the GPU of its local rank, counted on from the first where there are fewer; the
processes of a pool's second worker count on from those of the first. A run that asks for no GPU sees none.
"""

import os
from typing import TYPE_CHECKING

from harness.process_group import ProcessPlace

if TYPE_CHECKING:
    import torch

VISIBLE = "CUDA_VISIBLE_DEVICES"


def hide_gpus() -> None:
    """Let torch find no GPU in this process and those that it starts; it must not have looked for them yet."""
    os.environ[VISIBLE] = ""


def take_gpu(place: ProcessPlace) -> None:
    """Choose this process's GPU among those that it sees, for all that it computes; SLURM may show it its own only."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank % torch.cuda.device_count())


def gpu_count() -> int:
    """Return how many GPUs this process sees."""
    import torch

    return torch.cuda.device_count()


def device() -> "torch.device":
    """Return where this process computes: its GPU, or the CPU."""
    import torch

    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
