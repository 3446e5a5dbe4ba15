"""Has a network learnt its training images rather than their law? Its denoising loss on them and on held-out images.

The loss is that of the process, per element and without the terms of the regulariser, at places that are the same for
every network: draw i of n is an image, a share of noise and noise. Images go round in a fixed random order, shares are
stratified: (k + ½)/n, k = 0 … n − 1, in a fixed random order; the held-out draws have the shares and the noise of the
training ones. So of two networks the difference hardly depends on what is drawn.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.config.spec import TrainSpec
from harness.data.datasets import Dataset, load, load_images, load_training
from harness.errors import UserError
from harness.gpu import device
from harness.measure import images
from harness.measure.compare import Measured, Piece, Values
from harness.measure.measure_request import KeptNetwork
from harness.measure.metrics.neighbours import copying, nearest_distances
from harness.measure.reference import pool_of
from harness.method.backbone import DiT
from harness.method.precision import matmul_precision
from harness.method.processes import ddpm
from harness.method.randomness import generator
from harness.metric_definitions import OF_NETWORK
from harness.networks.build import build_net, build_process
from harness.networks.checkpoint import load_weights

IMAGE_SEED, SHARE_SEED = 2020, 2021
BATCH = 64
BANDS = ("low-noise", "middle-noise", "high-noise")  # thirds of the shares
# The time at a share of noise, by the law that training draws times from; of other processes the loss of an image is
# that of a target which the network makes itself.
TIMES: dict[str, Callable[[Tensor], Tensor]] = {
    "flow": lambda share: (1 - share).float(),
    "ddpm": lambda share: (share * ddpm.STEPS).long(),
}


def places(images: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Return of each draw its image, int64 (n,), and its share of noise, float64 (n,) between 0 and 1."""
    order = np.random.RandomState(IMAGE_SEED).permutation(images)
    ranks = np.random.RandomState(SHARE_SEED).permutation(draws)
    return order[np.arange(draws) % images], (ranks + 0.5) / draws


@torch.no_grad()
def losses(net: DiT, spec: TrainSpec, dataset: Dataset, draws: int) -> np.ndarray:
    """Return the loss of each draw, float64 (n,), by a network in float32; the images keep their labels."""
    process, (indices, shares) = build_process(spec), places(len(dataset), draws)
    where, found = next(net.parameters()).device, list[Tensor]()
    for start in range(0, draws, BATCH):
        rows = slice(start, min(start + BATCH, draws))
        posterior = dataset.draw(rows.stop - start, generator(0, "posterior of a held-out loss", start))
        x, y = dataset.batch(indices[rows], posterior)
        streams = (generator(0, "noise of a held-out loss", i) for i in range(start, rows.stop))
        noise = torch.stack([torch.randn(x.shape[1:], generator=stream) for stream in streams])
        t = TIMES[spec.process](torch.from_numpy(shares[rows]))
        error, _ = process.loss(net, x.to(where), y.to(where), t.to(where), noise.to(where))
        found.append(error.double().cpu())
    return torch.cat(found).numpy()


def by_noise(name: str, values: np.ndarray, shares: np.ndarray) -> dict[str, float]:
    """Return the mean of values (n,) at shares of noise (n,), under a name, and that of each third of the shares."""
    thirds = np.minimum((shares * len(BANDS)).astype(int), len(BANDS) - 1)
    return {name: float(values.mean())} | {
        f"{name}:{band}": float(values[thirds == number].mean()) for number, band in enumerate(BANDS)
    }


def copied(measured: Measured) -> Piece:
    """How much nearer samples come to training images than held-out images do."""
    request, network, workspace = measured.request, measured.extractor, measured.workspace
    assert request, "not asked for"
    name = request.reference.partition(":")[0]
    try:
        splits = [images.of_split(load_images(name, split, request.data)) for split in ("train", "test")]
    except UserError as error:
        return {"copying": str(error)}, {}
    trained, unseen = (pool_of(split, network, request.cache, workspace.world) for split in splits)
    trained = trained if request.trained_on is None else trained[request.trained_on]
    distances = (
        nearest_distances(pool, trained, workspace.within(f"nearest-training-of-{side}"))
        for side, pool in (("samples", measured.pool), ("held-out", unseen))
    )
    return {"copying": copying(*distances)}, {}


def denoising(measured: Measured) -> Piece:
    """The losses of the network that drew the samples."""
    assert measured.request, "not asked for"
    assert measured.request.network, "not asked for"
    return measure_losses(measured.request.network, measured.request.data), {}


def measure_losses(network: KeptNetwork, data: Path) -> Values:
    """Return the losses of kept weights and the gap between them.

    Held-out images are those of the data set's test split, training images those that were trained on, without flips.

    Raises:
        UserError: weights or data set cannot be read.
    """
    train, spec, draws = network.train, network.evaluation, network.evaluation.evaluation.held_out
    assert draws, "not asked for"
    if train.process not in TIMES:
        return dict.fromkeys(OF_NETWORK, f"{train.process}: its loss is against targets of its own network")
    net = build_net(train).to(device()).eval()
    part = "ema" if spec.evaluation.weights == "ema" else "model"
    net.load_state_dict(load_weights(network.folder, spec.step, part))
    with matmul_precision("highest"):
        return _measured(lambda dataset: losses(net, train, dataset, draws), train, data, draws)


def _measured(of: Callable[[Dataset], np.ndarray], train: TrainSpec, data: Path, draws: int) -> Values:
    _, shares = places(1, draws)
    training = of(load_training(train.data.model_copy(update={"flip": False}), train.seed, data))
    values: Values = {**by_noise("training_loss", training, shares)}
    try:
        held_out = load(train.data.name, "test", data)
    except UserError as error:
        return values | dict.fromkeys(("held_out_loss", "loss_gap"), str(error))
    unseen = of(held_out)
    return values | by_noise("held_out_loss", unseen, shares) | by_noise("loss_gap", unseen - training, shares)
