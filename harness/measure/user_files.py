"""Measuring somebody's files: what SAMPLES and --reference may be, and one pass over each."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.datasets import load_images
from harness.engine.distributed import World
from harness.errors import UserError
from harness.measure.compare import compare
from harness.measure.extractors.extractor import Extractor, Features, extract, extractor
from harness.measure.images import Images, of_folder, of_npz
from harness.measure.jackknife import check_groups, intervals
from harness.measure.reference import Reference, npz_names, of_images, of_statistics, split_images
from harness.metric_definitions import base


@dataclass(frozen=True)
class MeasureRequest:
    """What is to be measured, with what, and where things are kept."""

    samples: Path
    reference: str
    features: str
    weights: Path | None
    batch: int
    device: str | None
    data: Path
    cache: Path
    intervals: bool = False


def measure_files(request: MeasureRequest, world: World) -> tuple[dict[str, Any], Features]:
    """Return {metrics, unavailable, protocol} and the samples' features, with intervals where the request has them (in
    the first process alone); everything is looked at before any network.

    Raises:
        UserError: something is missing, cannot be read, or does not fit together.
    """
    samples = images_of(request.samples)
    if request.intervals:
        check_groups(samples.count)
    dataset = _dataset(request)
    statistics = None if dataset else _statistics_file(Path(request.reference))
    real = dataset or (None if statistics else images_of(Path(request.reference)))
    if real:
        _check_shapes(samples, real, request)
    network = _network(request, dataset)
    reference = _reference(request, network, real, statistics, world)
    features = extract(samples, network, world)
    result = compare(features, reference, network)
    if request.intervals and world.rank == 0:
        result["intervals"] = intervals(result, features, reference)
    return result, features


def nearest_pairs(request: MeasureRequest, result: dict[str, Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the samples that come nearest to reference images, and those images, uint8 (C, H, W) each.

    Raises:
        UserError: the measurement has none.
    """
    pairs = result["details"].get("nearest")
    if pairs is None:
        (why,) = (why for name, why in result["unavailable"].items() if base(name) == "memorisation")
        raise UserError(f"--nearest: {why}")
    samples, real = images_of(request.samples), _dataset(request) or images_of(Path(request.reference))
    return [samples.one(p["sample"]) for p in pairs], [real.one(p["real"]) for p in pairs]


def images_of(path: Path) -> Images:
    """Return the images of an .npz or of a folder.

    Raises:
        UserError: there are none, or they cannot be read.
    """
    if path.is_dir():
        return of_folder(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; expected an .npz of images or a folder of pictures")
    if path.suffix != ".npz":
        raise UserError(f"{path}: neither an .npz nor a folder of pictures")
    if "arr_0" not in npz_names(path):
        raise UserError(f"{path}: holds {', '.join(npz_names(path)) or 'nothing'}; images are expected under arr_0")
    return of_npz(path)


def _dataset(request: MeasureRequest) -> Images | None:
    """Images of DATA_SET:SPLIT; None where the reference is a path."""
    name, colon, split = request.reference.partition(":")
    if Path(request.reference).exists() or not colon:
        if request.features == "classifier":
            raise UserError("--features classifier: it is a data set's own, so --reference must be DATA_SET:SPLIT")
        return None
    return split_images(load_images(name, split, request.data))


def _statistics_file(path: Path) -> Path | None:
    return path if path.suffix == ".npz" and path.is_file() and "mu" in npz_names(path) else None


def _check_shapes(samples: Images, real: Images, request: MeasureRequest) -> None:
    """Refuse sizes that differ, which would compare sharpness; grey images are grey RGB images to public networks."""
    (C, *size), (D, *expected) = samples.shape, real.shape
    if size != expected or (request.features == "classifier" and C != D):
        actual, legal = ("×".join(map(str, shape)) for shape in (samples.shape, real.shape))
        raise UserError(f"{request.samples}: images of {actual}, and {real.name} has {legal}; make them alike first")


def _network(request: MeasureRequest, dataset: Images | None) -> Extractor:
    import torch

    if request.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU here; say cpu")
    device = request.device or ("cuda" if torch.cuda.is_available() else "cpu")
    name = dataset.name.partition("/")[0] if dataset else ""
    made = extractor(request.features, name, request.data, request.cache, request.weights, device)
    return replace(made, batch=request.batch)


def _reference(
    request: MeasureRequest, network: Extractor, real: Images | None, statistics: Path | None, world: World
) -> Reference:
    if statistics:
        return of_statistics(statistics, network, request.cache, world)
    assert real is not None
    return of_images(real, network, request.cache, real.name.replace("/", "-"), world)
