"""The two networks whose features are compared: a data set's own classifier, and FID's Inception-v3."""

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from harness.engine.data import load_images
from harness.errors import UserError
from harness.measure.classifier import classifier

INCEPTION = "inception-v3-compat"
BATCH = 128


@dataclass(frozen=True)
class Extractor:
    """Images to features. `id` names the weights as well as the protocol: features of different ids never compare."""

    id: str
    note: str  # for people
    network: Callable[[Tensor], Tensor]  # uint8 (B, C, H, W) → float32 (B, D)
    device: torch.device

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the features, float32 (N, D), of uint8 images (N, C, H, W)."""
        assert images.dtype == np.uint8, images.dtype
        # A copy of each batch, as torch does not take memory that is mapped for reading only.
        batches = (torch.from_numpy(np.array(images[i : i + BATCH])) for i in range(0, len(images), BATCH))
        return torch.cat([self.network(batch.to(self.device)).float().cpu() for batch in batches]).numpy()


def extractor(
    name: str, dataset: str, data: Path, cache: Path, weights: Path | None = None, device: str = "cpu"
) -> Extractor:
    """Return the extractor `name` ("classifier" or "inception-v3-compat") for images of a data set.

    `weights` is the file of Inception's weights; by default `<data>/inception-v3-compat.pth`.

    Raises:
        UserError: an unknown name, a data set without a recipe, or missing weights.
    """
    if name == "classifier":
        return _classifier(dataset, data, cache, torch.device(device))
    if name == INCEPTION:
        return _inception(weights or inception_weights(data), torch.device(device))
    raise UserError(f"features '{name}' are unknown; legal: classifier, {INCEPTION}")


def inception_weights(data: Path) -> Path:
    """Return where a data folder holds Inception's weights.

    Raises:
        UserError: it does not.
    """
    path = data / f"{INCEPTION}.pth"
    if not path.is_file():
        raise UserError(f"features {INCEPTION}: no weights at {path}; run: harness data get {INCEPTION}")
    return path


def _classifier(dataset: str, data: Path, cache: Path, device: torch.device) -> Extractor:
    train, test = (load_images(dataset, split, data) for split in ("train", "test"))
    chosen = classifier(train, test, cache)
    chosen.network.to(device)
    note = f"{dataset} classifier, {100 * chosen.record['accuracy']:.1f}% test accuracy"
    return Extractor(f"classifier-{dataset}-{chosen.record['weights'][:12]}", note, chosen.features, device)


def _inception(weights: Path, device: torch.device) -> Extractor:
    network = load_inception(weights).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(images: Tensor) -> Tensor:
        return network(images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images)[0]

    note = "torch-fidelity's Inception-v3 of 2015-12-05, 2048 pooled features"
    return Extractor(f"{INCEPTION}-{trunk_hash(network)}", note, features, device)


def load_inception(path: Path) -> nn.Module:
    """Return torch-fidelity's network with the weights of a file.

    Raises:
        UserError: the file is missing, or holds anything but this network's tensors.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    if not path.is_file():
        raise UserError(f"features {INCEPTION}: no weights at {path}; run: harness data get {INCEPTION}")
    try:
        # torch-fidelity's own loading runs whatever a pickle asks for; this first reading refuses all but tensors.
        torch.load(path, map_location="cpu", weights_only=True)
        return FeatureExtractorInceptionV3(INCEPTION, ["2048"], feature_extractor_weights_path=str(path))
    except (RuntimeError, pickle.UnpicklingError, AttributeError, TypeError, EOFError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"features {INCEPTION}: {path} is not torch-fidelity's weights file: {reason}") from None


def trunk_hash(network: nn.Module) -> str:
    """Hash the weights that the pooled features depend on: not the last layer, which some copies lack."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked"):
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
