"""Do our numbers agree with those of others? FID, sFID, KID, precision, recall and Inception Score, each made twice.

Images of CIFAR-10, drawn by RandomState(2020): test images, and blurred ones, against training images. Features and
metrics of torch-fidelity as shipped; the Fréchet distances of our features also by SciPy, in pytorch-fid's formula.
Of the first 256 images, FID and KID of training against test images are published by torch-fidelity. The file of
weights that can be had lacks the last layer: the Inception Score is that of a random one, the same on both sides.

Run: OMP_NUM_THREADS=1 python benchmarks/agreement.py --data data --images 500
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import torch
from PIL import Image, ImageFilter
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from harness.data.datasets import load_images
from harness.measure.extractors.extractor import Features, array_features, extractor
from harness.measure.extractors.inception import INCEPTION, Outputs, inception_weights, load_inception
from harness.measure.metrics.diversity import inception_score
from harness.measure.metrics.frechet import frechet_distance, statistics
from harness.measure.metrics.kernel import kid, kid_subset_size
from harness.measure.metrics.neighbours import across, manifold
from harness.measure.reference import of_statistics, save_statistics

PUBLISHED = {"fid": 110.280826, "kid": -0.00067925, "kid_std": 0.00177782}  # training against test images
COUNT, SUBSET = 256, 64  # of the published numbers: images of each set, and of a subset of KID


def chosen(images: int, count: int) -> np.ndarray:
    """Return which of `images` images are drawn; of fewer, each is among those of more."""
    return np.sort(np.random.RandomState(2020).choice(images, count, replace=False))


def drawn(split: str, data: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images of CIFAR-10, uint8 (count, 3, 32, 32), and which of them the published numbers are of."""
    images = load_images("cifar10", split, data).images
    rows = chosen(len(images), count)
    return np.array(images[rows]), np.isin(rows, chosen(len(images), min(count, COUNT)))


def with_last_layer(weights: Path, folder: Path) -> Path:
    """Write the weights with a random last layer; return the file."""
    state = torch.load(weights, map_location="cpu", weights_only=True)
    generator = torch.Generator().manual_seed(2020)
    state["fc.weight"] = 0.1 * torch.randn(state["fc.weight"].shape, generator=generator)
    torch.save(state, folder / "random-last-layer.pth")
    return folder / "random-last-layer.pth"


def blurred(images: np.ndarray) -> np.ndarray:
    """Return the images after a Gaussian blur of one pixel."""
    pictures = (Image.fromarray(image.transpose(1, 2, 0)).filter(ImageFilter.GaussianBlur(1)) for image in images)
    return np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in pictures])


@torch.no_grad()
def theirs(images: np.ndarray, weights: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the pooled features and the logits of torch-fidelity's network as shipped."""
    network: Any = load_inception(weights)
    network.features_list = ["2048", "logits_unbiased"]
    pools, logits = zip(*(network(batch) for batch in torch.from_numpy(images).split(64)), strict=True)
    return torch.cat(pools).numpy(), torch.cat(logits).numpy()


def ours(images: np.ndarray, weights: Path) -> tuple[Features, np.ndarray]:
    """Return our features, and the spatial ones of each image, of which the measurement itself keeps sums alone."""
    spatial, network = [], extractor(INCEPTION, "cifar10", weights.parent, weights.parent, weights)

    def keep(batch: torch.Tensor) -> Outputs:
        outputs = network.network(batch)
        assert outputs.spatial is not None
        spatial.append(outputs.spatial.double().numpy())
        return outputs

    found = array_features(images, dataclasses.replace(network, network=keep))
    return found, np.concatenate(spatial)


def by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    """Return the Fréchet distance of features, with a general matrix root."""
    (m, a), (w, b) = ((z.mean(0), np.cov(z, rowvar=False)) for z in (x.astype(np.float64), y.astype(np.float64)))
    root = scipy.linalg.sqrtm(a @ b)
    return float(((m - w) ** 2).sum() + np.trace(a + b) - 2 * np.trace(root).real)


def torch_fidelity(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return torch-fidelity's metrics of two sets of features."""
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    size = kid_subset_size(len(x), len(y))
    distance = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), False)
    kernel = kid_features_to_metric(a, b, kid_subset_size=size, verbose=False)
    balls = prc_features_to_metric(a, b, prc_neighborhood=3, save_cpu_ram=False, prc_batch_size=500, verbose=False)
    return {
        "fid": distance["frechet_inception_distance"], "kid": kernel["kernel_inception_distance_mean"],
        "precision": balls["precision"], "recall": balls["recall"],
    }  # fmt: skip


