"""Checkpoints: safetensors for the numbers, JSON for the rest, never a pickle; `checkpoint_paths` names them."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.checkpoint_paths import STATE, latest_step, state_path, weights_path, write_latest
from harness.data.finite import check_weights
from harness.errors import user_error
from harness.files import as_umask, replace


def save_state(folder: Path, step: int, tensors: dict[str, Tensor]) -> None:
    """Write the state of a training atomically, then drop those before it.

    Later ones stay: they are another writer's, of a job that was given up and lives on unseen.
    """
    path = state_path(folder, step)
    save_tensors(path, tensors)
    write_latest(folder, step)
    for old in folder.glob(f"{STATE}*.safetensors"):
        if old.name < path.name:
            old.unlink(missing_ok=True)


def load_state(folder: Path) -> dict[str, Tensor]:
    """Read the latest state.

    Raises:
        UserError: its file is damaged.
    """
    return _load(state_path(folder, latest_step(folder)))


def save_weights(folder: Path, step: int, tensors: dict[str, Tensor]) -> None:
    """Keep the weights of a step."""
    save_tensors(weights_path(folder, step), tensors)


def load_weights(folder: Path, step: int, which: str) -> dict[str, Tensor]:
    """Read the kept weights of a step: `which` is "model" or "ema"; names are the network's own.

    Raises:
        UserError: their file is damaged, or they are not finite.
    """
    path = weights_path(folder, step)
    tensors = tensors_of(_load(path), which)
    check_weights(tensors, f"{path}: {which}")
    return tensors


def tensors_of(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Return the tensors of a kind, "model", "ema" or a term of the loss, under their own names."""
    return {name.removeprefix(f"{kind}."): t for name, t in tensors.items() if name.startswith(f"{kind}.")}


def _load(path: Path) -> dict[str, Tensor]:
    with user_error(f"{path}: damaged", "delete it, and the training makes it again", SafetensorError):
        return load_file(path)


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors, no two of which may share their memory, as safetensors."""
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}

    def write(temporary: Path) -> None:
        save_file(contiguous, temporary)
        as_umask(temporary)

    replace(path, write)
