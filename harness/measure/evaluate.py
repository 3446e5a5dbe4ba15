"""From samples to numbers, with the protocol that they belong to: samples of a run, or somebody's files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.data.datasets import load_images
from harness.engine.distributed import ALONE, World
from harness.errors import UserError
from harness.measure import images
from harness.measure.compare import Measured, compare
from harness.measure.extractors.extractor import FEATURES, Extractor, Features, extract, extractor, recipe_of
from harness.measure.extractors.inception import INCEPTION, inception_weights
from harness.measure.images import Images
from harness.measure.jackknife import check_groups, intervals
from harness.measure.measure_request import MeasureRequest
from harness.measure.reference import Reference, of_images, of_statistics
from harness.measure.workspace import Workspace
from harness.metric_definitions import base


def check_measurable(dataset: str, split: str, features: str, data_root: Path) -> None:
    """Refuse a measurement that could not be made, before the training that it would be made of.

    Raises:
        UserError: as `measure` would, in the end.
    """
    load_images(dataset, split, data_root)
    if features == INCEPTION:
        inception_weights(data_root)
    elif features == "classifier":
        recipe_of(dataset)
    else:
        _ = FEATURES[features]


def measure(samples: Images, request: MeasureRequest, world: World = ALONE) -> tuple[dict[str, Any], Features]:
    """Return {metrics, unavailable, protocol, details} and the samples' features, with intervals where the request has
    them (in the first process alone); everything is looked at before any network. The processes share the work.

    Raises:
        UserError: something is missing, cannot be read, or does not fit together.
    """
    if request.intervals:
        check_groups(samples.count)
    real = _real_images(request)
    if real:
        _check_shapes(samples, real, request)
    network = _network(request)
    if real:
        reference = of_images(real, network, request.cache, world, request.part)
    else:
        reference = of_statistics(Path(request.reference), network, request.cache, world, request.part)
    workspace = Workspace(world, network.device, request.scratch)
    workspace.keep_only(_made_of(samples, reference, network))
    features = extract(samples, network, workspace.within("features"))
    result = compare(Measured(features, reference, network, samples, real, workspace, request), request.metrics)
    for side, images_of in (("generated", samples), ("reference", real)):
        if images_of and images_of.left_out:
            result["protocol"][f"{side}_left_out"] = images_of.left_out
    if request.intervals and world.leads:
        result["intervals"] = intervals(result, features, reference, network.device)
    return result, features


def _made_of(samples: Images, reference: Reference, network: Extractor) -> dict[str, Any]:
    """Return what all that is measured of some samples depends on."""
    part = len(reference.part.features) if reference.part else None
    return {"samples": samples.content, "reference": reference.content, "part": part, "features": network.id}


def nearest_pairs(samples: Images, request: MeasureRequest, result: dict[str, Any]) -> tuple[list[np.ndarray], ...]:
    """Return the samples that come nearest to reference images, and those images, uint8 (C, H, W) each.

    Raises:
        UserError: the measurement has none.
    """
    pairs = result["details"].get("nearest")
    if pairs is None:
        (why,) = (why for name, why in result["unavailable"].items() if base(name) == "memorisation")
        raise UserError(f"--nearest: {why}")
    real = _real_images(request) or images.of_path(Path(request.reference))
    return [samples.one(pair["sample"]) for pair in pairs], [real.one(pair["real"]) for pair in pairs]


def _real_images(request: MeasureRequest) -> Images | None:
    """The images of the reference; None where it is a file of statistics."""
    (name, colon, split), path = request.reference.partition(":"), Path(request.reference)
    if colon and not path.exists():
        return _with_trained(images.of_split(load_images(name, split, request.data)), request.trained_on)
    if request.features == "classifier":
        raise UserError("--features classifier: it is a data set's own, so --reference must be DATA_SET:SPLIT")
    has_statistics = path.suffix == ".npz" and path.is_file() and "mu" in images.npz_names(path)
    return None if has_statistics else images.of_path(path)


def _with_trained(real: Images, trained_on: np.ndarray | None) -> Images:
    """Return the reference as one that nothing can be said to have memorised, where only a part was trained on."""
    if real.held_out or trained_on is None or len(trained_on) == real.count:
        return real
    part = f"{len(trained_on):,} of the {real.count:,} images of {real.name} were trained on"
    return replace(real, held_out=f"{part}: evaluation.held_out measures copying of these")


def _check_shapes(samples: Images, real: Images, request: MeasureRequest) -> None:
    """Refuse sizes that differ, which would compare sharpness; grey images are grey RGB images to public networks."""
    if samples.shape[1:] != real.shape[1:] or (request.features == "classifier" and samples.shape[0] != real.shape[0]):
        actual, legal = images.by(samples.shape), images.by(real.shape)
        raise UserError(f"{samples.name}: images of {actual}, and {real.name} has {legal}; make them alike first")


def _network(request: MeasureRequest) -> Extractor:
    if request.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU here; say cpu")
    device = request.device or ("cuda" if torch.cuda.is_available() else "cpu")
    dataset = request.reference.partition(":")[0]  # whose classifier it is, if any
    network = extractor(request.features, dataset, request.data, request.cache, request.weights, device)
    return replace(network, batch=request.batch)
