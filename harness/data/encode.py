"""`harness encode`: photos to packed latents, a shard at a time, so that a kill costs at most a shard.

Arrays are written in place through memory maps, `encoding.json` says how far, and `meta.json` is written last: without
it the folder is no data set.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from harness.data import autoencoder, cache, datasets, latents, photos
from harness.data.finite import NotFinite, check_finite
from harness.data.latents import FLIPPED, IMAGES, MOMENTS
from harness.data.raw_files import READERS, has_pixels
from harness.errors import UserError
from harness.files import nearest_existing, read_json, sha256_of, write_json
from harness.plain_text import check_name

BATCH = 32  # images through the encoder at once; not an option, as the last bits of the latents depend on it
SHARD = 1024  # images between two notes of progress; a multiple of BATCH

OnProgress = Callable[[int, int], None]  # images done, and in all
Memmaps = dict[str, np.memmap]  # by file


@dataclass(frozen=True)
class Team:
    """Processes of one machine that share an encoding: which of how many this is, and how each hears all."""

    rank: int = 0
    size: int = 1
    all_gather: Callable[[str], list[str]] = lambda words: [words]


class Encoding:
    """Photos on their way to be packed latents.

    Args:
        source: photos in a layout that `photos.open_photos` knows.
        name: of the data set, a folder in `root`.
        weights: folder of the autoencoder; its files are copied into the packed folder.
        root: folder of the data sets.
        size: side of the centre crop.
        keep_images: whether to keep the crops too, which measuring needs.
        batch: images through the encoder at once.
        dtype: of the moments; None is float32. The rounding to float16 changes what is trained on: a training says so
            too (`data.moments`).

    Raises:
        UserError: photos or autoencoder cannot be read, or the name is not legal.
    """

    def __init__(
        self, source: Path, name: str, weights: Path, root: Path, size: int, keep_images: bool, batch: int = BATCH,
        dtype: Literal["float16"] | None = None,
    ) -> None:  # fmt: skip
        check_name("NAME", name)
        if has_pixels(name):
            raise UserError(f"NAME {name}: this is a data set already; legal are others than {', '.join(READERS)}")
        self.folder, self.size, self.keep_images, self.batch = root / name, size, keep_images, batch
        self.dtype = dtype
        self.note = self.folder / "encoding.json"  # how far an unfinished encoding is
        self.files = autoencoder.find(weights)
        self.photos = photos.open_photos(source, self.folder / ".arrow")
        self.coder = autoencoder.load(self.files)
        self.recipe = {  # all that the bytes depend on, beside the photos' own
            "count": len(self.photos),
            "listing": self.photos.listing(),
            "classes": len(self.photos.classes),
            "class_names": list(self.photos.classes),
            "size": size,
            "images": keep_images,
            "moments": self.coder.moments,
            "scale": self.coder.scale,
            "dtype": dtype,
            "autoencoder": {"kind": self.files.kind, "sha256": sha256_of(*self.files.paths)},
        }

    def run(self, workers: int, on_progress: OnProgress, shard: int = SHARD, team: Team = Team()) -> str:
        """Encode what is left, and make the folder a data set; returns a sentence that says what was made.

        Args:
            workers: processes that read and crop; none of the bytes depends on their number.
            on_progress: called with the images done, and in all.
            shard: images of a process between two notes of progress.
            team: the processes that share the work, all of which call this; no byte depends on their number.

        Raises:
            UserError: a photo cannot be read, the disk is too small, another process is at it, or the folder holds
                something else.
        """
        meta = read_json(self.folder / "meta.json")
        if isinstance(meta, dict):
            self._check_same(meta, "latents")
            shutil.rmtree(self.folder / ".arrow", ignore_errors=True)
            return f"{self.folder.name}: {len(self.photos):,} latents are in {self.folder} already{self._left_out}"
        self._check_disk()
        with ExitStack() as lock:
            arrays: Memmaps = {}
            with self._together(team, arrays):
                if team.rank == 0:
                    lock.enter_context(cache.folder_lock(self.folder / ".lock", timeout=0))
                    arrays |= self._open(begin=self._done() == 0)
            done = self._done()  # asked again: the lock may have been another's until now
            arrays = arrays or self._open()
            self._fill(arrays, done, workers, on_progress, shard, team)
            return self._finish(arrays) if team.rank == 0 else ""

    def _open(self, begin: bool = False) -> Memmaps:
        """Open the arrays; begin: make them, and what lies beside them."""
        mode: Literal["w+", "r+"] = "w+" if begin else "r+"
        arrays: Memmaps = {
            name: np.lib.format.open_memmap(self.folder / name, mode, dtype, shape)
            for name, (dtype, shape) in self.shapes.items()
        }
        if begin:
            self._begin()
        return arrays

    @cached_property
    def shapes(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Type and shape of every large array, by its file.

        Raises:
            UserError: latents of this size would not decode to it.
        """
        N, pixels = len(self.photos), (3, self.size, self.size)
        one = self.moments(torch.zeros(1, *pixels, dtype=torch.uint8)).shape[1:]
        if self.size % one[-1]:
            raise UserError(
                f"--size {self.size}: its latents, {one[-1]} wide, decode to another; choose a multiple of 8"
            )
        moments, images = (np.dtype(self.dtype or "float32"), (N, *one)), (np.dtype(np.uint8), (N, *pixels))
        return {MOMENTS: moments, FLIPPED: moments} | ({IMAGES: images} if self.keep_images else {})

    def moments(self, x: Tensor) -> np.ndarray:
        """Return the moments of bytes (B, 3, size, size), float32."""
        with torch.inference_mode():
            return self.coder.encode(datasets.from_uint8(x)).float().cpu().numpy()

    def _checked_moments(self, x: Tensor, first: int) -> np.ndarray:
        """Return the moments of photos from the number `first` on, as they are kept; one that is not finite is refused
        by its photo."""
        moments = self.moments(x)
        try:
            check_finite(moments, "moments", "the autoencoder cannot encode it")
            with np.errstate(over="ignore"):  # which is refused in the next line
                moments = moments.astype(self.shapes[MOMENTS][0], copy=False)
            check_finite(moments, "moments in float16", "encode with --moments float32")
        except NotFinite as error:
            raise UserError(f"{self.photos.names[first + error.row]}: {error}") from None
        return moments

    def _check_same(self, record: dict[str, Any], what: str) -> None:
        """Refuse to go on with what was made by another recipe."""
        if any(record.get(key) != value for key, value in self.recipe.items()):
            raise UserError(
                f"{self.folder}: holds {what} of other photos or settings; remove it, or choose another name"
            )

    def _done(self) -> int:
        """Return how many photos an interrupted encoding has finished."""
        note = read_json(self.note)
        if note is None:
            return 0
        self._check_same(note["recipe"], "the beginning of an encoding")
        return int(note["done"])

    def _check_disk(self) -> None:
        """Refuse to begin where the arrays would not fit."""
        total = sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in self.shapes.values())
        need = total * (len(self.photos) - self._done()) // len(self.photos)
        free = shutil.disk_usage(nearest_existing(self.folder)).free
        if free < need:
            raise UserError(f"{self.folder}: {need / 1e9:,.1f} GB are needed, {free / 1e9:,.1f} GB are free there")

    def _begin(self) -> None:
        shutil.rmtree(self.folder / latents.AUTOENCODER, ignore_errors=True)
        (self.folder / latents.AUTOENCODER).mkdir()
        for path in self.files.paths:
            shutil.copyfile(path, self.folder / latents.AUTOENCODER / path.name)
        np.save(self.folder / latents.LABELS, self.photos.labels)
        write_json(self.note, {"recipe": self.recipe, "done": 0})

    def _fill(
        self, arrays: Memmaps, done: int, workers: int, on_progress: OnProgress, shard: int, team: Team
    ) -> None:  # fmt: skip
        """Encode from photo `done` to the last, a shard by each process at a time, always cut at multiples of the
        batch."""
        total, crop, stride = len(self.photos), partial(photos.load_crops, self.photos, self.size), shard * team.size
        starts = range(done + team.rank * shard, total, stride)
        # All that a data loader asks of a data set: a length, and items by number.
        indices: Any = [i for start in starts for i in range(start, min(start + shard, total))]
        batches = iter(DataLoader(indices, self.batch, num_workers=workers, collate_fn=crop))
        while done < total:
            first = min(done + team.rank * shard, total)
            with self._together(team, arrays):
                for start in range(first, min(first + shard, total), self.batch):
                    on_progress(done + (start - first) * team.size, total)
                    self._encode(arrays, next(batches), start)
            done = min(done + stride, total)
            if team.rank == 0:
                write_json(self.note, {"recipe": self.recipe, "done": done})
        on_progress(done, total)

    def _encode(self, arrays: Memmaps, x: Tensor | str, start: int) -> None:
        """Encode a batch of crops, those from the number `start` on."""
        if isinstance(x, str):
            raise UserError(x)
        rows = slice(start, start + len(x))
        arrays[MOMENTS][rows] = self._checked_moments(x, start)
        # A flipped latent is not the latent of the flipped photo.
        arrays[FLIPPED][rows] = self._checked_moments(x.flip(-1), start)
        if self.keep_images:
            arrays[IMAGES][rows] = x.numpy()

    @contextmanager
    def _together(self, team: Team, arrays: Memmaps) -> Iterator[None]:
        """Wait at the end until all processes have written theirs.

        Raises:
            UserError: what went wrong in one of them, in all.
        """
        problem = ""
        try:
            yield
            for array in arrays.values():
                array.flush()
        except UserError as error:
            problem = str(error)
        if words := next(filter(None, team.all_gather(problem)), ""):
            raise UserError(words)

    def _finish(self, arrays: Memmaps) -> str:
        """Take the checksums, and make the folder a data set."""
        labels, meta = self.photos.labels, dict(self.recipe)
        meta["sha256"] = cache.content_hash(arrays[MOMENTS], labels, arrays[FLIPPED])
        if self.keep_images:
            meta["images_sha256"] = cache.content_hash(arrays[IMAGES], labels)
        meta["versions"] = {"torch": torch.__version__, "pillow": PIL.__version__}
        if self.photos.left_out:
            meta["left_out"] = self.photos.left_out
        write_json(self.folder / "meta.json", meta)
        self.note.unlink()
        shutil.rmtree(self.folder / ".arrow", ignore_errors=True)
        size = sum(array.nbytes for array in arrays.values()) / 1e9
        classes = len(self.photos.classes)
        made = f"{len(labels):,} photos in {classes} classes"
        return f"{self.folder.name}: {made}, {size:,.2f} GB in {self.folder}{self._left_out}"

    @property
    def _left_out(self) -> str:
        return f"; left out: {self.photos.left_out}" if self.photos.left_out else ""
