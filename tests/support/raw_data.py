"""Data sets as people keep them, small and at random."""

import gzip
import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import torch

from harness.data import raw_files as sources
from harness.data.cache import content_hash

rng = np.random.default_rng(0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def write_latents(folder: Path, convention: str = "mean,logvar") -> tuple[np.ndarray, np.ndarray]:
    folder.mkdir()
    mean, sigma = rng.normal(size=(6, 4, 2, 2)), rng.uniform(0.5, 2, size=(6, 4, 2, 2))
    spread = 2 * np.log(sigma) if convention == "mean,logvar" else sigma
    moments, labels = np.concatenate([mean, spread], 1).astype(np.float16), np.arange(6) % 3
    np.save(folder / "moments.npy", moments)
    np.save(folder / "moments_flip.npy", moments[..., ::-1])
    np.save(folder / "labels.npy", labels)
    sha256 = content_hash(moments, labels, moments[..., ::-1])
    meta = {"scale": 0.18215, "moments": convention, "classes": 3, "sha256": sha256}
    (folder / "meta.json").write_text(json.dumps(meta))
    return mean, sigma


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_fashion_mnist(folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True)
    arrays = {}
    for split, (images, labels) in sources.IDX_FILES.items():
        n = 12 if split == "train" else 5
        arrays[split] = rng.integers(0, 256, (n, 28, 28), np.uint8)
        (folder / f"{images}.gz").write_bytes(gzip.compress(idx(arrays[split])))
        (folder / labels).write_bytes(idx((np.arange(n) % 10).astype(np.uint8)))
    return arrays


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes as the Python 2 that made the published batches did: protocol 2, and one type for text and bytes."""

    def save_string(self, text: str | bytes) -> None:
        raw = text if isinstance(text, bytes) else text.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(text)

    dispatch = {**pickle._Pickler.dispatch, str: save_string, bytes: save_string}  # type: ignore[attr-defined]  # noqa: RUF012


def python2_pickle(content: object) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def write_cifar10(root: Path, layout: str) -> np.ndarray:
    folder = root / f"cifar-10-batches-{layout}"
    folder.mkdir()
    images = rng.integers(0, 256, (6, 2, 3, 32, 32), np.uint8)
    for batch, name in zip(images, [*sources.CIFAR_BATCHES["train"], *sources.CIFAR_BATCHES["test"]], strict=True):
        rows, labels = batch.reshape(2, 3072), [3, 9]
        if layout == "py":
            content = {"batch_label": "tiny", "labels": labels, "data": rows, "filenames": ["a.png", "b.png"]}
            (folder / name).write_bytes(python2_pickle(content))
        else:
            records = np.concatenate([np.array(labels, np.uint8)[:, None], rows], 1)
            (folder / f"{name}.bin").write_bytes(records.tobytes())
    return images
