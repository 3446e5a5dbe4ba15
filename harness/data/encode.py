"""`harness encode`: photos to packed latents, a shard at a time, so that a kill costs at most a shard.

Arrays are written in place through memory maps, `encoding.json` says how far, and `meta.json` is written last: without
it the folder is no data set.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import Timeout
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from harness.data import autoencoder
from harness.data.autoencoder import Autoencoder, AutoencoderFiles
from harness.data.cache import folder_lock
from harness.data.convert import READERS, content_hash
from harness.data.decode import FOLDER
from harness.data.photos import Crops, Photos, collate, open_photos
from harness.data.pixels import from_uint8
from harness.errors import UserError
from harness.files import nearest_existing, read_json, write_json

BATCH = 32  # images through the encoder at once; not an option, as the last bits of the latents depend on it
SHARD = 1024  # images between two notes of progress; a multiple of BATCH
IMAGES = "images.npy"

Tell = Callable[[int, int], None]  # images done, and in all
Shapes = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]  # file → type and shape of its array


@dataclass(frozen=True)
class Encoding:
    """What is made of what: photos, their autoencoder, and where the arrays go."""

    photos: Photos
    found: AutoencoderFiles
    coder: Autoencoder
    folder: Path
    size: int
    keep_images: bool

    @property
    def note(self) -> Path:
        """The file that says how far an unfinished encoding is."""
        return self.folder / "encoding.json"

    def recipe(self) -> dict[str, Any]:
        """Return all that the bytes depend on, beside the photos' own."""
        return {
            "count": len(self.photos),
            "listing": self.photos.listing(),
            "classes": len(self.photos.classes),
            "class_names": list(self.photos.classes),
            "size": self.size,
            "images": self.keep_images,
            "moments": self.coder.moments,
            "scale": self.coder.scale,
            "autoencoder": {"kind": self.found.kind, "sha256": self.found.sha256()},
        }

    def moments(self, x: Tensor) -> np.ndarray:
        """Return the moments of bytes (B, 3, size, size), float32."""
        with torch.inference_mode():
            return self.coder.encode(from_uint8(x)).float().cpu().numpy()

    def shapes(self) -> Shapes:
        """Return type and shape of every large array.

        Raises:
            UserError: latents of this size would not decode to it.
        """
        N, pixels = len(self.photos), (3, self.size, self.size)
        one = self.moments(torch.zeros(1, *pixels, dtype=torch.uint8)).shape[1:]
        if self.size % one[-1]:
            raise UserError(
                f"--size {self.size}: its latents, {one[-1]} wide, decode to another; choose a multiple of 8"
            )
        float32, uint8 = np.dtype(np.float32), np.dtype(np.uint8)
        moments = {name: (float32, (N, *one)) for name in ("moments.npy", "moments_flip.npy")}
        return moments | ({IMAGES: (uint8, (N, *pixels))} if self.keep_images else {})


def encode(
    source: Path,
    name: str,
    weights: Path,
    root: Path,
    size: int,
    keep_images: bool,
    workers: int,
    tell: Tell,
    shard: int = SHARD,
) -> str:
    """Pack the latents of the photos in `source` as data set `name`; returns a sentence that says what was made.

    Args:
        source: photos in a layout that `open_photos` knows.
        weights: folder of the autoencoder; its files are copied into the packed folder.
        root: folder of the data sets.
        size: side of the centre crop.
        keep_images: whether to keep the crops too, which measuring needs.
        workers: processes that read and crop; none of the bytes depends on their number.
        shard: images between two notes of progress.

    Raises:
        UserError: photos or autoencoder cannot be read, the disk is too small, another process is at it, or the folder
            holds something else.
    """
    if name in READERS or not name.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"NAME {name}: letters, digits, - and _ are legal, and not the names {', '.join(READERS)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found, folder = autoencoder.find(weights), root / name
    photos = open_photos(source, folder / ".arrow")
    encoding = Encoding(photos, found, autoencoder.load(found, device), folder, size, keep_images)
    recipe, meta = encoding.recipe(), read_json(folder / "meta.json")
    if isinstance(meta, dict):
        if {key: meta.get(key) for key in recipe} != recipe:
            raise UserError(f"{folder}: holds latents of other photos or settings; remove it, or choose another name")
        shutil.rmtree(folder / ".arrow", ignore_errors=True)
        return f"{name}: {len(photos):,} latents are in {folder} already"
    shapes = encoding.shapes()
    _check_disk(encoding, shapes, _done(encoding, recipe))
    try:
        with folder_lock(folder / ".lock", timeout=0):
            done = _done(encoding, recipe)  # again: the lock may have been another's until now
            _start(encoding, recipe, shapes, done)
            arrays = {name: np.lib.format.open_memmap(folder / name, mode="r+") for name in shapes}
            _advance(encoding, recipe, arrays, done, workers, shard, tell)
            return _finish(encoding, recipe, arrays)
    except Timeout:
        message = "another process is encoding into it; wait for it, or choose another name"
        raise UserError(f"{folder}: {message}") from None


