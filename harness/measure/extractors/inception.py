"""FID's Inception-v3 of 2015-12-05, as torch-fidelity ports it, arranged to run fast: the same numbers to 1e-5."""

import hashlib
import io
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.data.finite import check_dense, check_weights
from harness.errors import UserError, user_error
from harness.measure.metrics.diversity import perceptual
from harness.networks.encoder import tensors_sha256

INCEPTION = "inception-v3-compat"
SHA256 = "6726825d"  # its beginning, part of the published file's name
# `trunk_hash` of a copy whose last layer is zero. Known by its numbers: its FID between two sets of CIFAR-10 images is
# the one that torch-fidelity publishes, to 3e-8 of the value.
TRUNK = "64a9c03be395"
LARGEST = 1 << 28  # bytes of the file; the published one has 95 million
SIDE = 299
SPATIAL_CHANNELS = 7
DEPTHS = ("MaxPool_1", "MaxPool_2", "Mixed_5d", "Mixed_6e", "Mixed_7c")  # the last maps of each size, from 73×73 to 8×8


class Outputs(NamedTuple):
    """What one pass over a batch of images gives; None where the network has no such thing."""

    pool: Tensor  # (B, D)
    spatial: Tensor | None = None  # (B, D')
    logits: Tensor | None = None  # (B, classes)
    perceptual: Tensor | None = None  # (B, P), of which squared distances are LPIPS's


class Inception(nn.Module):
    """Pooled features (B, 2048), spatial features (B, 2023) and logits (B, 1008) in one pass.

    The names are those of ADM's evaluation suite (guided-diffusion, evaluations/evaluator.py): pool is its `pool_3:0`;
    spatial is the first 7 channels of `mixed_6/conv:0`, 17×17, in the order H, W, C; the logits leave out the bias, as
    its Inception Score does. TensorFlow's block mixed_6 is Mixed_6d here, and mixed_6/conv its 1×1 branch after the
    ReLU. The logits are None where the file lacks the last layer (some copies hold zeros).
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        _fold(network)
        self.layers = nn.ModuleDict({name: layer for name, layer in network.named_children() if name != "fc"})
        branch = network.Mixed_6d.branch1x1.conv
        self.spatial = nn.Conv2d(branch.in_channels, SPATIAL_CHANNELS, 1).requires_grad_(False)
        self.spatial.load_state_dict({k: x[:SPATIAL_CHANNELS] for k, x in branch.state_dict().items()})
        self.last = network.fc.weight if bool(network.fc.weight.any()) else None

    def forward(self, images: Tensor) -> Outputs:
        """Return the features of uint8 images (B, 3, H, W), or of grey ones (B, 1, H, W), of any size."""
        # The copy is not in vain: the resized image is contiguous, and channels_last halves the convolutions' time.
        x = resize(images.expand(-1, 3, -1, -1).float()).sub_(128).div_(128)
        x = x.contiguous(memory_format=torch.channels_last)
        maps = []
        for name, layer in self.layers.items():
            if name == "Mixed_6d":  # which x enters as (B, 768, 17, 17)
                spatial = F.relu(self.spatial(x)).permute(0, 2, 3, 1).flatten(1)
            x = layer(x)
            if name in DEPTHS:
                maps.append(perceptual((x,)))
        pool = x.flatten(1)
        return Outputs(pool, spatial, None if self.last is None else pool @ self.last.T, torch.cat(maps, 1))


def resize(images: Tensor) -> Tensor:
    """Resize float images (B, C, H, W) to 299×299 as TensorFlow 1 does: output i is at input i · H/299."""
    rows, columns = (_interpolation(n).to(images) for n in images.shape[2:])
    return rows @ images @ columns.T  # (B, C, 299, 299)


def _interpolation(size: int) -> Tensor:
    """Matrix (299, size) of the bilinear weights, without TensorFlow 2's half-pixel shift."""
    position = torch.arange(SIDE, dtype=torch.float32) * torch.tensor(size / SIDE)
    low = position.long()
    high = (low + 1).clamp_max(size - 1)
    share = position - low
    return F.one_hot(low, size) * (1 - share)[:, None] + F.one_hot(high, size) * share[:, None]


def _fold(network: Any) -> None:
    """Multiply each batch norm into the convolution before it; both are linear once training is over."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for module in network.modules():
        if hasattr(module, "conv") and hasattr(module, "bn"):
            module.conv = fuse_conv_bn_eval(module.conv.double(), module.bn.double()).float()
            module.bn = nn.Identity()


def load_inception(path: Path) -> Any:
    """Return torch-fidelity's network with the weights of a file.

    Raises:
        UserError: the file is missing, or holds anything but this network's tensors, all finite.
    """
    return _network_of(_content(path), path)


def _content(path: Path) -> bytes:
    """Read the weights' file, once: what is checked is what is loaded, whoever writes to the file meanwhile."""
    with user_error(f"features {INCEPTION}: {path} cannot be read", kinds=OSError), _existing(path).open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise UserError(f"features {INCEPTION}: {path} is larger than any copy of these weights; fetch it again")
    return content


def _network_of(content: bytes, path: Path) -> Any:
    """Return the network of a file's bytes."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with user_error(f"features {INCEPTION}: {path} is not torch-fidelity's weights file"):
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        check_weights(tensors, str(path))
        # torch-fidelity's own loading runs whatever a pickle asks for, and so it gets one that was written here.
        ours = io.BytesIO()
        torch.save(tensors, ours)
        ours.seek(0)
        network = FeatureExtractorInceptionV3(INCEPTION, ["2048"], feature_extractor_weights_path=ours)
        check_dense(tensors, str(path), network)
    return network


def trunk_hash(network: nn.Module) -> str:
    """Hash the weights that the pooled features depend on: not the last layer, which some copies lack."""
    return tensors_sha256(network, lambda name: name.startswith("fc.") or name.endswith("num_batches_tracked"))[:12]


def inception_weights(data: Path) -> Path:
    """Return where a data folder holds Inception's weights.

    Raises:
        UserError: it does not.
    """
    return _existing(data / f"{INCEPTION}.pth")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"features {INCEPTION}: no weights at {path}; run: harness data get {INCEPTION}")
    return path


def get_inception(data: Path) -> str:
    """Fetch Inception's weights into a data folder, or recognise those that are there; return what was done.

    Raises:
        UserError: a failed download, or a file that is none of the known copies.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = data / f"{INCEPTION}.pth"
    if path.is_file():
        return f"{INCEPTION}: at {path} already, {_recognised(path)}"
    with user_error(f"{INCEPTION}: could not be downloaded", f"put {URL_INCEPTION_V3.rsplit('/', 1)[1]} at {path}"):
        data.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), SHA256)
    return f"{INCEPTION}: weights fetched to {path}"


def _recognised(path: Path) -> str:
    """Say which of the known copies a file is: the published one, or only its features."""
    content = _content(path)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256.startswith(SHA256):
        return "the published file by its sha256"
    trunk = trunk_hash(_network_of(content, path))
    if trunk != TRUNK:
        raise UserError(
            f"{path}: neither the published file (sha256 {sha256[:8]}…, expected {SHA256}…) nor a known copy "
            f"of its layers up to the pooled features ({trunk}, expected {TRUNK}); remove it, fetch it again"
        )
    return "not the published file: a copy with the known layers up to the pooled features, all that is used here"
