"""From the features of two sets of images to every number that they give, and the reason for each that they do not.

What is computed stands in the registry `metric_definitions.METRICS`, ours as what plug-ins bring.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial, reduce
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from harness.errors import UserError
from harness.measure.extractors.extractor import Extractor, Features
from harness.measure.images import Images
from harness.measure.measure_request import MeasureRequest
from harness.measure.metrics import diversity, frechet, kernel, neighbours
from harness.measure.reference import NO_IMAGES, Reference
from harness.measure.workspace import Workspace
from harness.metric_definitions import (
    BY_PAIRS,
    DEFINITIONS,
    MEASURED,
    METRICS,
    OF_NETWORK,
    SPREADS,
    Metric,
    with_features,
)

PAIRS = 10  # samples that are shown beside their nearest real images
PER_FEATURE = 4  # samples: FID's bias is a line in 1/N only well above N = D
NO_LABELS = "nobody knows the classes of the samples"
Details = dict[str, Any]
Values = dict[str, float | str]  # of each metric its number, or why there is none
Piece = tuple[Values, Details]  # of what is computed together; ready for JSON


@dataclass(frozen=True)
class Measured:
    """What a metric is given: the features of both sides and, where they are at hand, their images."""

    features: Features  # of the samples
    reference: Reference
    extractor: Extractor
    samples: Images | None = None
    real: Images | None = None  # None where the reference is a file of statistics
    shared: Workspace | None = None  # whose processes share the work
    request: MeasureRequest | None = None  # what was asked, where it was not two sets of features alone

    @property
    def workspace(self) -> Workspace:
        """Where the work is done."""
        return self.shared or Workspace(device=self.extractor.device)

    @property
    def pool(self) -> np.ndarray:
        """The samples' features (N, D)."""
        return self.features.pool


def compare(measured: Measured, further: Iterable[str] = ()) -> dict[str, Any]:
    """Return {metrics, unavailable, protocol, details}, ready for JSON; all processes of the workspace must call this.

    Details: FID by the number of samples, FID by class, the samples nearest to real images and how near, and the
    numbers of the real images themselves. further: metrics that are measured as well.

    Raises:
        UserError: features that are not finite, or too few samples.
    """
    generated, reference, extractor = measured.features, measured.reference, measured.extractor
    check_features(generated.pool, "generated")
    if generated.logits is not None:
        check_features(generated.logits, "generated", diversity.SPLITS)
    if reference.manifold:
        check_features(reference.manifold.features, "reference")
    metrics = {name: METRICS[name] for name in (*MEASURED, *further)}
    calls: dict[Any, str] = {}
    for name, metric in metrics.items():  # of ours one call computes several
        calls.setdefault(metric.compute if name in DEFINITIONS else name, name)
    made = [_computed(name, metrics[name], measured) for name in calls.values()]
    values, details = (reduce(_joined, parts) for parts in zip(*made, strict=True))
    features = extractor.name or extractor.id
    of_features = DEFINITIONS.keys() - set(OF_NETWORK)
    carriers = {*of_features, *SPREADS.values()} if extractor.foreign else {"cmmd"}
    named = {with_features(name, features) if name in carriers else name: value for name, value in values.items()}
    named = {name: value if _can_stand(value) else f"it came out as {value}" for name, value in named.items()}
    return {
        "metrics": {name: float(value) for name, value in named.items() if not isinstance(value, str)},
        "unavailable": {name: why for name, why in named.items() if isinstance(why, str)},
        "protocol": _protocol(len(generated.pool), reference, extractor),
        "details": details,
    }


def _computed(name: str, metric: Metric, measured: Measured) -> Piece:
    """Return what a metric's call computes; in the leading process alone, and kept, where not all are needed."""
    if metric.everywhere:
        made = metric(measured)
    else:
        key = name if name in DEFINITIONS else f"plug-in-{name}"
        made = measured.workspace.value(key, partial(metric, measured))
    return tuple(made) if isinstance(made, list | tuple) and len(made) == 2 else ({name: made}, {})


def _can_stand(value: Any) -> bool:
    """Tell whether a value is a reason already, or a finite number; squares of features beyond 1e19 are not."""
    return isinstance(value, str) or (isinstance(value, int | float | np.number) and bool(np.isfinite(value)))


def check_features(x: np.ndarray, side: str, fewest: int = 2) -> None:
    """Refuse fewer rows than that, and values that are not finite: a distance on them would be no number at all.

    x: features (N, D). side: whose they are, "generated" or "reference".

    Raises:
        UserError: naming the side.
    """
    if len(x) < fewest:
        raise UserError(f"{len(x)} {side} samples; this metric needs at least {fewest}: {neighbours.MORE[side]}")
    if broken := int((~np.isfinite(x).all(1)).sum()):
        raise UserError(f"{side} features are not finite in {broken} of {len(x)} rows")