def _done(encoding: Encoding, recipe: dict[str, Any]) -> int:
    """Return how many photos an interrupted encoding has finished."""
    note = read_json(encoding.note)
    if note is None:
        return 0
    if note.get("recipe") != recipe:
        raise UserError(
            f"{encoding.folder}: holds the beginning of an encoding of other photos or settings; remove it, or "
            "choose another name"
        )
    return int(note["done"])


def _check_disk(encoding: Encoding, shapes: Shapes, done: int) -> None:
    need = sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in shapes.values())
    need = need * (len(encoding.photos) - done) // len(encoding.photos)
    free = shutil.disk_usage(nearest_existing(encoding.folder)).free
    if free < need:
        raise UserError(f"{encoding.folder}: {need / 1e9:,.1f} GB are needed, {free / 1e9:,.1f} GB are free there")


def _start(encoding: Encoding, recipe: dict[str, Any], shapes: Shapes, done: int) -> None:
    """Lay out the folder, unless there is an encoding to go on with."""
    if done:
        return
    shutil.rmtree(encoding.folder / FOLDER, ignore_errors=True)
    (encoding.folder / FOLDER).mkdir()
    for path in encoding.found.files:
        shutil.copyfile(path, encoding.folder / FOLDER / path.name)
    np.save(encoding.folder / "labels.npy", encoding.photos.labels)
    for name, (dtype, shape) in shapes.items():
        np.lib.format.open_memmap(encoding.folder / name, mode="w+", dtype=dtype, shape=shape)
    write_json(encoding.note, {"recipe": recipe, "done": 0})


def _advance(
    encoding: Encoding,
    recipe: dict[str, Any],
    arrays: dict[str, np.memmap],
    done: int,
    workers: int,
    shard: int,
    tell: Tell,
) -> None:
    """Encode from photo `done` to the last."""
    total, start = len(encoding.photos), done
    tell(start, total)
    for x in _batches(encoding, start, workers):
        stop = start + len(x)
        arrays["moments.npy"][start:stop] = encoding.moments(x)
        # A flipped latent is not the latent of the flipped photo.
        arrays["moments_flip.npy"][start:stop] = encoding.moments(x.flip(-1))
        if IMAGES in arrays:
            arrays[IMAGES][start:stop] = x.numpy()
        start = stop
        if start % shard == 0 or start == total:
            for array in arrays.values():
                array.flush()
            write_json(encoding.note, {"recipe": recipe, "done": start})
        tell(start, total)


def _batches(encoding: Encoding, start: int, workers: int) -> Iterator[Tensor]:
    """Yield the crops from photo `start` on, uint8 (B, 3, size, size), always cut at multiples of the batch."""
    crops = Subset(Crops(encoding.photos, encoding.size), range(start, len(encoding.photos)))
    for batch in DataLoader(crops, BATCH, num_workers=workers, collate_fn=collate):
        if isinstance(batch, str):
            raise UserError(batch)
        yield batch


def _finish(encoding: Encoding, recipe: dict[str, Any], arrays: dict[str, np.memmap]) -> str:
    """Take the checksums, and make the folder a data set."""
    import PIL

    folder, labels = encoding.folder, encoding.photos.labels
    content = content_hash(arrays["moments.npy"], labels, arrays["moments_flip.npy"])
    sums = {"sha256": content} | ({"images_sha256": content_hash(arrays[IMAGES], labels)} if IMAGES in arrays else {})
    made_with = {"torch": torch.__version__, "pillow": PIL.__version__}
    write_json(folder / "meta.json", recipe | sums | {"versions": made_with})
    encoding.note.unlink()
    shutil.rmtree(folder / ".arrow", ignore_errors=True)
    size = sum(array.nbytes for array in arrays.values())
    return f"{folder.name}: {len(labels):,} photos in {recipe['classes']} classes, {size / 1e9:,.2f} GB in {folder}"
