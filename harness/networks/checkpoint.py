"""Checkpoints: safetensors for the numbers, JSON for the rest, never a pickle.

`state-<step>.safetensors` is all that a resumed training needs; `latest.json` names the one that counts, and is written
last. `weights-<step>.safetensors` keeps network and EMA of a step that somebody wants to measure.
"""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.errors import UserError
from harness.files import read_json, replace, write_json


def save_state(folder: Path, step: int, tensors: dict[str, Tensor]) -> None:
    """Write the state of a training atomically, then drop those before it.

    Later ones stay: they are another writer's, of a job that was given up and lives on unseen.
    """
    name = f"state-{step:08d}.safetensors"
    _save(folder / name, tensors)
    write_json(folder / "latest.json", {"step": step, "file": name})
    for old in folder.glob("state-*.safetensors"):
        if old.name < name:
            old.unlink(missing_ok=True)


def latest_step(folder: Path) -> int:
    """Return the step of the state that `load_state` would give; 0 where there is none."""
    latest = read_json(folder / "latest.json")
    return latest["step"] if latest and (folder / latest["file"]).is_file() else 0


def load_state(folder: Path) -> dict[str, Tensor]:
    """Read the latest state.

    Raises:
        UserError: its file is damaged.
    """
    return _load(folder / read_json(folder / "latest.json")["file"])


def weights_path(folder: Path, step: int) -> Path:
    """Return where the weights of a step are kept."""
    return folder / f"weights-{step:08d}.safetensors"


def save_weights(folder: Path, step: int, tensors: dict[str, Tensor]) -> None:
    """Keep the weights of a step."""
    _save(weights_path(folder, step), tensors)


def load_weights(folder: Path, step: int, which: str) -> dict[str, Tensor]:
    """Read the kept weights of a step: `which` is "model" or "ema"; names are the network's own.

    Raises:
        UserError: their file is damaged.
    """
    return part(_load(weights_path(folder, step)), which)


def part(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Return the tensors of a kind, "model", "ema" or a term of the loss, under their own names."""
    return {name.removeprefix(f"{kind}."): t for name, t in tensors.items() if name.startswith(f"{kind}.")}


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: damaged ({error}); delete it, and the training makes it again") from None


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    replace(path, lambda temporary: save_file(contiguous, temporary))