def _joined(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Return both, what is within `real` put together as well."""
    return a | b | ({"real": a.get("real", {}) | b["real"]} if "real" in b else {})


def distances(measured: Measured) -> Piece:
    """The Fréchet distances of all samples, and the Inception Score."""
    generated, reference, extractor = measured.features, measured.reference, measured.extractor
    pool = frechet.statistics(generated.pool, extractor.device)
    values: Values = {"fid": _distance(pool, reference.pool, reference.name, extractor.device)}
    if generated.spatial and reference.spatial:
        values["sfid"] = _distance(generated.spatial, reference.spatial, reference.name, extractor.device)
    else:
        values["sfid"] = extractor.no_spatial or reference.no_spatial
    if generated.logits is None:
        return values | {"inception_score": extractor.no_logits}, {}
    score, spread = diversity.inception_score(generated.logits)
    return values | {"inception_score": score, "inception_score_std": spread}, {}


def infinity(measured: Measured) -> Piece:
    """The Fréchet distances of fewer samples, and of infinitely many."""
    pool, reference, device = measured.pool, measured.reference.pool, measured.extractor.device
    N, D = pool.shape
    if N < PER_FEATURE * D:
        reason = f"{N:,} samples; of {D:,} features the bias can be told from {PER_FEATURE * D:,} on"
        return {"fid_infinity": reason}, {}
    points = frechet.fid_by_count(pool, reference, device)
    by_count = {str(count): distance for count, distance in points.items()}
    return {"fid_infinity": frechet.fid_infinity(points)}, {"fid_by_count": by_count}


def class_fid(measured: Measured) -> Piece:
    """The mean of the classes' own FIDs."""
    generated, reference, extractor = measured.features, measured.reference, measured.extractor
    D, real = generated.pool.shape[1], reference.manifold
    if real is None:
        return {"class_fid": NO_IMAGES}, {}
    if generated.labels is None:
        return {"class_fid": NO_LABELS}, {}
    if reference.labels is None:
        return {"class_fid": "nobody knows the classes of the reference"}, {}
    if few := frechet.too_few(generated.labels, D, "samples") or frechet.too_few(reference.labels, D, reference.name):
        return {"class_fid": few}, {}
    labels, device = (generated.labels, reference.labels), extractor.device
    each = frechet.fid_by_class(generated.pool, labels[0], real.features, labels[1], device)
    if not each:
        return {"class_fid": "samples and reference have no class in common"}, {}
    by_class = {str(label): distance for label, distance in each.items()}
    return {"class_fid": float(np.mean(list(each.values())))}, {"fid_by_class": by_class}


def diverse(measured: Measured) -> Piece:
    """What samples say without being compared; what real images say goes into the details."""
    generated, reference, extractor = measured.features, measured.reference, measured.extractor
    real = {"vendi": reference.vendi} if reference.manifold else {}
    if reference.diversity is not None:
        real["class_diversity"] = reference.diversity
    reason = extractor.no_maps or (NO_LABELS if generated.labels is None else "no class has two samples")
    within = reason if generated.diversity is None else generated.diversity
    values: Values = {"vendi": diversity.vendi(generated.pool, extractor.device), "class_diversity": within}
    return values, {"real": real}


def kid(measured: Measured) -> Piece:
    """KID, of which random subsets are taken."""
    real = measured.reference.manifold
    if real is None:
        return {"kid": NO_IMAGES}, {}
    mean, spread = kernel.kid(measured.pool, real.features, device=measured.extractor.device)
    return {"kid": mean, "kid_std": spread}, {}


def by_pairs(measured: Measured) -> Piece:
    """The metrics that all pairs of samples and reference images enter."""
    reference, workspace, real = measured.reference, measured.workspace, measured.reference.manifold
    if real is None:
        return dict.fromkeys(BY_PAIRS, NO_IMAGES), {}
    generated = neighbours.manifold(measured.pool, "generated", workspace.within("own"))
    found = neighbours.across(generated, real, reference.part, workspace)
    cmmd = kernel.cmmd(generated.kernel, real.kernel, found.kernel)
    values: Values = {**found.shares, "cmmd": cmmd}
    if reference.held_out:
        return values | {"memorisation": reference.held_out}, {}
    nearest = found.nearest
    values["memorisation"] = float(neighbours.memorised(nearest, real).mean())
    pairs = [
        {"sample": int(i), "real": int(nearest.index[i]), "distance": float(nearest.distance[i]) ** 0.5}
        for i in neighbours.closest(nearest, real, PAIRS)
    ]
    return values, {"real": {"memorisation": neighbours.mutual_share(real)}, "nearest": pairs}


def _distance(generated: frechet.Statistics, reference: frechet.Statistics, name: str, device: torch.device) -> float:
    if generated.mean.shape != reference.mean.shape:
        raise UserError(
            f"{name}: statistics of {len(reference.mean)} features, and these have {len(generated.mean)}: they are of "
            "another network"
        )
    return frechet.frechet_distance(generated, reference, device)


def _protocol(count: int, reference: Reference, extractor: Extractor) -> dict[str, Any]:
    """Return what may differ between measurements; what a metric's name settles (k, splits) is in `DEFINITIONS`."""
    protocol = {
        "features": extractor.id,
        "features_note": extractor.note,
        "generated": count,
        "reference": reference.name,
        "reference_count": reference.count,
        "reference_content": reference.content[:12],
        "torch_fidelity": version("torch-fidelity"),
    }
    if reference.manifold:
        rows = len(reference.manifold.features)
        protocol |= {"kid_subsets": kernel.KID_SUBSETS, "kid_subset_size": kernel.kid_subset_size(count, rows)}
        protocol["prc_neighbourhood"] = neighbours.NEIGHBOURHOOD
        if rows != reference.count:
            protocol["reference_rows"] = rows
        if reference.part:
            protocol["reference_part"] = len(reference.part.features)
    return protocol
