"""Pretrained autoencoders from local folders: diffusers' AutoencoderKL and AutoencoderTiny, TAESD's files, VAElight.

A folder is recognised by its files, and known by their sha256. What reads it is imported when it is read.
"""

import importlib.util
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.data.latents import Convention
from harness.errors import UserError, one_line
from harness.files import read_json, sha256_of

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
PARTS = ("encoder", "decoder")
ONNX = ("VAEencoder.onnx", "VAEpreview.onnx")
LEGAL = (
    f"a folder in diffusers' format (config.json, {WEIGHTS[0]}), one with TAESD's two files "
    f"(*_encoder.pth, *_decoder.pth), or VAElight's ({', '.join(ONNX)})"
)
PACKAGES = {"AutoencoderKL": "diffusers", "AutoencoderTiny": "diffusers", "TAE": "diffusers", "VAElight": "onnxruntime"}
SD_SCALE = 0.18215  # of the latents of Stable Diffusion 1, which makes their variance about one


@dataclass(frozen=True)
class AutoencoderFiles:
    """An autoencoder's files, not yet read."""

    kind: str
    paths: tuple[Path, ...]

    def sha256(self) -> str:
        """Return the sha256 of the files' bytes, one after the other."""
        return sha256_of(*self.paths)


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
    encoders, decoders = (sorted(folder.glob(f"*_{part}.pth")) for part in PARTS)
    if len(encoders) == len(decoders) == 1:
        return AutoencoderFiles("TAE", (*encoders, *decoders))
    if all((folder / name).is_file() for name in ONNX):
        return AutoencoderFiles("VAElight", tuple(folder / name for name in ONNX))
    raise UserError(f"{folder}: no autoencoder that is known; legal: {LEGAL}")


def load(files: AutoencoderFiles) -> Autoencoder:
    """Read an autoencoder, onto a GPU where there is one.

    Raises:
        UserError: its files are damaged, do not belong together, or need a shift besides a scale.
    """
    try:
        if files.kind == "VAElight":
            return _vaelight(files)
        model = _tae(files) if files.kind == "TAE" else _diffusers(files)
    except UserError:
        raise
    except Exception as error:  # four libraries read these files, and fail in as many ways
        raise UserError(
            f"{files.paths[-1]}: cannot be read as {files.kind}: {one_line(error)}; fetch it again"
        ) from None
    return _of_diffusers(model, files)


def _of_diffusers(model: Any, files: AutoencoderFiles) -> Autoencoder:
    if model.config.get("shift_factor"):
        shift = model.config.shift_factor
        raise UserError(f"{files.paths[0]}: shift_factor {shift} is not supported; legal: autoencoders without one")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval().requires_grad_(False)
    has_posterior = files.kind == "AutoencoderKL"

    def encode(x: Tensor) -> Tensor:
        code = model.encode(x.to(device))
        return code.latent_dist.parameters if has_posterior else code.latents

    def decode(z: Tensor) -> Tensor:
        return model.decode(z.to(device)).sample

    return Autoencoder(encode, decode, "mean,logvar" if has_posterior else "mean", float(model.config.scaling_factor))


def _diffusers(files: AutoencoderFiles) -> nn.Module:
    import diffusers

    config, weights = files.paths
    model, report = getattr(diffusers, files.kind).from_pretrained(
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
    return cast(nn.Module, model)


def _tae(files: AutoencoderFiles) -> nn.Module:
    """Put the two files of TAESD and its relatives into diffusers' AutoencoderTiny; TAEF2 has blocks with pooling.

    Layer i of the encoder's file is layer i there; the decoder's file counts the clamp, which is no layer there.
    """
    from diffusers import AutoencoderTiny

    parts = {part: _tensors(path) for part, path in zip(PARTS, files.paths, strict=True)}
    model = cast(nn.Module, AutoencoderTiny(latent_channels=parts["decoder"]["1.weight"].shape[1]))
    renamed: dict[str, Tensor] = {}
    for part, tensors in parts.items():
        layers = getattr(model, part).layers
        for name, tensor in tensors.items():
            number, _, rest = name.partition(".")
            i = int(number) - (part == "decoder")
            renamed[f"{part}.layers.{i}.{rest}"] = tensor.float()
            if rest == "pool.0.weight":
                layers[i] = PooledBlock(layers[i], tensor.shape[1])
    model.load_state_dict(renamed)
    return model


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a file of tensors: {one_line(error)}") from None


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


def _vaelight(files: AutoencoderFiles) -> Autoencoder:
    """Read VAElight: a small encoder to Stable Diffusion's latents, and a decoder to an image and three finer bands."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    encoder, decoder = (InferenceSession(path, options, ["CPUExecutionProvider"]) for path in files.paths)

    def encode(x: Tensor) -> Tensor:
        return torch.from_numpy(encoder.run(None, {"input": x.cpu().numpy()})[0])

    def decode(z: Tensor) -> Tensor:
        bands = [torch.from_numpy(band) for band in decoder.run(None, {"latent": z.cpu().numpy()})]
        side = bands[-1].shape[-2:]
        resized = [F.interpolate(band, size=side, mode="bilinear", align_corners=False) for band in bands]
        return torch.stack(resized).sum(0)

    return Autoencoder(encode, decode, "mean", SD_SCALE)