def main() -> None:
    """Print each number twice, with their relative difference, and how far the features are apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--images", type=int, default=500)
    arguments = parser.parse_args()
    data, sets, published = arguments.data, {}, {}
    for name in ("train", "test"):
        sets[name], published[name] = drawn(name, data, arguments.images)
    sets["blurred"] = blurred(sets["test"])
    found, spatial, shipped, logits = {}, {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        weights = with_last_layer(inception_weights(data), Path(folder))
        for name, images in sets.items():
            start = time.process_time()
            (found[name], spatial[name]), middle = ours(images, weights), time.process_time()
            shipped[name], logits[name] = theirs(images, weights)
            seconds = middle - start, time.process_time() - middle
            apart = np.abs(found[name].pool - shipped[name]).max()
            print(f"{name}: {seconds[0]:.0f} CPU-s ours, {seconds[1]:.0f} torch-fidelity; features up to "
                  f"{shipped[name].max():.2f}, apart by {apart:.1e} at most", flush=True)  # fmt: skip
    for name in ("test", "blurred"):
        against(name, found, spatial, shipped)
    for name, theirs_ in logits.items():
        score = isc_features_to_metric(torch.from_numpy(theirs_))["inception_score_mean"]
        mine = found[name].logits
        assert mine is not None
        report(f"{name}, Inception Score of a random last layer", inception_score(mine)[0], score)
    print(f"with the file as it is: {extractor(INCEPTION, 'cifar10', data, data).no_logits or 'no refusal'}")
    if arguments.images >= COUNT:
        x, y = (found[name].pool[published[name]] for name in ("train", "test"))
        mean, spread = kid(x, y, SUBSET)
        for metric, value in {
            "fid": frechet_distance(statistics(x), statistics(y)),
            "kid": mean,
            "kid_std": spread,
        }.items():
            report(f"published, {COUNT} images, train against test, {metric}", value, PUBLISHED[metric])
    to_itself(found["train"], data)


def against(name: str, found: dict[str, Features], spatial: dict[str, np.ndarray], shipped: dict[str, Any]) -> None:
    """Print the distances and neighbours of the training images and of those called `name`, twice."""
    x, y = found["train"].pool, found[name].pool
    shares = across(manifold(x), manifold(y)).shares
    mine = {
        "fid": frechet_distance(statistics(x), statistics(y)),
        "kid": kid(x, y)[0],
        "precision": shares["precision"],
        "recall": shares["recall"],
    }
    for metric, value in torch_fidelity(shipped["train"], shipped[name]).items():
        report(f"train against {name}, {metric}", mine[metric], value)
    report(f"train against {name}, fid by SciPy", mine["fid"], by_scipy(x, y))
    a, b = found["train"].spatial, found[name].spatial
    assert a is not None
    assert b is not None
    mine["sfid"] = frechet_distance(a, b)
    report(f"train against {name}, sfid by SciPy", mine["sfid"], by_scipy(spatial["train"], spatial[name]))


def to_itself(features: Features, data: Path) -> None:
    """Print the distances of a set to its own statistics, written and read in the layout of ADM's references."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "reference.npz")
        network = extractor(INCEPTION, "cifar10", data, data)
        save_statistics(path, features, network.id)
        reference = of_statistics(path, network, Path(folder))
    assert reference.spatial is not None
    assert features.spatial is not None
    distance, spatial = (
        frechet_distance(statistics(features.pool), reference.pool),
        frechet_distance(features.spatial, reference.spatial),
    )
    print(f"train against its own statistics in ADM's layout: fid {distance:.1e}, sfid {spatial:.1e}")


def report(name: str, ours: float, theirs: float) -> None:
    """Print a number that was made twice."""
    apart = abs(ours - theirs) / abs(theirs)
    print(f"{name}: {ours:.8g} ours, {theirs:.8g} theirs, relative difference {apart:.1e}", flush=True)


if __name__ == "__main__":
    main()
