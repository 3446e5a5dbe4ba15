"""Pretrained autoencoders from local folders: diffusers' AutoencoderKL and AutoencoderTiny, TAESD's files; plug-ins
bring others.

A folder is recognised by its files, and known by their sha256. What reads it is imported when it is read.
"""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.data.finite import check_dense, check_weights
from harness.data.latents import Convention
from harness.errors import UserError, user_error
from harness.files import is_file, read_json
from harness.plugins import Registry, added

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
LEGAL = (
    f"a folder in diffusers' format (config.json, {WEIGHTS[0]}), or one with TAESD's two files "
    "(*_encoder.pth, *_decoder.pth)"
)


@dataclass(frozen=True)
class AutoencoderFiles:
    """An autoencoder's files, not yet read; it is known by the sha256 of their bytes, one after the other."""

    kind: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Autoencoder:
    """An autoencoder on its device. Pixels are in [−1, 1]; what it says of latents is before `scale`."""

    encode: Callable[[Tensor], Tensor]  # pixels (B, 3, H, W) → moments (B, 2C or C, H/f, W/f)
    decode: Callable[[Tensor], Tensor]  # latents (B, C, H/f, W/f) → pixels (B, 3, H, W)
    moments: Convention
    scale: float  # latents × scale is what a diffusion model sees


@dataclass(frozen=True)
class AutoencoderFormat:
    """A kind of autoencoder's folders. recognise: a folder → its files in a fixed order, () where it is none of these.
    load: reads these files. package: what that needs, "" where nothing is to be installed."""

    recognise: Callable[[Path], tuple[Path, ...]]
    load: Callable[[tuple[Path, ...]], Autoencoder]
    package: str = ""


def find(folder: Path) -> AutoencoderFiles:
    """Recognise the autoencoder of a folder by its files.

    Raises:
        UserError: none that is known, or the package that reads it is not installed.
    """
    for kind in AUTOENCODERS:
        form = AUTOENCODERS[kind]
        if paths := form.recognise(folder):
            if form.package and importlib.util.find_spec(form.package) is None:
                raise UserError(f"{folder}: reading this autoencoder needs {form.package}: pip install -e '.[encode]'")
            return AutoencoderFiles(kind, paths)
    legal = "; ".join((LEGAL, *(f"those of the plug-in {kind}" for kind in added("autoencoders"))))
    if (config := folder / "config.json").is_file():
        weights = [name for name in WEIGHTS if (folder / name).is_file()]
        what = f"_class_name '{_class_name(config)}' with {weights[0] if weights else 'no weights'}"
        raise UserError(f"{config}: {what} is not known; an autoencoder is {legal}")
    raise UserError(f"{folder}: no autoencoder that is known; legal: {legal}")


def _class_name(config: Path) -> Any:
    content = read_json(config)
    return content.get("_class_name") if isinstance(content, dict) else None


def _find_diffusers(kind: str, folder: Path) -> tuple[Path, ...]:
    config, weights = folder / "config.json", [folder / name for name in WEIGHTS if (folder / name).is_file()]
    return (config, weights[0]) if config.is_file() and weights and _class_name(config) == kind else ()


def _find_tae(folder: Path) -> tuple[Path, ...]:
    encoders, decoders = (sorted(filter(is_file, folder.glob(f"*_{part}.pth"))) for part in ("encoder", "decoder"))
    return (*encoders, *decoders) if len(encoders) == len(decoders) == 1 else ()


def load(files: AutoencoderFiles) -> Autoencoder:
    """Read an autoencoder, onto a GPU where there is one.

    Raises:
        UserError: its files are damaged, not finite, do not belong together, or need a shift besides a scale.
    """
    with user_error(f"{files.paths[-1]}: cannot be read as {files.kind}", "fetch it again"):
        return AUTOENCODERS[files.kind].load(files.paths)


