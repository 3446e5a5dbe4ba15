"""Where a training's checkpoints lie, and which there are: for `networks/checkpoint.py`, which writes and reads what is
in them, and for all that asks without torch.

`state-<step>.safetensors` is all that a resumed training needs; `latest.json` names the one that counts, and is written
last. `weights-<step>.safetensors` keeps network and EMA of a step that somebody wants to measure.
"""

import re
from pathlib import Path

from harness.files import is_file, read_json, write_json

LATEST = "latest.json"
BEHIND = "behind"  # folder in which steps before the checkpoint are trained for
WEIGHTS, STATE = "weights-", "state-"


def weights_path(folder: Path, step: int) -> Path:
    """Return where the weights of a step are kept."""
    return folder / f"{WEIGHTS}{step:08d}.safetensors"


def state_path(folder: Path, step: int) -> Path:
    """Return where the state of a step is kept."""
    return folder / f"{STATE}{step:08d}.safetensors"


def kept_weights(folder: Path) -> dict[int, Path]:
    """Return the weights that are kept, by their step."""
    paths = {path.stem.removeprefix(WEIGHTS): path for path in sorted(folder.glob(f"{WEIGHTS}*.safetensors"))}
    return {int(step): path for step, path in paths.items() if re.fullmatch("[0-9]{8,15}", step)}


def write_latest(folder: Path, step: int) -> None:
    """Make the state of a step the one that counts."""
    write_json(folder / LATEST, {"step": step, "file": state_path(folder, step).name})


def latest_step(folder: Path) -> int:
    """Return the step of the state that counts; 0 where there is none."""
    latest = read_json(folder / LATEST)
    step = latest.get("step") if isinstance(latest, dict) else None
    return step if type(step) is int and 0 <= step < 1 << 53 and is_file(state_path(folder, step)) else 0
