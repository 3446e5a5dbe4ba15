"""What samples are measured against: the features and statistics of real images, made once for each content."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness import files
from harness.data.cache import make_once, own_file
from harness.data.finite import check_finite
from harness.engine.distributed import ALONE, World
from harness.errors import UserError
from harness.measure.extractors.extractor import Extractor, Features, extract
from harness.measure.images import ARRAY, Images, file_hash, npz_names, of_npz
from harness.measure.metrics.frechet import Statistics, covariance_fault, statistics
from harness.measure.metrics.neighbours import Manifold, manifold
from harness.measure.npz import read_array
from harness.plain_text import shown

NO_IMAGES = "the reference holds statistics and no images"

NAME = "features"  # array of a file of statistics: the id of the extractor that made them


@dataclass(frozen=True)
class Reference:
    """Real images as the metrics see them; `manifold` is None where only statistics are known."""

    name: str
    content: str
    count: int | None  # of the images behind `pool`; None where a file of statistics does not say it
    pool: Statistics
    spatial: Statistics | None
    manifold: Manifold | None
    no_spatial: str = ""  # why `spatial` is missing
    labels: np.ndarray | None = None  # of the rows of `manifold`
    diversity: float | None = None
    held_out: str = ""  # why nothing can have memorised its images; "" where it can


def of_images(images: Images, extractor: Extractor, cache: Path, world: World = ALONE) -> Reference:
    """Return the reference that a set of images makes, from the cache where it holds them.

    Raises:
        UserError: an image cannot be read, or the cache is damaged or cannot be written.
    """
    base = f"reference-{images.name.replace('/', '-')[:40]}-{images.content[:12]}-{extractor.id}"
    path = cache / f"{base}-features.npz"
    # Several processes are all needed for the work, so that none may wait in it for another's lock.
    shared = extract(images, extractor, world) if world.size > 1 and not world.decide(path.is_file) else None
    with _cached(path, lambda: _arrays(shared or extract(images, extractor))) as arrays:
        pool, spatial, diversity = arrays["pool"], arrays.get("spatial"), arrays.get("diversity")
        for name in arrays:
            check_finite(arrays[name], f"{path}: {name}", "delete it, and it is made again")
    with _cached(cache / f"{base}-neighbours.npz", lambda: _neighbours(pool)) as arrays:
        samples = Manifold(pool, arrays["radii"], arrays["nearest"])
    return Reference(
        images.name, images.content, images.count, statistics(pool),
        None if spatial is None else Statistics(spatial[0], spatial[1:], images.count), samples, extractor.no_spatial,
        images.labels, None if diversity is None else float(diversity), images.held_out,
    )  # fmt: skip


def of_statistics(path: Path, extractor: Extractor, cache: Path, world: World = ALONE) -> Reference:
    """Return a reference from an .npz of statistics: mu and sigma, and mu_s and sigma_s where it has them.

    ADM's reference files also hold 10,000 images under arr_0, for precision and recall; those are used too. The
    statistics that we write name their extractor (`features`, UTF-8); others must be of the same features, which only
    their length can show.

    Raises:
        UserError: the file cannot be read, its arrays do not fit the extractor's features, or are of other ones.
    """
    _check_made_with(path, extractor)
    names, pool, samples = npz_names(path), _read_statistics(path, "mu", "sigma"), None
    spatial = _read_statistics(path, "mu_s", "sigma_s") if "mu_s" in names and not extractor.no_spatial else None
    if ARRAY in names:
        samples = of_images(replace(of_npz(path), name=path.stem), extractor, cache, world).manifold
    why = extractor.no_spatial or f"{path.name} holds no mu_s and sigma_s"
    return Reference(path.name, file_hash(path), None, pool, spatial, samples, why)


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
    _save(path, arrays)


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


def _neighbours(pool: np.ndarray) -> dict[str, np.ndarray]:
    """What a manifold adds to its features; it takes minutes for 60,000 images."""
    samples = manifold(pool, "reference")
    return {"radii": samples.radii, "nearest": samples.nearest}


@contextmanager
def _cached(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of a cached .npz, made where it is missing."""
    make_once(path, lambda: _save(path, make()))
    with own_file(path, path), np.load(path) as arrays:
        yield arrays


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # np.savez would add .npz to the name
            np.savez(file, **arrays)  # type: ignore[arg-type]

    files.replace(path, write)
