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


class Pretrained(nn.Module):
    """Images to what a network of timm gives its classifier, or to CLIP's embedding where it is CLIP's image tower.

    Images are resized whole, bicubically and with antialiasing, to the side that the network was made for.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        cfg, name = network.pretrained_cfg, network.pretrained_cfg["architecture"]
        self.network: nn.Module = network.eval().requires_grad_(False)
        self.sha256 = tensors_sha256(network)
        # timm keeps CLIP's projection where other networks have their classes; fine-tuned ones have classes again.
        projects = "_clip" in name and "ft_" not in cfg.get("tag", "")
        if not projects:
            network.reset_classifier(0)
        self.output_note = "its embedding" if projects else "its features before the last layer"
        self.side: int = cfg["input_size"][-1]
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(cfg["mean"]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(cfg["std"]).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Outputs:
        """Return the features of uint8 images (B, 3, H, W), or of grey ones (B, 1, H, W)."""
        x = (images.float() / 255).expand(-1, 3, -1, -1)
        x = F.interpolate(x, (self.side, self.side), mode="bicubic", align_corners=False, antialias=True)
        return Outputs(self.network((x - self.mean) / self.std))


def is_model(name: str) -> bool:
    """Tell whether timm has a model of this name, which may carry the tag of its weights."""
    return timm.is_model(name.partition(".")[0])


def load_timm(name: str, weights: Path | None) -> Pretrained:
    """Return a model of timm with the weights of a file, or with those that timm publishes under its tag.

    Raises:
        UserError: no weights are published, they cannot be had, or the file holds others.
    """
    if weights is None and not timm.is_model_pretrained(name):
        raise UserError(f"features {name}: timm publishes no weights under this name; give a file by --weights")
    return Pretrained(pretrained(name, weights, f"features {name}", "give a file by --weights"))
