"""Whether a job that SLURM stops has gained anything: one that has not would be queued again for ever."""

import time
from pathlib import Path

from harness.store.records import measurement_paths

BEGAN = time.monotonic()  # each of SLURM's jobs is a process of its own, and reads this as soon as it has its job
SHARE = 0.5  # of its hours


def holdings(folder: Path, scratch: Path) -> frozenset[str]:
    """Return what a training's two folders hold: states and weights, images that are kept, measurements."""
    from harness.engine.sample_cache import saved_images

    tensors = {str(path.relative_to(scratch)) for path in scratch.rglob("*.safetensors")}
    images = {f"{name}: {count}" for name, count in saved_images(scratch).items() if count}
    return frozenset(tensors | images | {path.name for path in measurement_paths(folder)})


def fruitless(before: frozenset[str] | None, now: frozenset[str], hours: float) -> bool:
    """Tell whether an attempt, of a job with that time limit, gained nothing and had half of its hours to do so.

    The next would gain as little. One that was ended sooner was preempted, which says nothing of what the next will
    have; nor does the first, with nothing before it.
    """
    return before == now and time.monotonic() - BEGAN > 3600 * hours * SHARE
