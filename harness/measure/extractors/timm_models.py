"""Features of any network that timm has, by name, with its published weights or those of a file: DINOv2, CLIP, …"""

from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import UserError
from harness.measure.extractors.inception import Outputs
from harness.networks.encoder import pretrained, tensors_sha256


def is_model(name: str) -> bool:
    """Tell whether timm has a model of this name, which may carry the tag of its weights."""
    return timm.is_model(name.partition(".")[0])


def load_timm(name: str, weights: Path | None) -> tuple[nn.Module, str, str]:
    """Return a model of timm with the weights of a file, or with those that timm publishes under its tag; the sha256 of
    its tensors; and what it gives: CLIP's embedding where it is CLIP's image tower, else what its classifier is given.

    Raises:
        UserError: no weights are published, they cannot be had, or the file holds others.
    """
    if weights is None and not timm.is_model_pretrained(name):
        raise UserError(f"features {name}: timm publishes no weights under this name; give a file by --weights")
    network = pretrained(name, weights, f"features {name}", "give a file by --weights")
    cfg, sha256, output = network.pretrained_cfg, tensors_sha256(network), "its embedding"
    # timm keeps CLIP's projection where other networks have their classes; fine-tuned ones have classes again.
    if "_clip" not in cfg["architecture"] or "ft_" in cfg.get("tag", ""):
        network.reset_classifier(0)
        output = "its features before the last layer"
    return network.eval().requires_grad_(False), sha256, output


def outputs(network: Any, images: Tensor) -> Outputs:
    """Return the features of uint8 images (B, 3, H, W), or of grey ones (B, 1, H, W).

    Images are resized whole, bicubically and with antialiasing, to the side that the network was made for.
    """
    cfg, side = network.pretrained_cfg, side_of(network)
    mean, std = (torch.tensor(cfg[name], device=images.device).view(1, -1, 1, 1) for name in ("mean", "std"))
    x = (images.float() / 255).expand(-1, 3, -1, -1)
    x = F.interpolate(x, (side, side), mode="bicubic", align_corners=False, antialias=True)
    return Outputs(network((x - mean) / std))


def side_of(network: Any) -> int:
    """Return the height and width of the images that a network was made for."""
    return network.pretrained_cfg["input_size"][-1]
