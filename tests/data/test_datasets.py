"""Data: what is read is what the files say; batches are functions of position; refusals are one line."""

import dataclasses
import gzip
import io
import json
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from support.trainings import make_dataset

from harness.commands.get_data import get_by_name
from harness.data import convert
from harness.data import raw_files as sources
from harness.data.convert import content_hash
from harness.data.datasets import Dataset, load, positions
from harness.data.fetch import CIFAR10_MD5, get_cifar10
from harness.errors import UserError

rng = np.random.default_rng(0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    load("digits", "train", root)
    return root


@pytest.fixture(autouse=True)
def no_debian_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", tmp_path / "not-installed")


def test_digits_are_scikit_learns(digits: Path) -> None:
    from sklearn.datasets import load_digits

    theirs = load_digits()
    test = np.zeros(1797, bool)
    seen = [0] * 10
    for i, y in enumerate(theirs.target):
        test[i] = seen[y] % 5 == 4
        seen[y] += 1
    for split, chosen in (("train", ~test), ("test", test)):
        ours = load("digits", split, digits)
        assert ours.shape == (1, 8, 8)
        assert ours.classes == 10
        assert isinstance(ours.images, np.memmap)
        np.testing.assert_array_equal(np.round(ours.images[:, 0] * (16 / 255)), theirs.images[chosen])
        np.testing.assert_array_equal(ours.labels, theirs.target[chosen])
        assert ours.content == content_hash(ours.images, ours.labels)
        counts = np.bincount(ours.labels)
        assert counts.max() - counts.min() <= len(ours) // 100


def test_pixels_and_flips(digits: Path) -> None:
    plain, flipping = (load("digits", "train", digits, flip=flip) for flip in (False, True))
    indices = np.array([5, 3, 5])
    x, y = plain.batch(indices, plain.draw(3, seeded()))
    np.testing.assert_allclose(x.numpy(), plain.images[indices] / 127.5 - 1, atol=1e-7)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert y.tolist() == plain.labels[indices].tolist()
    mixed, _ = flipping.batch(indices, (torch.tensor([False, True, True]),))
    assert torch.equal(mixed, torch.stack([x[0], x[1].flip(-1), x[2].flip(-1)]))
    (coins,) = flipping.draw(10_000, seeded())
    assert 0.48 < coins.float().mean() < 0.52


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


@pytest.mark.parametrize("convention", ["mean,logvar", "mean,std"])
def test_latents_follow_the_scaled_posterior(tmp_path: Path, convention: str) -> None:
    mean, sigma = write_latents(tmp_path / "imagenet256", convention)
    latents = load("imagenet256", "train", tmp_path)
    assert latents.shape == (4, 2, 2)
    assert len(latents) == 6
    assert latents.classes == 3
    draws = latents.draw(20_000, seeded())
    x, y = latents.batch(np.full(20_000, 4), draws)
    assert y.unique().tolist() == [1]
    np.testing.assert_allclose(x.mean(0), 0.18215 * mean[4], atol=5 * 0.18215 * 2 / 20_000**0.5)
    np.testing.assert_allclose(x.std(0), 0.18215 * sigma[4], rtol=0.03)
    assert "sha256 as in meta.json" in get_by_name("imagenet256", tmp_path)


def test_flipped_latents_are_those_of_the_flipped_images(tmp_path: Path) -> None:
    mean, _ = write_latents(tmp_path / "imagenet256")
    latents = load("imagenet256", "train", tmp_path, flip=True)
    x, _ = latents.batch(np.array([2, 2]), (torch.zeros(2, 4, 2, 2), torch.tensor([False, True])))
    np.testing.assert_allclose(x.numpy(), 0.18215 * np.stack([mean[2], mean[2, ..., ::-1]]), atol=1e-3)
    (tmp_path / "imagenet256" / "moments_flip.npy").unlink()
    with pytest.raises(UserError, match=r"flips need .*moments_flip\.npy"):
        load("imagenet256", "train", tmp_path, flip=True)


@pytest.mark.parametrize("kind", ["images", "latents"])
def test_a_rank_can_load_only_its_slice(digits: Path, tmp_path: Path, kind: str) -> None:
    write_latents(tmp_path / "imagenet256")
    dataset: Dataset = (
        load("digits", "train", digits, flip=True) if kind == "images" else load("imagenet256", "train", tmp_path, True)
    )
    indices, draws = positions(0, 3, 16, len(dataset)), dataset.draw(16, seeded())
    whole, labels = dataset.batch(indices, draws)
    for part in (slice(0, 4), slice(4, 12), slice(12, 16)):
        x, y = dataset.batch(indices[part], tuple(draw[part] for draw in draws))
        assert torch.equal(x, whole[part])
        assert torch.equal(y, labels[part])


def test_positions_are_one_stream_of_permutations() -> None:
    length, batch = 10, 4
    stream = np.concatenate([positions(7, step, batch, length) for step in range(15)])
    epochs = stream.reshape(-1, length)
    assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    np.testing.assert_array_equal(stream, np.concatenate([positions(7, step, 12, length) for step in range(5)]))
    np.testing.assert_array_equal(positions(7, 0, 3 * length, length), stream[: 3 * length])
    assert not np.array_equal(positions(8, 0, length, length), stream[:length])
    # Pinned: a change here would silently change every stored run.
    assert positions(7, 1, batch, length).tolist() == [8, 6, 0, 5]


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


@pytest.mark.parametrize("folder", ["fashion-mnist", "FashionMNIST/raw"])
def test_idx_files(tmp_path: Path, folder: str) -> None:
    arrays = write_fashion_mnist(tmp_path / folder)
    for split, images in arrays.items():
        ours = load("fashion-mnist", split, tmp_path)
        np.testing.assert_array_equal(ours.images, images[:, None])
        assert ours.labels.tolist() == [i % 10 for i in range(len(images))]
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte: checksum .* fetch it again"):
        get_by_name("fashion-mnist", tmp_path)


@pytest.mark.parametrize(
    ("kept", "words"), [(12, r"4 values where its header says \(5,\)"), (6, "not an IDX file"), (1, "not an IDX file")]
)
def test_truncated_idx_is_refused(tmp_path: Path, kept: int, words: str) -> None:
    write_fashion_mnist(tmp_path / "fashion-mnist")
    path = tmp_path / "fashion-mnist" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=f"t10k-labels-idx1-ubyte: {words}"):
        load("fashion-mnist", "train", tmp_path)
    assert not (tmp_path / ".converted").exists()


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


