"""Frozen encoders whose patch features a block is aligned with (REPA): any model of timm, or a ViT of our own.

Our own is trained on the data set's labels where no public weights are to be had. It is deliberately another network
than the classifier whose features measure FID: to align with the metric's own features would flatter REPA.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.config.settings.loss_settings import OWN_ENCODER, OwnEncoder
from harness.config.spec import Alignment, TrainSpec
from harness.data.datasets import Dataset, load_images
from harness.data.finite import check_weights
from harness.errors import UserError, user_error
from harness.files import sha256_of
from harness.networks.public_layouts import check_stored
from harness.networks.supervised import Recipe, trained

FOLDER = "encoders"  # of the data folder: files of weights, known by their sha256
Floats = Sequence[float]  # of each channel
Record = dict[str, Any]


class FrozenEncoder(nn.Module):
    """Images to features on the network's grid of tokens; frozen. `record` says which encoder it is, for facts.json.

    side: height and width of the images it is given. mean, std: of each channel, on pixels in [0, 1]. interpolation:
    how images are resized. grid: tokens of the network in a row. `width` is E, that of its features.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, side: int, mean: Floats, std: Floats, interpolation: str, grid: int, record: Record
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.side, self.interpolation, self.grid, self.record = side, interpolation, grid, record
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))
        self.width: int = self(torch.zeros(1, len(mean), side, side, dtype=torch.uint8)).shape[-1]

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 (N, C, H, W) → features of the last layer's patch tokens, float32 (N, T, E).

        Tokens of class and registers are left out. Another grid than the network's is resampled to it.
        """
        x = (images.float() / 255 - self.mean) / self.std  # one grey channel becomes three where the encoder has three
        x = F.interpolate(x, (self.side, self.side), mode=self.interpolation, align_corners=False)
        last_layer = {"indices": 1, "norm": True, "output_fmt": "NCHW", "intermediates_only": True}
        (z,) = self.network.forward_intermediates(x, **last_layer)  # type: ignore[operator]
        grid = (self.grid, self.grid)
        z = F.interpolate(z.float(), grid, mode="bilinear", align_corners=False, antialias=True)  # (N, E, g, g)
        return z.flatten(2).transpose(1, 2)


def load_encoder(spec: TrainSpec, data: Path, cache: Path) -> FrozenEncoder | None:
    """Return the encoder of a spec, from `cache` or trained into it where it is our own; None without alignment.

    Raises:
        UserError: timm has no such model, its weights cannot be had, or our own has no images to learn from.
    """
    alignment, grid = spec.alignment, spec.data.size // spec.model.patch
    if alignment is None:
        return None
    if alignment.own:
        return _own(alignment.own, spec.data.name, grid, data, cache)
    return _public(alignment, grid, data)


def check_encoder(alignment: Alignment, dataset: Dataset, data: Path) -> None:
    """Refuse, before the training, an alignment whose encoder or images are missing.

    Raises:
        UserError: as `load_encoder`, but for published weights, which are asked for when they are used.
    """
    dataset.images_for(np.array([0]), dataset.draw(1, torch.Generator()))
    own, name = alignment.own, alignment.encoder
    if own:
        load_images(dataset.name, "test", data)
        if not own.architecture.startswith(("vit_", "test_vit")) or not timm.is_model(own.architecture):
            raise UserError(f"alignment.own.architecture: timm has no VisionTransformer '{own.architecture}'")
    elif not timm.is_model(name.partition(".")[0]):
        raise UserError(f"alignment.encoder: timm {timm.__version__} has no model '{name}'")
    elif alignment.weights != "published":
        weights_file(alignment, data)
    elif not timm.is_model_pretrained(name):
        raise UserError(f"alignment.encoder: no weights of '{name}' are published; say alignment.weights")


def _own(own: OwnEncoder, name: str, grid: int, data: Path, cache: Path) -> FrozenEncoder:
    train, test = (load_images(name, split, data) for split in ("train", "test"))
    recipe = Recipe(**own.model_dump())
    made = trained("encoder", recipe, train, test, cache)
    record = {
        "name": OWN_ENCODER,
        "parameters": parameters(made.network),
        "sha256": made.record["weights"],
        "accuracy": made.record["accuracy"],
        "data": name,
        "images": len(train),
        "images_seen": recipe.steps * recipe.batch,
    }
    halves = (0.5,) * train.shape[0]  # [−1, 1], as it was trained
    return FrozenEncoder(made.network, own.side, halves, halves, "bilinear", grid, record)


def _public(alignment: Alignment, grid: int, data: Path) -> FrozenEncoder:
    """Make a model of timm with its weights, by name or from a file; images are prepared as its configuration says.

    A ViT resamples its positions to another side.
    """
    name, side, published = alignment.encoder, alignment.side, alignment.weights == "published"
    cfg = timm.get_pretrained_cfg(name)
    options: dict[str, Any] = {"img_size": side} if side and cfg and cfg.fixed_input_size else {}
    path = None if published else weights_file(alignment, data)
    advice = f"put them into <data>/{FOLDER}/ and set alignment.weights to the file's sha256"
    network = pretrained(name, path, "alignment.encoder", advice, **options)
    network.reset_classifier(0)
    if not hasattr(network, "forward_intermediates"):
        raise UserError(f"alignment.encoder: '{name}' gives no features of patches")
    record = {
        "name": name,
        "parameters": parameters(network),
        "sha256": tensors_sha256(network) if published else alignment.weights,
        "published": published,
    }
    cfg = network.pretrained_cfg
    side = side or cfg["input_size"][-1]
    return FrozenEncoder(network, side, cfg["mean"], cfg["std"], cfg["interpolation"], grid, record)


def pretrained(name: str, path: Path | None, setting: str, advice: str, **options: Any) -> Any:
    """Return a model of timm, all of it, with the weights of a file, or with those that timm publishes under its name.

    setting: what named the model. advice: what to do without network.

    Raises:
        UserError: the weights are another model's, damaged, not finite, or not to be had.
    """
    overlay = {"file": str(path), "custom_load": False} if path else None
    problem = f"{path}: not weights of {name}" if path else f"{setting}: timm cannot get the weights of '{name}'"
    with user_error(problem, "" if path else f"without network, {advice}"):
        network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    if path:
        check_stored(path, network)
    check_weights(network.state_dict(), str(path or f"{setting}: {name}"))
    return network


def weights_file(alignment: Alignment, data: Path) -> Path:
    """Return the file in `<data>/encoders/` whose sha256 is the spec's.

    Raises:
        UserError: no file there has it.
    """
    files = sorted(path for path in (data / FOLDER).glob("*") if path.is_file())
    for path in files:
        if sha256_of(path) == alignment.weights:
            return path
    names = ", ".join(path.name for path in files) or "nothing"
    raise UserError(f"alignment.weights: no file of sha256 {alignment.weights} in {data / FOLDER} (it holds {names})")


def parameters(network: nn.Module) -> int:
    """Count the parameters of a network."""
    return sum(p.numel() for p in network.parameters())


def tensors_sha256(network: nn.Module, leave_out: Callable[[str], bool] = lambda name: name == "pos_embed") -> str:
    """Hash a network's tensors with their names, but for its positions: these were resampled to the side of the images,
    and so have not the same last bits on every machine."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if not leave_out(name):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
