"""What samples are measured against: the features and statistics of real images, made once for each content."""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.data.cache import folder_lock, own_file
from harness.data.finite import check_finite
from harness.engine.distributed import ALONE, World
from harness.errors import UserError
from harness.measure.extractors.extractor import Extractor, Features, extract
from harness.measure.images import ARRAY, Images, file_hash, npz_names, of_npz
from harness.measure.metrics.diversity import vendi
from harness.measure.metrics.frechet import Statistics, covariance_fault, statistics
from harness.measure.metrics.neighbours import Manifold, manifold, part_of
from harness.measure.npz import read_array
from harness.measure.workspace import Arrays, Workspace, load, save
from harness.plain_text import shown

NO_IMAGES = "the reference holds statistics and no images"

NAME = "features"  # array of a file of statistics: the id of the extractor that made them


@dataclass(frozen=True)
class Reference:
    """Real images as the metrics see them, with their own numbers; `manifold` is None where only statistics are known.

    part: those of its images whose balls count for precision, recall, density and coverage; None: all do.
    """

    name: str
    content: str
    count: int | None  # of the images behind `pool`; None where a file of statistics does not say it
    pool: Statistics
    spatial: Statistics | None
    manifold: Manifold | None
    part: Manifold | None = None
    vendi: float = float("nan")  # of the images of `manifold`
    no_spatial: str = ""  # why `spatial` is missing
    labels: np.ndarray | None = None  # of the rows of `manifold`
    diversity: float | None = None
    held_out: str = ""  # why nothing can have memorised its images; "" where it can


def of_images(
    images: Images, extractor: Extractor, cache: Path, world: World = ALONE, part: int | None = None
) -> Reference:
    """Return the reference that a set of images makes, from the cache where it holds them.

    What the images come to by themselves is made once for each content and extractor, and the extractor's id says the
    arithmetic: features, their statistics and Vendi score, and what all of their pairs come to. part: of how many
    images the balls count; by default of all.

    Raises:
        UserError: an image cannot be read, or the cache is damaged or cannot be written.
    """
    workspace = Workspace(world, extractor.device)

    def cached(what: str, make: Callable[[Workspace], Arrays], *needed: str) -> Arrays:
        return _cached(_cache_path(images, extractor, cache, what), make, workspace, needed)

    features = _features(images, extractor, cache, workspace)
    pool, spatial, diversity = features["pool"], features.get("spatial"), features.get("diversity")
    own = cached("statistics", lambda work: _own(pool, work))

    def all_pairs(what: str, of: np.ndarray) -> Manifold:
        arrays = cached(what, lambda work: _neighbours(of, work), "kernel")
        return Manifold(of, arrays["radii"], arrays["nearest"], float(arrays["kernel"]))

    whole, rows = all_pairs("neighbours", pool), part_of(len(pool), part)
    chosen = None if rows is None else all_pairs(f"neighbours-of-{part}", pool[rows])
    return Reference(
        images.name, images.content, images.count, Statistics(own["mean"], own["covariance"], images.count),
        None if spatial is None else Statistics(spatial[0], spatial[1:], images.count), whole,
        chosen, float(own["vendi"]), extractor.no_spatial,
        images.labels, None if diversity is None else float(diversity), images.held_out,
    )  # fmt: skip


def pool_of(images: Images, extractor: Extractor, cache: Path, world: World = ALONE) -> np.ndarray:
    """Return the pooled features (N, D) of a set of images, as `of_images` keeps them.

    Raises:
        UserError: as `of_images`.
    """
    return _features(images, extractor, cache, Workspace(world, extractor.device))["pool"]


def _features(images: Images, extractor: Extractor, cache: Path, workspace: Workspace) -> Arrays:
    path = _cache_path(images, extractor, cache, "features")
    return _cached(path, lambda work: _arrays(extract(images, extractor, work)), workspace, ())


def _cache_path(images: Images, extractor: Extractor, cache: Path, what: str) -> Path:
    name = f"reference-{images.name.replace('/', '-')[:40]}-{images.content[:12]}-{extractor.id}"
    return cache / f"{name}-{what}.npz"


def of_statistics(
    path: Path, extractor: Extractor, cache: Path, world: World = ALONE, part: int | None = None
) -> Reference:
    """Return a reference from an .npz of statistics: mu and sigma, and mu_s and sigma_s where it has them.

    ADM's reference files also hold 10,000 images under arr_0, for precision and recall; those are used too. The
    statistics that we write name their extractor (`features`, UTF-8); others must be of the same features, which only
    their length can show.

    Raises:
        UserError: the file cannot be read, its arrays do not fit the extractor's features, or are of other ones.
    """
    _check_made_with(path, extractor)
    names, pool = npz_names(path), _read_statistics(path, "mu", "sigma")
    spatial = _read_statistics(path, "mu_s", "sigma_s") if "mu_s" in names and not extractor.no_spatial else None
    why = extractor.no_spatial or f"{path.name} holds no mu_s and sigma_s"
    reference = Reference(path.name, file_hash(path), None, pool, spatial, None, no_spatial=why)
    if ARRAY in names:
        images = of_images(replace(of_npz(path), name=path.stem), extractor, cache, world, part)
        return replace(reference, manifold=images.manifold, part=images.part, vendi=images.vendi)
    return reference


