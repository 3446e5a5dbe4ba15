"""Checkpoint files of the public DiT, SiT, DispLoss and MeanFlow code: how they are read, and what must be in them.

All four use the names of `method.backbone`. What differs: SiT and DispLoss train with a head of 2C channels, of which
only the first C are the velocity ("learned sigma"); the official MeanFlow has no position table among its weights; its
best-known PyTorch port (zhuyu-cs/MeanFlow) calls the embedder of t − r `r_embedder`.
"""

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.config.imported_weights import Architecture, Part, architecture_of
from harness.config.spec import TrainSpec
from harness.data.finite import check_dense
from harness.errors import UserError, user_error
from harness.method.backbone import sincos_positions
from harness.networks.build import build_net
from harness.networks.checkpoint import tensors_of

# Torch's own, about files that are refused in one line.
warnings.filterwarnings("ignore", "Validating sparse tensor", UserWarning)

Tensors = dict[str, Tensor]
Parts = dict[Part, Tensors]
PARTS: tuple[Part, ...] = ("ema", "model", "state_dict")
WRAPPERS = r"^((module|_orig_mod)\.)+"  # DistributedDataParallel's and torch.compile's
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
HEAD = ("final_layer.linear.weight", "final_layer.linear.bias")
POSITIONS = "pos_embed"
OURS, PORT = "h_embedder.", "r_embedder."  # MeanFlow's embedder of t − r


def read_parts(path: Path) -> Parts:
    """Read a checkpoint: its parts (raw weights, or those of ema, model and state_dict it has), by plain names.

    Only tensors, plain containers and argparse.Namespace (the public code stores its arguments) are taken; nothing of
    the file is run.

    Raises:
        UserError: no such file, not a checkpoint, one that holds anything else, or one without weights.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: {', '.join(SUFFIXES)} are read, found '{path.suffix}'")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return {part: _plain_names(tensors, f"{path}: {part}") for part, tensors in _split(_read(path), path).items()}


def check_stored(path: Path, network: nn.Module) -> None:
    """Refuse a file whose tensors would silently become others in the network that takes them: complex ones and such.

    Raises:
        UserError: naming the tensor, or as `read_parts` of what is no file of tensors.
    """
    content = _read(path)
    for tensors in (content, *content.values()) if isinstance(content, Mapping) else ():
        if isinstance(tensors, Mapping):
            named = {re.sub(WRAPPERS, "", str(name)): t for name, t in tensors.items() if isinstance(t, Tensor)}
            check_dense(named, str(path), network)


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        with user_error(f"{path}: not a safetensors file, or a broken one"):
            return load_file(path)
    with user_error(f"{path}: not a file of torch.save, or a broken one"):
        try:
            with torch.serialization.safe_globals([argparse.Namespace]):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except pickle.UnpicklingError as error:
            named = re.search(r"GLOBAL (\S+)", str(error))
            what = f"it holds {named[1]}" if named else "it is not tensors as torch.save writes them"
            advice = "pickles can run code; only tensors and plain values are read"
            raise UserError(f"{path}: refused, {what}: {advice}") from None


def _split(content: Any, path: Path) -> Mapping[Part, Any]:
    """Parts of a file: nested under their keys, flat under their prefixes (as we write safetensors), or raw."""
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path}: names and tensors are expected, found {type(content).__name__}")
    if _all_are(str, content) and _all_are(Tensor, content.values()):
        flat: Parts = {part: tensors_of(content, part) for part in PARTS}
        whole = sum(map(len, flat.values())) == len(content)
        return {part: tensors for part, tensors in flat.items() if tensors} if whole else {"raw": dict(content)}
    nested: dict[Part, Any] = {part: content[part] for part in PARTS if part in content}
    if not nested:
        keys = ", ".join(map(str, list(content)[:8]))
        raise UserError(f"{path}: weights are expected at the top or under {', '.join(PARTS)}; its keys are {keys}")
    return nested


def _plain_names(tensors: Any, where: str) -> Tensors:
    """Names without the prefixes that wrappers put before them."""
    if not isinstance(tensors, Mapping) or not _all_are(str, tensors) or not _all_are(Tensor, tensors.values()):
        raise UserError(f"{where}: names and tensors are expected, found something else among them")
    check_dense(tensors, where)
    plain = {}
    for wrapped, tensor in tensors.items():
        name = re.sub(WRAPPERS, "", wrapped)
        if name in plain:
            raise UserError(f"{where}: two tensors are called {name} but for their prefixes")
        plain[name] = tensor.detach()
    return plain


def _all_are(kind: type, values: Iterable[Any]) -> bool:
    return all(isinstance(value, kind) for value in values)


def differences(tensors: Tensors, spec: TrainSpec) -> list[str]:
    """Say which tensors are missing, extra or misshapen for the network of a spec; [] where it can be loaded."""
    architecture = architecture_of(spec)
    expected = _expected(tensors, spec, architecture)
    actual = {name: tuple(t.shape) if t.is_floating_point() else t.dtype for name, t in tensors.items()}
    return [
        f"{name}: expected {expected.get(name, 'no such tensor')}, found {actual.get(name, 'none')}"
        for name in [*expected, *(actual.keys() - expected.keys())]
        if expected.get(name) != actual.get(name)
    ] or _wrong_positions(tensors, architecture)


def _expected(tensors: Tensors, spec: TrainSpec, architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the public layout that the file is in."""
    with torch.device("meta"):
        own = {name: tuple(t.shape) for name, t in build_net(spec).state_dict().items()}
    if _has_sigma(tensors, architecture):
        own |= {name: (2 * own[name][0], *own[name][1:]) for name in HEAD}
    if spec.process == "meanflow":
        own = {name.replace(OURS, PORT) if _is_port(tensors) else name: shape for name, shape in own.items()}
        if POSITIONS not in tensors:
            del own[POSITIONS]
    return own


