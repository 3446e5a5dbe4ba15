"""Datasets as memory-mapped arrays behind one interface: `draw` for the global batch, `batch` for a slice of it."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.config.settings.data_settings import Data
from harness.data import latents, raw_files
from harness.data.cache import content_hash, own_file
from harness.data.finite import NotFinite, check_finite
from harness.data.raw_files import has_pixels
from harness.errors import UserError, nearest


def from_uint8(images: Tensor) -> Tensor:
    """Return pixels u/127.5 − 1 in [−1, 1], float32 of the same shape."""
    return images.float() / 127.5 - 1


@dataclass(frozen=True)
class Split:
    """One split of a data set. `content` is the sha256 of its arrays, taken once when they were written.

    Every kind of data set has the `shape` (C, H, W) of an item and three methods. `draw` makes all randomness of n
    items; the first axis of every tensor is the item, so that it can be sliced. `batch` returns x float32 (B, C, H, W)
    and y int64 (B,) of the items `indices` (B,) under draws of length B, and `images_for` the images, uint8
    (B, C, H, W), that `batch` shows or encodes under the same draws.
    """

    name: str
    split: str
    labels: np.ndarray  # int64 (N,)
    classes: int
    content: str

    def __len__(self) -> int:
        return len(self.labels)

    def files(self, images: bool) -> list[Path]:
        """Return the files that batches are read from by memory maps, the most important first.

        images: those that `images_for` reads as well.
        """
        maps = [array for array in self._arrays(images) if isinstance(array, np.memmap)]
        return [Path(array.filename) for array in maps if array.filename]

    def _arrays(self, images: bool) -> list[np.ndarray | None]:
        raise NotImplementedError


@dataclass(frozen=True)
class ImageDataset(Split):
    """Pixels in [−1, 1], flipped left to right with probability one half where `flip` is set."""

    images: np.ndarray  # uint8 (N, C, H, W), memory-mapped
    flip: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.images.shape[1:]

    def _arrays(self, images: bool) -> list[np.ndarray | None]:
        return [self.images]

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw flips, bool (n,), or nothing."""
        return (torch.rand(n, generator=generator) < 0.5,) if self.flip else ()

    def batch(self, indices: np.ndarray, draws: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return pixels in [−1, 1] and labels."""
        return from_uint8(self.images_for(indices, draws)), torch.from_numpy(self.labels[indices])

    def images_for(self, indices: np.ndarray, draws: tuple[Tensor, ...]) -> Tensor:
        """Return the same images, uint8 (B, C, H, W)."""
        images = torch.from_numpy(self.images[indices])
        return torch.where(draws[0][:, None, None, None], images.flip(-1), images) if self.flip else images


@dataclass(frozen=True)
class LatentDataset(Split):
    """Latents drawn anew at each visit from the encoder's posterior: scale · (mean + σ ε), ε ~ N(0, 1).

    A deterministic encoder (convention "mean") leaves nothing to draw: scale · mean. A flipped latent is not the latent
    of the flipped image, so with flips there are two sets of moments.
    """

    moments: np.ndarray  # float16 or float32 (N, 2C or C, H, W), memory-mapped: mean, then log-variance or σ or nothing
    flipped: np.ndarray | None  # the same of the flipped images
    scale: float
    convention: latents.Convention
    photos: ImageDataset | None = None  # the images behind the latents, where they were kept

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a latent: half the channels of its moments, or all of them where they are means only."""
        _, channels, H, W = self.moments.shape
        return channels if self.convention == "mean" else channels // 2, H, W

    def _arrays(self, images: bool) -> list[np.ndarray | None]:
        return [self.moments, self.flipped, self.photos.images if self.photos and images else None]

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw posterior noise (n, C, H, W), if there is a posterior; flips, bool (n,), if there are two sets."""
        eps = () if self.convention == "mean" else (torch.randn(n, *self.shape, generator=generator),)
        return eps if self.flipped is None else (*eps, torch.rand(n, generator=generator) < 0.5)

    def batch(self, indices: np.ndarray, draws: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return scaled samples of the posterior, and labels.

        Raises:
            UserError: a moment is not finite, or gives no finite latent.
        """
        x, y = self._batch(indices, draws)
        try:
            check_finite(x, f"data set {self.name}: latents", "encode it again")
        except NotFinite as error:
            raise UserError(f"{error}; the first are those of item {indices[error.row]}") from None
        return x, y

    def _batch(self, indices: np.ndarray, draws: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy(self._moments(indices, draws)).float()  # (B, 2C or C, H, W)
        y = torch.from_numpy(self.labels[indices])
        if self.convention == "mean":
            return self.scale * x, y
        mean, spread = x.chunk(2, dim=1)
        # The clamp is the reference encoder's: its log-variance is an unbounded network output.
        sigma = spread.clamp(-30, 20).mul_(0.5).exp_() if self.convention == "mean,logvar" else spread
        return sigma.mul_(draws[0]).add_(mean).mul_(self.scale), y  # in place: memory takes more time than sums

    def _moments(self, indices: np.ndarray, draws: tuple[Tensor, ...]) -> np.ndarray:
        """Return copies of the moments, those of the flipped images where they were drawn."""
        if self.flipped is None:
            return self.moments[indices]
        moments = np.empty((len(indices), *self.moments.shape[1:]), self.moments.dtype)
        for row, index, flip in zip(moments, indices, draws[-1].tolist(), strict=True):
            row[...] = (self.flipped if flip else self.moments)[index]  # a row at a time: each is copied once
        return moments

    def images_for(self, indices: np.ndarray, draws: tuple[Tensor, ...]) -> Tensor:
        """Return the photographs behind the latents, uint8 (B, 3, H, W).

        Raises:
            UserError: they were packed without.
        """
        if self.photos is None:
            raise UserError(
                f"data set {self.name}: an encoder needs the images behind the latents (images.npy), and they were "
                f"packed without; encode again with --keep-images"
            )
        return self.photos.images_for(indices, draws[-1:])  # flips are the last of the draws


@dataclass(frozen=True)
class Subset(Split):
    """Some items of a data set, counted anew from 0; `labels` are theirs, and `content` is that of the whole."""

    whole: ImageDataset | LatentDataset
    items: np.ndarray  # int64 (N,): their places in the whole

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an item."""
        return self.whole.shape

    def files(self, images: bool) -> list[Path]:
        """Return no files to be read in advance: most of what they hold is not wanted."""
        return []

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw what the whole draws."""
        return self.whole.draw(n, generator)

    def batch(self, indices: np.ndarray, draws: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return what the whole returns of these items."""
        return self.whole.batch(self.items[indices], draws)

    def images_for(self, indices: np.ndarray, draws: tuple[Tensor, ...]) -> Tensor:
        """Return the images of these items, uint8 (B, C, H, W)."""
        return self.whole.images_for(self.items[indices], draws)


Dataset = ImageDataset | LatentDataset | Subset


def load_training(data: Data, seed: int, root: Path) -> Dataset:
    """Return what a training of a seed learns from: the training split, or the seed's subset of it.

    Raises:
        UserError: as `load`, and a subset of more items than there are.
    """
    whole = load(data.name, "train", root, data.flip)
    if data.subset is None:
        return whole
    if data.subset > len(whole):
        raise UserError(f"data.subset: {data.subset:,} of {data.name}, which has {len(whole):,} images to train on")
    items = subset(whole.labels, data.subset, seed)
    return Subset(whole.name, "train", whole.labels[items], whole.classes, whole.content, whole, items)


def training_rows(data: Data, seed: int, root: Path) -> np.ndarray | None:
    """Return which items of the training split a training of a seed learns from, rising; None where it is all of them.

    Raises:
        UserError: as `load_training`.
    """
    chosen = load_training(data, seed, root) if data.subset else None
    return chosen.items if isinstance(chosen, Subset) else None


def subset(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Return the places of so many items, int64 (size,), rising: of each class alike, as far as it has so many.

    The items are shuffled and taken class by class in turn: a larger subset of the same seed holds the smaller.
    """
    words = np.frombuffer(hashlib.sha256(f"{seed} subset".encode()).digest(), "<u4")
    order = np.random.RandomState(words).permutation(len(labels))
    turns = np.empty(len(labels), np.int64)  # how many of its class come before an item
    for label in np.unique(labels):
        own = labels[order] == label
        turns[own] = np.arange(own.sum())
    return np.sort(order[np.argsort(turns, kind="stable")[:size]])


def load(name: str, split: str, root: Path, flip: bool = False) -> ImageDataset | LatentDataset:
    """Return the `split` ("train" or "test") of a data set by its name, or of the packed latents in `<root>/<name>/`.

    Raises:
        UserError: the data set is not there, is damaged, or has no such split.
    """
    if has_pixels(name):
        return load_images(name, split, root, flip)
    folder, meta = root / name, latents.read_meta(name, root, split)
    moments, labels, *flipped = latents.open_arrays(folder, meta.moments, meta.classes)
    if flip and not flipped:
        raise UserError(
            f"data set {name}: flips need {folder / latents.FLIPPED}; encode the flipped images, or set flip: false"
        )
    y, mirrored = labels.astype(np.int64), flipped[0] if flip else None
    photos = load_images(name, split, root, flip) if meta.images_sha256 else None
    return LatentDataset(name, split, y, meta.classes, meta.sha256, moments, mirrored, meta.scale, meta.moments, photos)


def check_source(name: str, root: Path) -> None:
    """Look for the files that a data set is made of, without reading or converting them.

    Raises:
        UserError: they are not there.
    """
    if has_pixels(name):
        raw_files.check_raw(name, root)
    else:
        latents.read_meta(name, root)


def load_images(name: str, split: str, root: Path, flip: bool = False) -> ImageDataset:
    """Return the `split` of a data set of images, converted on first use, or the images that latents were made of.

    Raises:
        UserError: as `load`, a converted file is damaged, and where latents were packed without their images.
    """
    if has_pixels(name):
        if split not in raw_files.SPLITS:  # before anything is looked for, which may be missing too
            raise UserError(f"data set {name}: no split '{split}'{nearest(split, raw_files.SPLITS)}")
        folder, converted = raw_files.convert(name, root)
        images, labels = (_map(folder / f"{split}-{kind}.npy", folder) for kind in ("images", "labels"))
        _check_converted(folder, split, converted.content[split], _state_of(folder, split))
        return ImageDataset(name, split, labels, converted.classes, converted.content[split], images, flip)
    folder, packed = root / name, latents.read_meta(name, root, split)
    if not packed.images_sha256 or not (folder / latents.IMAGES).is_file():
        raise UserError(
            f"data set {name}: images are needed, and {folder} has no images.npy; encode it again with --keep-images"
        )
    images, labels = _map(folder / latents.IMAGES, folder), _map(folder / latents.LABELS, folder)
    raw_files.check_labels(labels, packed.classes, folder / latents.LABELS)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[0] != len(labels):
        shape = f"{images.dtype} {images.shape}"
        raise UserError(f"{folder / latents.IMAGES}: {shape}; uint8 ({len(labels)}, 3, H, W) is expected: encode again")
    labels = labels.astype(np.int64)
    return ImageDataset(name, split, labels, packed.classes, packed.images_sha256, images, flip)


def _state_of(folder: Path, split: str) -> tuple[int, ...]:
    """Return sizes and times of a split's converted arrays: whoever writes to them changes one of these."""
    stats = [(folder / f"{split}-{kind}.npy").stat() for kind in ("images", "labels")]
    return tuple(number for stat in stats for number in (stat.st_size, stat.st_mtime_ns, stat.st_ino))


@functools.lru_cache(maxsize=16)
def _check_converted(folder: Path, split: str, content: str, state: tuple[int, ...]) -> None:
    """Compare converted arrays with the sum taken when they were written: once a process, 0.1 to 0.4 s for CIFAR-10.

    state: a change of it is looked at again.

    Raises:
        UserError: they are others.
    """
    with own_file(folder / f"{split}-images.npy", folder):
        if (
            content_hash(*(np.load(folder / f"{split}-{kind}.npy", mmap_mode="r") for kind in ("images", "labels")))
            != content
        ):
            raise ValueError("it or the labels are not what was written, by the sha256 in meta.json")


def _map(path: Path, remove: Path) -> np.ndarray:
    """Map an array that this package wrote; without `remove` it is made again."""
    with own_file(path, remove):
        return np.load(path, mmap_mode="r")


@functools.lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    """Return the order of one epoch, int64 (length,), a function of its arguments alone.

    `RandomState` because NumPy promises never to change its stream.
    """
    words = np.frombuffer(hashlib.sha256(f"{seed} order {epoch}".encode()).digest(), "<u4")
    order = np.random.RandomState(words).permutation(length)
    order.setflags(write=False)  # it is shared by all callers through the cache
    return order


def positions(seed: int, step: int, batch: int, length: int) -> np.ndarray:
    """Return the items of batch `step`, int64 (batch,), of an endless stream of shuffled epochs.

    A batch may straddle two epochs. There is no state: a run resumed at any step sees the rest of the same stream.
    """
    epoch, offset = np.divmod(np.arange(step * batch, (step + 1) * batch), length)
    return np.concatenate([permutation(seed, int(e), length)[offset[epoch == e]] for e in np.unique(epoch)])
