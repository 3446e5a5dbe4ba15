"""Small networks that learn a data set's labels, for what stands in where no public weights are to be had.

Each is trained once, on the CPU and in one thread, so that neither the number of cores nor of processes changes it, and
kept as `<cache>/<kind>-<data set>-<hash>.safetensors` beside a .json that says how it was made and how good it is.
Another kind of processor makes other weights; those in `trained/` come with the package, the same for all machines.
"""

import dataclasses
import hashlib
import json
import shutil
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.data.cache import make_once, own_file
from harness.data.datasets import ImageDataset, from_uint8, positions
from harness.data.finite import check_weights
from harness.files import replace, sha256_of, write_json
from harness.networks.checkpoint import save_tensors

SHIPPED = Path(__file__).with_name("trained")


@dataclass(frozen=True)
class Recipe:
    """All that makes a network from a data set: AdamW, one cycle of the learning rate, cross-entropy."""

    side: int  # images are resized to this height and width
    steps: int
    batch: int
    shift: float  # largest random shift, as a share of the side
    mirror: bool  # random left-right flips
    learning_rate: float = 3e-3  # the peak
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    architecture: str = "test_resnet"  # timm's smallest ResNet: 0.37 M parameters, 96 features
    seed: int = 0
    patch: int | None = None  # of a VisionTransformer, in pixels of the resized image


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network; `record` is its .json: recipe, test accuracy, sha256 of the weights, versions."""

    network: nn.Module
    side: int
    record: dict[str, Any]


def trained(kind: str, recipe: Recipe, train: ImageDataset, test: ImageDataset, cache: Path) -> TrainedNetwork:
    """Return the network of a recipe and a data set, training it if the cache does not hold it.

    kind: what the network is for, the first word of its file's name.

    Raises:
        UserError: a cache that is damaged or cannot be written, or weights that are not finite.
    """
    made_from = {name: value for name, value in asdict(recipe).items() if value is not None}
    versions = {"timm": timm.__version__, "torch": torch.__version__}
    made_of: dict[str, Any] = {"recipe": made_from, "content": {"train": train.content, "test": test.content}}
    shipped = _shipped(f"{kind}-{train.name}", made_of)
    made_of |= {"shipped": shipped["weights"]} if shipped else versions
    name = f"{kind}-{train.name}-{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]}"
    record_path, path = cache / f"{name}.json", cache / f"{name}.safetensors"

    def make() -> None:
        if shipped:
            replace(path, partial(shutil.copyfile, SHIPPED / f"{kind}-{train.name}.safetensors"))
            write_json(record_path, shipped)
            return
        network = fit(recipe, train)
        save_tensors(path, network.state_dict())
        facts = {"accuracy": accuracy(network, recipe, test), "weights": sha256_of(path)}
        write_json(record_path, facts | made_of)  # written last: where it is, the weights are

    make_once(record_path, make)
    network = build(recipe, train)
    with own_file(record_path, record_path):
        record = json.loads(record_path.read_text())
        weights, _ = record["weights"], record["accuracy"]
    with own_file(path, record_path):
        if sha256_of(path) != weights:
            raise ValueError(f"its sha256 is not the one in {record_path.name}")
        network.load_state_dict(load_file(path))
    check_weights(network.state_dict(), str(path))
    return TrainedNetwork(network.eval().requires_grad_(False), recipe.side, record)


def _shipped(name: str, made_of: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of a network that comes with the package; None where there is none of this recipe and data."""
    path = SHIPPED / f"{name}.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return record if made_of.items() <= record.items() else None


def build(recipe: Recipe, dataset: ImageDataset) -> nn.Module:
    """Return the untrained network, its weights drawn from torch's current seed.

    Of a VisionTransformer, the normalised patch tokens are averaged and then named, so that every token's features mean
    something; there is no class token.
    """
    pooling: dict[str, Any] = {"class_token": False, "global_pool": "avg", "fc_norm": False}
    options = {"img_size": recipe.side, "patch_size": recipe.patch, **pooling} if recipe.patch else {}
    network = timm.create_model(recipe.architecture, in_chans=dataset.shape[0], num_classes=dataset.classes, **options)
    return network.to(memory_format=torch.channels_last)  # a third faster on CPUs


def fit(recipe: Recipe, dataset: ImageDataset) -> nn.Module:
    """Train a network; the same weights, bit for bit, whenever it is called on one machine."""
    with ExitStack() as stack, torch.random.fork_rng(devices=()):
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)  # sums over threads depend on their number
        torch.manual_seed(recipe.seed)
        network = build(recipe, dataset).train()
        optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps)
        for step in range(recipe.steps):
            indices = positions(recipe.seed, step, recipe.batch, len(dataset))
            x = augment(torch.from_numpy(dataset.images[indices]), recipe)
            loss = F.cross_entropy(
                network(x), torch.from_numpy(dataset.labels[indices]), label_smoothing=recipe.label_smoothing
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def rotations(dataset: ImageDataset) -> ImageDataset:
    """Return each square image in its four rotations, which are the classes: labels for images that have none
    (Gidaris, Singh and Komodakis 2018, arXiv 1803.07728)."""
    turned = np.concatenate([np.rot90(dataset.images, k, axes=(2, 3)) for k in range(4)])
    labels = np.repeat(np.arange(4), len(dataset))
    return dataclasses.replace(
        dataset, images=turned, labels=labels, classes=4, content=f"rotations of {dataset.content}"
    )


def augment(images: Tensor, recipe: Recipe) -> Tensor:
    """Resize uint8 images (B, C, H, W) as `resize` does, each shifted and mirrored at random."""
    B, C = images.shape[:2]
    theta = torch.zeros(B, 2, 3)  # output position → input position, both in [−1, 1]
    theta[:, 0, 0] = torch.where(torch.rand(B) < 0.5, -1.0, 1.0) if recipe.mirror else 1.0
    theta[:, 1, 1] = 1.0
    theta[:, :, 2] = (torch.rand(B, 2) * 2 - 1) * 2 * recipe.shift
    grid = F.affine_grid(theta, [B, C, recipe.side, recipe.side], align_corners=False)
    return F.grid_sample(from_uint8(images), grid, padding_mode="border", align_corners=False)  # (B, C, side, side)


def resize(images: Tensor, side: int) -> Tensor:
    """Return uint8 images (B, C, H, W) in [−1, 1], bilinearly resized to `side`."""
    return F.interpolate(from_uint8(images), size=(side, side), mode="bilinear", align_corners=False)


@torch.no_grad()
def accuracy(network: nn.Module, recipe: Recipe, dataset: ImageDataset) -> float:
    """Return the share of images that the network names rightly."""
    right = 0
    for indices in np.array_split(np.arange(len(dataset)), max(1, len(dataset) // 500)):
        logits = network(resize(torch.from_numpy(dataset.images[indices]), recipe.side))
        right += int((logits.argmax(1).numpy() == dataset.labels[indices]).sum())
    return right / len(dataset)
