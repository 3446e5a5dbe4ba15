"""`harness encode`: photos to packed latents, a shard at a time, so that a kill costs at most a shard.

Arrays are written in place through memory maps, `encoding.json` says how far, and `meta.json` is written last: without
it the folder is no data set.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
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
from harness.data.convert import content_hash
from harness.data.latents import AUTOENCODER, FLIPPED, IMAGES, LABELS, MOMENTS
from harness.data.photos import Crops, Photos, collate, open_photos
from harness.data.pixels import from_uint8
from harness.data.raw_files import READERS
from harness.errors import UserError
from harness.files import nearest_existing, read_json, write_json

BATCH = 32  # images through the encoder at once; not an option, as the last bits of the latents depend on it
SHARD = 1024  # images between two notes of progress; a multiple of BATCH

OnProgress = Callable[[int, int], None]  # images done, and in all
Shapes = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]  # file → type and shape of its array
Memmaps = dict[str, np.memmap]


def encode(
    source: Path,
    name: str,
    weights: Path,
    root: Path,
    size: int,
    keep_images: bool,
    workers: int,
    on_progress: OnProgress,
    shard: int = SHARD,
    batch: int = BATCH,
) -> str:
    """Pack the latents of the photos in `source` as data set `name`; returns a sentence that says what was made.

    Args:
        source: photos in a layout that `open_photos` knows.
        name: of the data set, a folder in `root`.
        weights: folder of the autoencoder; its files are copied into the packed folder.
        root: folder of the data sets.
        size: side of the centre crop.
        keep_images: whether to keep the crops too, which measuring needs.
        workers: processes that read and crop; none of the bytes depends on their number.
        on_progress: called with the images done, and in all.
        shard: images between two notes of progress.
        batch: images through the encoder at once.

    Raises:
        UserError: photos or autoencoder cannot be read, the disk is too small, another process is at it, or the folder
            holds something else.
    """
    if name in READERS or not name.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"NAME {name}: letters, digits, - and _ are legal, and not the names {', '.join(READERS)}")
    files, folder = autoencoder.find(weights), root / name
    photos = open_photos(source, folder / ".arrow")
    encoding = Encoding(photos, files, autoencoder.load(files), folder, size, keep_images, batch)
    meta = read_json(folder / "meta.json")
    if isinstance(meta, dict):
        encoding.check_same(meta, "latents")
        shutil.rmtree(folder / ".arrow", ignore_errors=True)
        return f"{name}: {len(photos):,} latents are in {folder} already"
    encoding.check_disk()
    try:
        with folder_lock(folder / ".lock", timeout=0):
            return encoding.run(workers, shard, on_progress)
    except Timeout:
        raise UserError(f"{folder}: another process is encoding into it; wait for it, or choose another name") from None


@dataclass(frozen=True)
class Encoding:
    """What is made of what: photos, their autoencoder, and where the arrays go."""

    photos: Photos
    files: AutoencoderFiles
    coder: Autoencoder
    folder: Path
    size: int
    keep_images: bool
    batch: int

    @property
    def note(self) -> Path:
        """The file that says how far an unfinished encoding is."""
        return self.folder / "encoding.json"

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """All that the bytes depend on, beside the photos' own."""
        return {
            "count": len(self.photos),
            "listing": self.photos.listing(),
            "classes": len(self.photos.classes),
            "class_names": list(self.photos.classes),
            "size": self.size,
            "images": self.keep_images,
            "moments": self.coder.moments,
            "scale": self.coder.scale,
            "autoencoder": {"kind": self.files.kind, "sha256": self.files.sha256()},
        }

    @cached_property
    def shapes(self) -> Shapes:
        """Type and shape of every large array.

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
        moments = {name: (float32, (N, *one)) for name in (MOMENTS, FLIPPED)}
        return moments | ({IMAGES: (uint8, (N, *pixels))} if self.keep_images else {})

    def moments(self, x: Tensor) -> np.ndarray:
        """Return the moments of bytes (B, 3, size, size), float32."""
        with torch.inference_mode():
            return self.coder.encode(from_uint8(x)).float().cpu().numpy()

    def check_same(self, record: dict[str, Any], what: str) -> None:
        """Refuse to go on with what was made by another recipe.

        Raises:
            UserError: naming the folder.
        """
        if any(record.get(key) != value for key, value in self.recipe.items()):
            raise UserError(
                f"{self.folder}: holds {what} of other photos or settings; remove it, or choose another name"
            )

    def done(self) -> int:
        """Return how many photos an interrupted encoding has finished.

        Raises:
            UserError: it is of other photos or settings.
        """
        note = read_json(self.note)
        if note is None:
            return 0
        self.check_same(note["recipe"], "the beginning of an encoding")
        return int(note["done"])

    def check_disk(self) -> None:
        """Refuse to begin where the arrays would not fit.

        Raises:
            UserError: how much is needed, and how much there is.
        """
        total = sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in self.shapes.values())
        need = total * (len(self.photos) - self.done()) // len(self.photos)
        free = shutil.disk_usage(nearest_existing(self.folder)).free
        if free < need:
            raise UserError(f"{self.folder}: {need / 1e9:,.1f} GB are needed, {free / 1e9:,.1f} GB are free there")

    def run(self, workers: int, shard: int, on_progress: OnProgress) -> str:
        """Encode what is left, and make the folder a data set; only for the holder of the folder's lock."""
        done = self.done()  # asked again: the lock may have been another's until now
        if not done:
            self._lay_out()
        arrays: Memmaps = {name: np.lib.format.open_memmap(self.folder / name, mode="r+") for name in self.shapes}
        self._fill(arrays, done, workers, shard, on_progress)
        return self._finish(arrays)

    def _lay_out(self) -> None:
        shutil.rmtree(self.folder / AUTOENCODER, ignore_errors=True)
        (self.folder / AUTOENCODER).mkdir()
        for path in self.files.paths:
            shutil.copyfile(path, self.folder / AUTOENCODER / path.name)
        np.save(self.folder / LABELS, self.photos.labels)
        for name, (dtype, shape) in self.shapes.items():
            np.lib.format.open_memmap(self.folder / name, mode="w+", dtype=dtype, shape=shape)
        write_json(self.note, {"recipe": self.recipe, "done": 0})

    def _fill(self, arrays: Memmaps, done: int, workers: int, shard: int, on_progress: OnProgress) -> None:
        """Encode from photo `done` to the last."""
        total = len(self.photos)
        on_progress(done, total)
        for x in self._batches(done, workers):
            rows = slice(done, done + len(x))
            arrays[MOMENTS][rows] = self.moments(x)
            arrays[FLIPPED][rows] = self.moments(x.flip(-1))  # a flipped latent is not the latent of the flipped photo
            if self.keep_images:
                arrays[IMAGES][rows] = x.numpy()
            done = rows.stop
            if done % shard == 0 or done == total:
                for array in arrays.values():
                    array.flush()
                write_json(self.note, {"recipe": self.recipe, "done": done})
            on_progress(done, total)

    def _batches(self, start: int, workers: int) -> Iterator[Tensor]:
        """Yield the crops from photo `start` on, uint8 (B, 3, size, size), always cut at multiples of the batch."""
        crops = Subset(Crops(self.photos, self.size), range(start, len(self.photos)))
        for batch in DataLoader(crops, self.batch, num_workers=workers, collate_fn=collate):
            if isinstance(batch, str):
                raise UserError(batch)
            yield batch

    def _finish(self, arrays: Memmaps) -> str:
        """Take the checksums, and make the folder a data set."""
        import PIL

        labels, meta = self.photos.labels, dict(self.recipe)
        meta["sha256"] = content_hash(arrays[MOMENTS], labels, arrays[FLIPPED])
        if self.keep_images:
            meta["images_sha256"] = content_hash(arrays[IMAGES], labels)
        meta["versions"] = {"torch": torch.__version__, "pillow": PIL.__version__}
        write_json(self.folder / "meta.json", meta)
        self.note.unlink()
        shutil.rmtree(self.folder / ".arrow", ignore_errors=True)
        size = sum(array.nbytes for array in arrays.values()) / 1e9
        classes = len(self.photos.classes)
        return f"{self.folder.name}: {len(labels):,} photos in {classes} classes, {size:,.2f} GB in {self.folder}"
