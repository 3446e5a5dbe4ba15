"""What samples are measured against: the features and statistics of real images, made once for each content."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from harness.engine.cache import claim
from harness.engine.convert import own_file
from harness.engine.data import ImageDataset
from harness.engine.distributed import ALONE, World
from harness.errors import UserError
from harness.files import replace
from harness.measure.features import Extractor, Features, extract
from harness.measure.frechet import Statistics, statistics
from harness.measure.images import Images, file_hash, of_array, of_npz, readable
from harness.measure.neighbours import Manifold, manifold

NO_IMAGES = "the reference holds statistics and no images"


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


def of_images(images: Images, extractor: Extractor, cache: Path, stem: str, world: World = ALONE) -> Reference:
    """Return the reference that a set of images makes, from the cache where it holds them.

    stem: the start of the cached files' names; content hash and extractor's id follow.

    Raises:
        UserError: an image cannot be read, or the cache is damaged or cannot be written.
    """
    base = cache / f"reference-{stem}-{images.content[:12]}-{extractor.id}"
    found = _cached_features(images, extractor, base, world)
    samples = Manifold(found.pool, _cached_radii(found.pool, base))
    pool = statistics(found.pool)
    return Reference(
        images.name, images.content, images.count, pool, found.spatial, samples, no_spatial=extractor.no_spatial
    )


def of_dataset(dataset: ImageDataset, extractor: Extractor, cache: Path, world: World = ALONE) -> Reference:
    """Return the reference that a split of a data set makes; as `of_images`."""
    images = of_array(dataset.images, f"{dataset.name}/{dataset.split}", dataset.content)
    return of_images(images, extractor, cache, f"{dataset.name}-{dataset.split}", world)


def of_statistics(path: Path, extractor: Extractor, cache: Path, world: World = ALONE) -> Reference:
    """Return a reference from an .npz of statistics: mu and sigma, and mu_s and sigma_s where it has them.

    ADM's reference files also hold 10,000 images under arr_0, for precision and recall; those are used too. The
    statistics carry no name of their extractor: they must be of the same features, which only their length can show.

    Raises:
        UserError: the file cannot be read, or its arrays do not fit the extractor's features.
    """
    names, pool = npz_names(path), _read_statistics(path, "mu", "sigma")
    spatial = _read_statistics(path, "mu_s", "sigma_s") if "mu_s" in names and not extractor.no_spatial else None
    samples = of_images(of_npz(path), extractor, cache, path.stem, world).manifold if "arr_0" in names else None
    why = extractor.no_spatial or f"{path.name} holds no mu_s and sigma_s"
    return Reference(path.name, file_hash(path), None, pool, spatial, samples, why)


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays of an .npz.

    Raises:
        UserError: the file cannot be read.
    """
    with readable(path), ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def save_statistics(path: Path, features: Features) -> None:
    """Write an .npz of statistics that ADM's suite reads as well: mu, sigma, and mu_s, sigma_s where there are any."""
    pool = statistics(features.pool)
    arrays = {"mu": pool.mean, "sigma": pool.covariance}
    if features.spatial:
        arrays |= {"mu_s": features.spatial.mean, "sigma_s": features.spatial.covariance}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    replace(path, write)


def _read_statistics(path: Path, mean: str, covariance: str) -> Statistics:
    with readable(path), np.load(path, allow_pickle=False) as arrays:
        mu, sigma = (np.asarray(arrays[name], np.float64) for name in (mean, covariance))
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)) or not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise UserError(f"{path}: {mean} {mu.shape}, {covariance} {sigma.shape}: not a mean and a finite covariance")
    return Statistics(mu, sigma)


def _cached_features(images: Images, extractor: Extractor, base: Path, world: World) -> Features:
    """Return features from `<base>.npy`, and their spatial statistics from `<base>-spatial.npy`, written last."""
    rows, spatial = base.with_name(f"{base.name}.npy"), base.with_name(f"{base.name}-spatial.npy")
    marker = rows if extractor.no_spatial else spatial
    # Several processes are all needed for the work, so that none may wait in it for another's lock.
    shared = extract(images, extractor, world) if world.size > 1 and not world.decide(marker.is_file) else None
    with claim(marker) as missing:
        if missing:
            made = shared or extract(images, extractor)
            replace(rows, lambda temporary: _save(temporary, made.pool))
            if made.spatial:
                mean_and_covariance = np.vstack((made.spatial.mean, made.spatial.covariance))
                replace(spatial, lambda temporary: _save(temporary, mean_and_covariance))
    with own_file(rows, marker):
        pool = np.load(rows)
    if extractor.no_spatial:
        return Features(pool)
    with own_file(spatial, spatial):
        mean, *covariance = np.load(spatial)
        return Features(pool, Statistics(mean, np.array(covariance), images.count))


def _cached_radii(pool: np.ndarray, base: Path) -> np.ndarray:
    """Return the squared distances to the nearest neighbours from `<base>-radii.npy`: minutes for 60,000 images."""
    path = base.with_name(f"{base.name}-radii.npy")
    with claim(path) as missing:
        if missing:
            replace(path, lambda temporary: _save(temporary, manifold(pool).radii))
    with own_file(path, path):
        return np.load(path)


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # np.save would add .npy to the name
        np.save(file, array)