def _has_sigma(tensors: Tensors, architecture: Architecture) -> bool:
    """Whether a flow's head has the 2C channels of which the second half is never used."""
    rows = architecture.model.patch**2 * architecture.channels
    return architecture.process == "flow" and HEAD[1] in tensors and tensors[HEAD[1]].shape == (2 * rows,)


def _is_port(tensors: Tensors) -> bool:
    return any(name.startswith(PORT) for name in tensors)


def _wrong_positions(tensors: Tensors, architecture: Architecture) -> list[str]:
    """The position table is fixed: one that is not ours belongs to another network."""
    if POSITIONS not in tensors:
        return []
    table = tensors[POSITIONS]
    off = float((table.double() - _positions(architecture).double()).abs().max())
    return [] if off <= max(1e-6, torch.finfo(table.dtype).eps) else [f"{POSITIONS}: off the fixed sines by {off:.2g}"]


def remarks(tensors: Tensors, architecture: Architecture) -> tuple[str, ...]:
    """Say how a file's layout differs from the network's own."""
    port = "as in zhuyu-cs/MeanFlow, whose latents are standardised channel by channel, not × 0.18215"
    full = all(t.dtype == torch.float32 for t in tensors.values())
    applies = {
        "learned sigma: the second half of the head is kept for export and not used": _has_sigma(tensors, architecture),
        "no position table: the fixed one is used": POSITIONS not in tensors,
        f"r_embedder: {port}": _is_port(tensors),
        "not all float32: loaded as float32, kept for export as found": not full,
    }
    return tuple(remark for remark in applies if applies[remark])


def to_network(tensors: Tensors, architecture: Architecture) -> Tensors:
    """Weights of a public layout → the state of the network: float32, our names, a head without sigma."""
    state = {name.replace(PORT, OURS): t.float() for name, t in tensors.items()}
    if _has_sigma(tensors, architecture):
        c = architecture.channels
        state |= {name: state[name].unflatten(0, (-1, 2 * c))[:, :c].flatten(0, 1) for name in HEAD}  # rows: P, P, 2C
    return {POSITIONS: _positions(architecture)} | state


def _positions(architecture: Architecture) -> Tensor:
    """The fixed table, (1, T, D)."""
    return sincos_positions(architecture.model.width, architecture.size // architecture.model.patch)[None]