def _check_made_with(path: Path, extractor: Extractor) -> None:
    if NAME not in npz_names(path):
        return
    made_with = bytes(read_array(path, NAME)).decode(errors="replace")
    if made_with != extractor.id:
        remedy = "name the same --features and --weights, or compute the statistics again"
        raise UserError(f"{path}: its statistics are of {shown(made_with)}, not of {extractor.id}; {remedy}")


def save_statistics(path: Path, features: Features, extractor_id: str) -> None:
    """Write an .npz of statistics that ADM's suite reads as well, mu, sigma, mu_s, sigma_s, and the extractor's id."""
    pool = statistics(features.pool)
    arrays = {"mu": pool.mean, "sigma": pool.covariance, NAME: np.frombuffer(extractor_id.encode(), np.uint8)}
    if features.spatial:
        arrays |= {"mu_s": features.spatial.mean, "sigma_s": features.spatial.covariance}
    save(path, arrays)


def _read_statistics(path: Path, mean: str, covariance: str) -> Statistics:
    """Read a mean (D,) and a covariance (D, D).

    Raises:
        UserError: they are not there, not of real numbers, not finite, of other shapes, or no covariance.
    """
    stored = {name: read_array(path, name) for name in (mean, covariance)}
    for name, array in stored.items():
        if array.dtype.kind not in "fiu":
            raise UserError(f"{path}: {name} is {array.dtype}; real numbers are expected")
    mu, sigma = stored.values()
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)) or not len(mu):
        raise UserError(f"{path}: {mean} {mu.shape}, {covariance} {sigma.shape}; (D,) and (D, D) are expected")
    for name, array in stored.items():
        check_finite(np.asarray(array, np.float64), f"{path}: {name}", "compute the statistics again")
    rounding = float(np.finfo(sigma.dtype).eps) if sigma.dtype.kind == "f" else 0.0
    statistics_ = Statistics(np.asarray(mu, np.float64), np.asarray(sigma, np.float64))
    if fault := covariance_fault(statistics_.covariance, rounding):
        raise UserError(f"{path}: {covariance} is no covariance: {fault}; compute the statistics again")
    return statistics_


def _arrays(features: Features) -> dict[str, np.ndarray]:
    """The pooled features, and where there are any, statistics of the spatial ones and the diversity within a class."""
    arrays = {"pool": features.pool}
    if features.spatial:
        arrays["spatial"] = np.vstack((features.spatial.mean, features.spatial.covariance))
    if features.diversity is not None:
        arrays["diversity"] = np.array(features.diversity)
    return arrays


def _own(pool: np.ndarray, workspace: Workspace) -> Arrays:
    """Statistics and Vendi score of features (N, D), which one process makes."""

    def make() -> Arrays:
        found = statistics(pool, workspace.device)
        return {"mean": found.mean, "covariance": found.covariance, "vendi": np.array(vendi(pool, workspace.device))}

    return workspace.world.decide(make)


def _neighbours(pool: np.ndarray, workspace: Workspace) -> Arrays:
    """What a manifold adds to its features: all pairs, which takes minutes for a million images on a large GPU."""
    samples = manifold(pool, "reference", workspace)
    return {"radii": samples.radii, "nearest": samples.nearest, "kernel": np.array(samples.kernel)}


def _cached(path: Path, make: Callable[[Workspace], Arrays], workspace: Workspace, needed: Collection[str]) -> Arrays:
    """The arrays of a cached .npz, made where it is missing, or lacks what it was not needed for once.

    All processes make it, and the leading one keeps others out; what a kill leaves of its parts is found again.

    Raises:
        UserError: the cache is damaged or cannot be written.
    """
    world = workspace.world
    if not world.decide(lambda: _holds(path, needed)):
        with ExitStack() as stack:
            if world.leads:
                stack.enter_context(folder_lock(path.with_name(path.name + ".lock")))
            if not world.decide(lambda: _holds(path, needed)):
                work = replace(workspace, folder=path.with_suffix(".parts"))
                arrays = make(work)
                world.decide(lambda: save(path, arrays))
                work.forget()
    arrays = load(path)
    for name in arrays:
        check_finite(arrays[name], f"{path}: {name}", "delete it, and it is made again")
    return arrays


def _holds(path: Path, needed: Collection[str]) -> bool:
    if not path.is_file():
        return False
    with own_file(path, path), np.load(path) as arrays:
        return set(arrays).issuperset(needed)