@pytest.mark.parametrize("layout", ["py", "bin"])
def test_cifar10_batches(tmp_path: Path, layout: str) -> None:
    images = write_cifar10(tmp_path, layout)
    train, test = (load("cifar10", split, tmp_path) for split in ("train", "test"))
    np.testing.assert_array_equal(train.images, images[:5].reshape(10, 3, 32, 32))
    np.testing.assert_array_equal(test.images, images[5])
    assert train.labels.tolist() == [3, 9] * 5


def test_fetch_checks_the_published_sums(tmp_path: Path) -> None:
    write_cifar10(tmp_path, "bin")
    with pytest.raises(UserError, match=f"data_batch_1.bin: checksum .* {CIFAR10_MD5['data_batch_1.bin'][:12]}"):
        get_cifar10(tmp_path)


def test_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def offline(root: str, download: bool) -> None:
        raise RuntimeError("no network\nhere")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", offline)
    with pytest.raises(UserError, match=r"\(no network here\); apt-get install dataset-fashion-mnist"):
        get_by_name("fashion-mnist", tmp_path)
    with pytest.raises(UserError, match="did you mean 'fashion-mnist'"):
        get_by_name("mnist", tmp_path)


class Trap:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    write_cifar10(tmp_path, "py")
    trap = pickle.dumps(Trap(tmp_path / "owned"))
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(trap)
    with pytest.raises(UserError, match=r"data_batch_3: not a CIFAR-10 batch: it asks for (builtins|pathlib)"):
        load("cifar10", "train", tmp_path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fashion-mnist", "fashion-mnist .*run: harness data get fashion-mnist"),
        ("cifar10", "cifar-10-batches-bin or cifar-10-batches-py in .*run: harness data get cifar10"),
        ("imagenet256", "not one of digits, fashion-mnist, cifar10, and .*imagenet256 lacks moments.npy"),
    ],
)
def test_missing_dataset_is_one_line_and_writes_nothing(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UserError, match=f"^data set {name}: .*{words}") as raised:
        load(name, "train", tmp_path)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*digits: Not a directory; choose another data folder"):
        load("digits", "train", tmp_path / "file")


@pytest.mark.parametrize("name", ["meta.json", "train-images.npy", "train-labels.npy"])
@pytest.mark.parametrize("kept", [-5, 10, 0, None])
def test_a_damaged_conversion_is_one_line_that_says_what_to_delete(
    digits: Path, tmp_path: Path, name: str, kept: int | None
) -> None:
    folder = tmp_path / ".converted" / "digits"
    shutil.copytree(digits / ".converted" / "digits", folder)
    if kept is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:kept])
    with pytest.raises(
        UserError, match=f"^{folder / name}: damaged .*; delete {folder}, and it is made again$"
    ) as raised:
        load("digits", "train", tmp_path)
    assert "\n" not in str(raised.value)
    shutil.rmtree(folder)
    assert len(load("digits", "train", tmp_path)) == 1442


def test_conversion_survives_a_rival_and_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = sources.read_digits

    def rival(root: Path) -> dict[str, sources.Arrays]:
        monkeypatch.setitem(convert.READERS, "digits", read)
        load("digits", "train", root)  # another process finishes while this one still reads
        return read(root)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", crash)
        with pytest.raises(KeyboardInterrupt):
            load("digits", "train", tmp_path)
    assert list((tmp_path / ".converted").iterdir()) == []
    monkeypatch.setitem(convert.READERS, "digits", rival)
    assert len(load("digits", "train", tmp_path)) == 1442
    assert [folder.name for folder in (tmp_path / ".converted").iterdir()] == ["digits"]


def test_flips_are_those_of_the_pixels():
    dataset = make_dataset()
    flips = dataset.draw(8, torch.Generator().manual_seed(0))
    x, _ = dataset.batch(np.arange(8), flips)
    still = dataclasses.replace(dataset, flip=False).batch(np.arange(8), ())[0]
    assert torch.equal(x, torch.where(flips[0][:, None, None, None], still.flip(-1), still))
