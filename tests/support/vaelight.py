"""VAElight as a plug-in: a small autoencoder to Stable Diffusion's latents, whose networks onnxruntime runs."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.autoencoder import Autoencoder, AutoencoderFormat

ONNX = ("VAEencoder.onnx", "VAEpreview.onnx")
SD_SCALE = 0.18215  # of the latents of Stable Diffusion 1, which makes their variance about one


def recognise(folder: Path) -> tuple[Path, ...]:
    paths = tuple(folder / name for name in ONNX)
    return paths if all(path.is_file() for path in paths) else ()


def load(paths: tuple[Path, ...]) -> Autoencoder:
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


AUTOENCODERS = {"VAElight": AutoencoderFormat(recognise, load, "onnxruntime")}
