"""Imported weights: the folder they live in, and what the JSON beside each file of tensors says. No torch here.

<folder>/<name>.json          what it is; small, and can be committed: plans and reports need it and nothing more
         <name>.safetensors   the tensors as they were found; large, and not committed
The folder is `weights`, or what HARNESS_WEIGHTS says.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from harness.config.settings.values import Frozen
from harness.config.spec import Model, TrainSpec
from harness.errors import UserError, nearest
from harness.files import place, read_model

Part = Literal["raw", "ema", "model", "state_dict"]


class Architecture(Frozen):
    """What a file of weights must fit: the process decides the head and the number of times."""

    process: str
    model: Model
    channels: int
    size: int
    classes: int

    def __str__(self) -> str:
        m = self.model
        blocks = f"{m.depth} blocks of width {m.width} with {m.heads} heads, patch {m.patch}"
        blocks += ", long residuals" if m.residuals else ""
        return f"{self.process}, {blocks}, {self.channels}×{self.size}×{self.size} in {self.classes} classes"


class Origin(Frozen):
    """The file that was imported."""

    file: str
    sha256: str


class Imported(Frozen):
    """One imported model."""

    name: str
    label: str = Field(description="model name at import, for example SiT-XL/2; the scale said what it stands for")
    network: Architecture
    parts: tuple[Part, ...] = Field(description="what the file held: raw weights, or some of ema, model, state_dict")
    remarks: tuple[str, ...] = Field(description="how the file's layout differs from the network's own")
    sha256: str = Field(
        pattern="^[0-9a-f]{64}$", description="of names, types and bytes of the tensors: the identity of the weights"
    )
    origin: Origin

    @property
    def contents(self) -> str:
        """What the file held, in words: "ema and model, sha256 0123456789ab…"."""
        return f"{' and '.join(self.parts)}, sha256 {self.sha256[:12]}…"


def architecture_of(spec: TrainSpec) -> Architecture:
    """Return the network that a training has."""
    data = spec.data.model_dump(include={"channels", "size", "classes"})
    return Architecture(process=spec.process, model=spec.model, **data)


def folder() -> Path:
    """Return the folder of imported weights."""
    return place(os.environ.get("HARNESS_WEIGHTS") or "weights", "HARNESS_WEIGHTS")


def description_path(root: Path, name: str) -> Path:
    """Return the JSON file of a name."""
    return root / f"{name}.json"


def tensors_path(root: Path, name: str) -> Path:
    """Return the file of tensors of a name."""
    return root / f"{name}.safetensors"


def names(root: Path) -> list[str]:
    """Return the names of all imported models."""
    return sorted(path.stem for path in root.glob("*.json"))


def describe(root: Path, name: str) -> Imported:
    """Read what is known of imported weights.

    Raises:
        UserError: there are none of this name, or their JSON is not one of ours.
    """
    if name not in names(root):
        near = nearest(name, names(root))
        raise UserError(f"no weights '{name}' in {root}{near}; 'harness weights import FILE --name {name}' makes them")
    return read_model(description_path(root, name), Imported, "import the file again")


def find(root: Path, sha256: str) -> tuple[Imported, Path]:
    """Return the imported model of an identity, and its file of tensors.

    Raises:
        UserError: nothing here has this identity, or its tensors are not here.
    """
    described = {tensors_path(root, name): describe(root, name) for name in names(root)}  # never where a file says
    same = {path: model for path, model in described.items() if model.sha256 == sha256}
    for path, model in same.items():
        if path.is_file():
            return model, path
    what = f"{next(iter(same))} is not here" if same else f"no weights {sha256[:12]}… in {root}"
    raise UserError(f"{what}; import the file again, or say with HARNESS_WEIGHTS where they are")
