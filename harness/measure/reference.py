"""What samples are measured against: the features and statistics of real images, made once for each content."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from harness.data.cache import make_once, own_file
from harness.data.datasets import ImageDataset
from harness.engine.distributed import ALONE, World
from harness.errors import UserError
from harness.files import replace
from harness.measure.extractors.extractor import Extractor, Features, extract
from harness.measure.images import Images, file_hash, of_array, of_npz, readable
from harness.measure.metrics.frechet import Statistics, statistics
from harness.measure.metrics.neighbours import Manifold, manifold

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
    labels: np.ndarray | None = None  # of the rows of `manifold`
    diversity: float | None = None
    held_out: str = ""  # why nothing can have memorised its images; "" where it can


def of_images(images: Images, extractor: Extractor, cache: Path, stem: str, world: World = ALONE) -> Reference:
    """Return the reference that a set of images makes, from the cache where it holds them.

    stem: the start of the cached files' names; content hash and extractor's id follow.

    Raises:
        UserError: an image cannot be read, or the cache is damaged or cannot be written.
    """
    base = cache / f"reference-{stem}-{images.content[:12]}-{extractor.id}"
    found = _cached_features(images, extractor, base, world)
    samples = _cached_manifold(found.pool, base)
    return Reference(
        images.name, images.content, images.count, statistics(found.pool), found.spatial, samples,
        extractor.no_spatial, images.labels, found.diversity, images.held_out,
    )  # fmt: skip


def of_dataset(dataset: ImageDataset, extractor: Extractor, cache: Path, world: World = ALONE) -> Reference:
    """Return the reference that a split of a data set makes; as `of_images`."""
    return of_images(split_images(dataset), extractor, cache, f"{dataset.name}-{dataset.split}", world)


def split_images(dataset: ImageDataset) -> Images:
    """Return the images of a split of a data set, with their labels."""
    name = f"{dataset.name}/{dataset.split}"
    images = of_array(dataset.images, name, dataset.content, dataset.labels)
    held_out = "" if dataset.split == "train" else f"{name} is held out of training"
    return dataclasses.replace(images, held_out=held_out)


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
    """Return features from `<base>.npy`, their spatial statistics from `<base>-spatial.npy`, and how different images
    of a class are from `<base>-diversity.npy`; what there is of these is written in this order."""
    rows, spatial, diversity = (base.with_name(f"{base.name}{end}.npy") for end in ("", "-spatial", "-diversity"))
    classes = images.labels is not None and not extractor.no_maps
    marker = diversity if classes else rows if extractor.no_spatial else spatial
    # Several processes are all needed for the work, so that none may wait in it for another's lock.
    shared = extract(images, extractor, world) if world.size > 1 and not world.decide(marker.is_file) else None

    def make() -> None:
        made = shared or extract(images, extractor)
        replace(rows, lambda temporary: _save(temporary, made.pool))
        if made.spatial:
            mean_and_covariance = np.vstack((made.spatial.mean, made.spatial.covariance))
            replace(spatial, lambda temporary: _save(temporary, mean_and_covariance))
        if classes:
            number = np.array(np.nan if made.diversity is None else made.diversity)
            replace(diversity, lambda temporary: _save(temporary, number))

    make_once(marker, make)
    with own_file(rows, marker):
        pool = np.load(rows)
    found = Features(pool, labels=images.labels)
    if not extractor.no_spatial:
        with own_file(spatial, marker):
            mean, *covariance = np.load(spatial)
            found = dataclasses.replace(found, spatial=Statistics(mean, np.array(covariance), images.count))
    if classes:
        with own_file(diversity, diversity):
            value = float(np.load(diversity))
            found = dataclasses.replace(found, diversity=None if np.isnan(value) else value)
    return found


def _cached_manifold(pool: np.ndarray, base: Path) -> Manifold:
    """Return features with their neighbours, from `<base>-radii.npy` and `<base>-nearest.npy`, written last: they take
    minutes for 60,000 images."""
    radii, nearest = (base.with_name(f"{base.name}-{end}.npy") for end in ("radii", "nearest"))

    def make() -> None:
        made = manifold(pool)
        replace(radii, lambda temporary: _save(temporary, made.radii))
        replace(nearest, lambda temporary: _save(temporary, made.nearest))

    make_once(nearest, make)
    with own_file(radii, nearest):
        distances = np.load(radii)
    with own_file(nearest, nearest):
        return Manifold(pool, distances, np.load(nearest))


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # np.save would add .npy to the name
        np.save(file, array)