def _of_diffusers(model: Any, paths: tuple[Path, ...], has_posterior: bool) -> Autoencoder:
    if model.config.get("shift_factor"):
        shift = model.config.shift_factor
        raise UserError(f"{paths[0]}: shift_factor {shift} is not supported; legal: autoencoders without one")
    scale = float(model.config.scaling_factor)
    if not (math.isfinite(scale) and scale > 0):
        raise UserError(f"{paths[0]}: scaling_factor {scale:g} is not a positive number; fetch it again")
    check_weights(model.state_dict(), str(paths[-1]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval().requires_grad_(False)

    def encode(x: Tensor) -> Tensor:
        code = model.encode(x.to(device))
        return code.latent_dist.parameters if has_posterior else code.latents

    def decode(z: Tensor) -> Tensor:
        return model.decode(z.to(device)).sample

    return Autoencoder(encode, decode, "mean,logvar" if has_posterior else "mean", scale)


def _diffusers(kind: str, config: Path, weights: Path) -> Any:
    import diffusers

    model, report = getattr(diffusers, kind).from_pretrained(
        config.parent,
        local_files_only=True,
        low_cpu_mem_usage=False,
        output_loading_info=True,
        use_safetensors=weights.suffix == ".safetensors",
    )
    # diffusers only warns, and leaves random weights where the file has none.
    for wrong in ("missing", "unexpected", "mismatched"):
        if names := sorted(map(str, report[f"{wrong}_keys"])):
            raise UserError(f"{weights}: {wrong} tensors: {', '.join(names[:3])}; fetch it again")
    return model


def _tae(encoder: Path, decoder: Path) -> Any:
    """Put the two files of TAESD and its relatives into diffusers' AutoencoderTiny; TAEF2 has blocks with pooling.

    Layer i of the encoder's file is layer i there; the decoder's file counts the clamp, which is no layer there.
    """
    from diffusers import AutoencoderTiny

    paths = encoder, decoder
    states = [_tensors(path) for path in paths]
    model: Any = AutoencoderTiny(latent_channels=states[1]["1.weight"].shape[1])
    parts = model.encoder.layers, model.decoder.layers
    for path, layers, tensors, clamps in zip(paths, parts, states, (0, 1), strict=True):
        renamed = {}
        for name, tensor in tensors.items():
            number, _, rest = name.partition(".")
            i = int(number) - clamps
            renamed[f"{i}.{rest}"] = tensor
            if rest == "pool.0.weight":
                layers[i] = PooledBlock(layers[i], tensor.shape[1])
        check_dense(renamed, str(path), layers)
        layers.load_state_dict(renamed)
    return model


def _tensors(path: Path) -> dict[str, Tensor]:
    with user_error(f"{path}: not a file of tensors", "fetch it again"):
        return dict(torch.load(path, map_location="cpu", weights_only=True))


class PooledBlock(nn.Module):
    """A residual block of AutoencoderTiny behind a normalised 1×1 bottleneck, as in TAEF2 (madebyollin/taesd)."""

    def __init__(self, block: Any, width: int) -> None:
        super().__init__()
        self.conv, self.skip, self.fuse = block.conv, block.skip, block.fuse
        self.pool = nn.Sequential(
            nn.Conv2d(width, 4 * width, 1, bias=False),
            nn.GroupNorm(4, 4 * width),
            nn.ReLU(),
            nn.Conv2d(4 * width, width, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape, (B, width, H, W)."""
        x = x + self.pool(x)
        return self.fuse(self.conv(x) + self.skip(x))


def _load_diffusers(kind: str, paths: tuple[Path, ...]) -> Autoencoder:
    return _of_diffusers(_diffusers(kind, *paths), paths, has_posterior=kind == "AutoencoderKL")


def _load_tae(paths: tuple[Path, ...]) -> Autoencoder:
    return _of_diffusers(_tae(*paths), paths, has_posterior=False)


KL_AND_TINY = ("AutoencoderKL", "AutoencoderTiny")
AUTOENCODERS: Registry[AutoencoderFormat] = Registry(
    "autoencoders",
    "autoencoder",
    {
        kind: AutoencoderFormat(partial(_find_diffusers, kind), partial(_load_diffusers, kind), "diffusers")
        for kind in KL_AND_TINY
    }
    | {"TAE": AutoencoderFormat(_find_tae, _load_tae, "diffusers")},
)
