"""Pretrained autoencoders from local folders: diffusers' AutoencoderKL and AutoencoderTiny, TAESD's files, VAElight.

A folder is recognised by its files, and known by their sha256. What reads it is imported when it is read.
"""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.data.finite import check_dense, check_weights
from harness.data.latents import Convention
from harness.errors import UserError, user_error
from harness.files import is_file, read_json

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
ONNX = ("VAEencoder.onnx", "VAEpreview.onnx")
LEGAL = (
    f"a folder in diffusers' format (config.json, {WEIGHTS[0]}), one with TAESD's two files "
    f"(*_encoder.pth, *_decoder.pth), or VAElight's ({', '.join(ONNX)})"
)
PACKAGES = {"AutoencoderKL": "diffusers", "AutoencoderTiny": "diffusers", "TAE": "diffusers", "VAElight": "onnxruntime"}
SD_SCALE = 0.18215  # of the latents of Stable Diffusion 1, which makes their variance about one


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


def find(folder: Path) -> AutoencoderFiles:
    """Recognise the autoencoder of a folder by its files.

    Raises:
        UserError: none that is known, or the package that reads it is not installed.
    """
    files = _find(folder)
    package = PACKAGES[files.kind]
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{folder}: reading this autoencoder needs {package}: pip install -e '.[encode]'")
    return files


def _find(folder: Path) -> AutoencoderFiles:
    config = folder / "config.json"
    if config.is_file():
        content, weights = read_json(config), [folder / name for name in WEIGHTS if (folder / name).is_file()]
        kind = content.get("_class_name") if isinstance(content, dict) else None
        if kind not in ("AutoencoderKL", "AutoencoderTiny") or not weights:
            files = weights[0].name if weights else "no weights"
            raise UserError(f"{config}: _class_name '{kind}' with {files} is not known; an autoencoder is {LEGAL}")
        return AutoencoderFiles(kind, (config, weights[0]))
    encoders, decoders = (sorted(filter(is_file, folder.glob(f"*_{part}.pth"))) for part in ("encoder", "decoder"))
    if len(encoders) == len(decoders) == 1:
        return AutoencoderFiles("TAE", (*encoders, *decoders))
    if all((folder / name).is_file() for name in ONNX):
        return AutoencoderFiles("VAElight", tuple(folder / name for name in ONNX))
    raise UserError(f"{folder}: no autoencoder that is known; legal: {LEGAL}")


def load(files: AutoencoderFiles) -> Autoencoder:
    """Read an autoencoder, onto a GPU where there is one.

    Raises:
        UserError: its files are damaged, not finite, do not belong together, or need a shift besides a scale.
    """
    with user_error(f"{files.paths[-1]}: cannot be read as {files.kind}", "fetch it again"):
        if files.kind == "VAElight":
            return _vaelight(*files.paths)
        model = _tae(*files.paths) if files.kind == "TAE" else _diffusers(files.kind, *files.paths)
    return _of_diffusers(model, files)


def _of_diffusers(model: Any, files: AutoencoderFiles) -> Autoencoder:
    if model.config.get("shift_factor"):
        shift = model.config.shift_factor
        raise UserError(f"{files.paths[0]}: shift_factor {shift} is not supported; legal: autoencoders without one")
    scale = float(model.config.scaling_factor)
    if not (math.isfinite(scale) and scale > 0):
        raise UserError(f"{files.paths[0]}: scaling_factor {scale:g} is not a positive number; fetch it again")
    check_weights(model.state_dict(), str(files.paths[-1]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval().requires_grad_(False)
    has_posterior = files.kind == "AutoencoderKL"

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


def _vaelight(*paths: Path) -> Autoencoder:
    """Read VAElight: a small encoder to Stable Diffusion's latents, and a decoder to an image and three finer bands."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    encoder, decoder = (InferenceSession(path, options, ["CPUExecutionProvider"]) for path in paths)

    def encode(x: Tensor) -> Tensor:
        return torch.from_numpy(encoder.run(None, {"input": x.cpu().numpy()})[0])

    def decode(z: Tensor) -> Tensor:
        bands = [torch.from_numpy(band) for band in decoder.run(None, {"latent": z.cpu().numpy()})]
        side = bands[-1].shape[-2:]
        resized = [F.interpolate(band, size=side, mode="bilinear", align_corners=False) for band in bands]
        return torch.stack(resized).sum(0)

    return Autoencoder(encode, decode, "mean", SD_SCALE)
