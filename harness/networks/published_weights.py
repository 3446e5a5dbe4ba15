"""Published weights in and out: imported once, kept as they were found, and begun from by any run that names them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from harness.checkpoint_paths import weights_path
from harness.config import imported_weights as imported
from harness.config.imported_weights import Architecture, Imported, Origin, Part, architecture_of
from harness.config.spec import TrainSpec
from harness.data.finite import check_weights
from harness.errors import UserError
from harness.files import replace, sha256_of, write_json
from harness.networks.checkpoint import save_tensors
from harness.networks.public_layouts import SUFFIXES, Parts, Tensors, differences, read_parts, remarks, to_network
from harness.plain_text import check_name

EMA_FIRST: tuple[Part, ...] = ("ema", "raw", "state_dict", "model")
EMA_LAST = EMA_FIRST[::-1]


def import_file(path: Path, name: str, candidates: Mapping[str, TrainSpec], root: Path) -> Imported:
    """Check a public checkpoint and keep its tensors, as they are, in `root` under `name`.

    candidates: model name → spec of those it may be; exactly one must fit.

    Raises:
        UserError: not a checkpoint; a tensor missing, extra, misshapen or not finite; several models fit; the name is
            taken.
    """
    check_name("--name", name)
    parts = read_parts(path)
    label = _which(path, parts, candidates)
    _check_parts(parts, path)
    architecture, digest = architecture_of(candidates[label]), content_hash(parts)
    if name in imported.names(root) and imported.describe(root, name).sha256 != digest:
        raise UserError(f"--name {name}: {root} holds other weights under this name; choose another, or delete them")
    description = Imported(
        name=name,
        label=label,
        network=architecture,
        parts=tuple(parts),
        remarks=remarks(next(iter(parts.values())), architecture),
        sha256=digest,
        origin=Origin(file=path.name, sha256=sha256_of(path)),
    )
    _save(parts, imported.tensors_path(root, name))
    write_json(imported.description_path(root, name), description.model_dump(mode="json"))
    return description


def _which(path: Path, parts: Parts, candidates: Mapping[str, TrainSpec]) -> str:
    """Return the one model that all parts of a file fit."""
    wrong = {label: _first_difference(parts, spec) for label, spec in candidates.items()}
    fitting = [label for label, difference in wrong.items() if difference is None]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(f"{path}: {', '.join(fitting)} have tensors of these shapes; say which with --model")
    if len(candidates) == 1:
        label, difference = next(iter(wrong.items()))
        raise UserError(f"{path}: not a {label}: {difference}")
    raise UserError(f"{path}: fits no model of the scale; say --model, and it tells the tensor that differs")


def _check_parts(parts: Parts, path: Path) -> None:
    """Refuse weights that are not finite; their shapes are right by now, so that looking ends."""
    for part, tensors in parts.items():
        check_weights(tensors, f"{path}: {part}")


def _first_difference(parts: Parts, spec: TrainSpec) -> str | None:
    for part, tensors in parts.items():
        if wrong := differences(tensors, spec):
            return f"{part}: {wrong[0]}" + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")
    return None


def content_hash(parts: Parts) -> str:
    """Return sha256 over names, types, shapes and bytes of all tensors: the identity of weights, whatever file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(_flat(parts).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _flat(parts: Parts) -> Tensors:
    """Parts as one dictionary, their names before those of the tensors; raw weights have none."""
    return {
        name if part == "raw" else f"{part}.{name}": tensor
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }


def _save(parts: Parts, path: Path) -> None:
    """Write parts as safetensors; in memory of their own, as tensors may share it and safetensors may not."""
    save_tensors(path, {name: t.clone(memory_format=torch.contiguous_format) for name, t in _flat(parts).items()})


def place(spec: TrainSpec, root: Path, folder: Path) -> None:
    """Keep the weights that a spec begins from as those of step 0 in a training's folder.

    Network and EMA get their own where the file had both, and else the same.

    Raises:
        UserError: the weights are not in `root`, are no longer those that the spec names, or are not finite.
    """
    assert spec.weights is not None
    if weights_path(folder, 0).is_file():
        return
    description, path = imported.find(root, spec.weights)
    parts, architecture = read_parts(path), architecture_of(spec)
    if content_hash(parts) != spec.weights:
        raise UserError(f"{path}: not the tensors that {description.name}.json names; import the file again")
    _check_parts(parts, path)
    trained, averaged = (to_network(_first_of(parts, order), architecture) for order in (EMA_LAST, EMA_FIRST))
    _save({"model": trained, "ema": averaged}, weights_path(folder, 0))


def export(source: Path, out: Path) -> None:
    """Write kept weights in the public layout: `ema` and `model` (or what was imported), tensors equal bit for bit.

    Raises:
        UserError: `out` has another suffix, or the weights are not finite.
    """
    if out.suffix not in SUFFIXES:
        raise UserError(f"{out}: {', '.join(SUFFIXES)} are written, found '{out.suffix}'")
    parts = _read_finite(source)
    if out.suffix == ".safetensors":
        _save(parts, out)
        return
    replace(out, lambda temporary: _torch_save(parts.get("raw", parts), temporary))


def _torch_save(content: object, path: Path) -> None:
    with path.open("wb") as file:  # torch names the archive after a path, and refuses one that begins with a dot
        torch.save(content, file)


def averaged_state(source: Path, architecture: Architecture) -> Tensors:
    """Return the state of the network from kept weights: the EMA's where there is one.

    Raises:
        UserError: they are not finite.
    """
    return to_network(_first_of(_read_finite(source), EMA_FIRST), architecture)


def _read_finite(source: Path) -> Parts:
    parts = read_parts(source)
    _check_parts(parts, source)
    return parts


def _first_of(parts: Parts, order: tuple[Part, ...]) -> Tensors:
    return next(parts[part] for part in order if part in parts)
