"""Checkpoints: safetensors for the numbers, JSON for the rest, never a pickle; `checkpoint_paths` names them."""

import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.checkpoint_paths import STATE, latest_step, state_path, weights_path, write_latest
from harness.data.finite import check_weights
from harness.errors import UserError, user_error
from harness.files import as_umask, replace, sha256_of

FROZEN = "frozen"  # what a file says of the sha256 of that which it goes on from


def save_state(folder: Path, step: int, tensors: dict[str, Tensor], frozen: str | None = None) -> None:
    """Write the state of a training atomically, then drop those before it.

    frozen: as in `save_tensors`. Later ones stay: they are another writer's, of a job that was given up and lives on
    unseen.
    """
    path = state_path(folder, step)
    save_tensors(path, tensors, frozen)
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


def save_weights(folder: Path, step: int, tensors: dict[str, Tensor], frozen: str | None = None) -> None:
    """Keep the weights of a step; frozen: as in `save_tensors`."""
    save_tensors(weights_path(folder, step), tensors, frozen)


def load_weights(folder: Path, step: int, which: str) -> dict[str, Tensor]:
    """Read the kept weights of a step: `which` is "model" or "ema"; names are the network's own.

    Of a second phase they are the frozen network's together with what was trained.

    Raises:
        UserError: their file is damaged, or they are not finite; or what was frozen is not here.
    """
    path = weights_path(folder, step)
    stored = _load(path)
    frozen = frozen_of(path)
    tensors = load_frozen(folder, frozen)[0] | stored if frozen else tensors_of(stored, which)
    check_weights(tensors, f"{path}: {which}")
    return tensors


def frozen_of(path: Path) -> str | None:
    """Return the sha256 of the file that a checkpoint's trained part goes on from; None where it is whole.

    Raises:
        UserError: its file is damaged.
    """
    damaged = user_error(f"{path}: damaged", "delete it, and the training makes it again", SafetensorError)
    with damaged, safe_open(path, "pt") as file:
        return (file.metadata() or {}).get(FROZEN)


def load_frozen(folder: Path, sha256: str | None) -> tuple[dict[str, Tensor], str]:
    """Read the network that a second phase goes on from, the average kept as of its step 0; and its file's sha256.

    sha256: what that must be; None: whatever it is.

    Raises:
        UserError: it is not here, damaged or another, or not finite.
    """
    path = weights_path(folder, 0)
    if not path.is_file():
        raise UserError(f"{path}: not here, and what was trained goes on from it; bring it back, or the first phase's")
    found = sha256_of(path)
    if sha256 not in (None, found):
        raise UserError(
            f"{path}: sha256 {found[:12]}…, and what was trained goes on from {str(sha256)[:12]}…; bring that back, or "
            "remove the training's folders to begin anew"
        )
    tensors = tensors_of(_load(path), "ema")
    check_weights(tensors, f"{path}: ema")
    return tensors, found


def keep_frozen(source: Path, folder: Path) -> None:
    """Keep the file of a first phase's weights as those of step 0 of the second: the same file where the disk can."""
    target = weights_path(folder, 0)
    if target.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:  # another disk, or one without links
        replace(target, partial(shutil.copyfile, source))


def tensors_of(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Return the tensors of a kind, "model", "ema" or a term of the loss, under their own names."""
    return {name.removeprefix(f"{kind}."): t for name, t in tensors.items() if name.startswith(f"{kind}.")}


def _load(path: Path) -> dict[str, Tensor]:
    with user_error(f"{path}: damaged", "delete it, and the training makes it again", SafetensorError):
        return load_file(path)


def save_tensors(path: Path, tensors: dict[str, Tensor], frozen: str | None = None) -> None:
    """Write tensors, no two of which may share their memory, as safetensors.

    frozen: sha256 of the file that holds the rest of the network, where these are what was trained beside it.
    """
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}

    def write(temporary: Path) -> None:
        save_file(contiguous, temporary, {FROZEN: frozen} if frozen else None)
        as_umask(temporary)

    replace(path, write)
