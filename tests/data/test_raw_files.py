"""Raw files: what is read is what they say; a pickle may name nothing but arrays; they become arrays once."""

import gzip
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.raw_data import write_cifar10, write_fashion_mnist

from harness.commands.data_encode import get_by_name
from harness.data import raw_files as sources
from harness.data.cache import content_hash
from harness.data.datasets import load
from harness.errors import UserError


def test_a_pipe_among_raw_files_is_not_waited_for(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path / "fashion-mnist")
    path = tmp_path / "fashion-mnist" / "t10k-labels-idx1-ubyte"
    path.unlink()
    os.mkfifo(path.with_name(f"{path.name}.gz"))
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte\[.gz\]: cannot be read: not a plain file"):
        load("fashion-mnist", "train", tmp_path)


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
    ("length", "words"),
    [(12, r"4 values where its header says \(5,\)"), (6, "not an IDX file"), (1, "not an IDX file")],
)
def test_truncated_idx_is_refused(tmp_path: Path, length: int, words: str) -> None:
    write_fashion_mnist(tmp_path / "fashion-mnist")
    path = tmp_path / "fashion-mnist" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=f"t10k-labels-idx1-ubyte: {words}"):
        load("fashion-mnist", "train", tmp_path)
    assert not (tmp_path / ".converted").exists()


@pytest.mark.parametrize("layout", ["py", "bin"])
def test_cifar10_batches(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_cifar10(tmp_path, layout)
    train, test = (load("cifar10", split, tmp_path) for split in ("train", "test"))
    np.testing.assert_array_equal(train.images, images[:5].reshape(10, 3, 32, 32))
    np.testing.assert_array_equal(test.images, images[5])
    assert train.labels.tolist() == [3, 9] * 5
    for path in tmp_path.glob("*/data_batch_[2-5]*"):
        path.unlink()
    monkeypatch.setattr("harness.data.raw_files.FIRST", 1)
    first, test = (load("cifar10-5000", split, tmp_path) for split in ("train", "test"))
    np.testing.assert_array_equal(first.images, images[0, :1].reshape(1, 3, 32, 32))
    np.testing.assert_array_equal(test.images, images[5])


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


def test_converted_arrays_that_are_others_are_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path, "bin")
    first = load("cifar10", "train", tmp_path)
    path = tmp_path / ".converted" / "cifar10" / "train-labels.npy"
    np.save(path, np.zeros_like(first.labels))
    with pytest.raises(UserError, match=rf"the labels are not what was written, .*; delete {path.parent}, and it is"):
        load("cifar10", "train", tmp_path)


def test_labels_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path, "bin")
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(UserError, match=r"cifar10: train: label 10 among them; classes are 0 to 9"):
        load("cifar10", "train", tmp_path)
    assert not (tmp_path / ".converted").exists()


def test_a_packed_file_that_grows_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fashion_mnist(tmp_path / "fashion-mnist")
    monkeypatch.setattr(sources, "LARGEST", 1 << 20)
    packed = tmp_path / "fashion-mnist" / "train-images-idx3-ubyte.gz"
    packed.write_bytes(gzip.compress(bytes(1 << 22)))
    with pytest.raises(UserError, match="more than 1 MiB, as no file of these data sets"):
        load("fashion-mnist", "train", tmp_path)


def test_a_root_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*digits: Not a directory; mend that, or"):
        load("digits", "train", tmp_path / "file")


@pytest.mark.parametrize("name", ["meta.json", "train-images.npy", "train-labels.npy"])
@pytest.mark.parametrize("length", [-5, 10, 0, None])
def test_a_damaged_conversion_is_one_line_that_says_what_to_delete(
    digits: Path, tmp_path: Path, name: str, length: int | None
) -> None:
    folder = tmp_path / ".converted" / "digits"
    shutil.copytree(digits / ".converted" / "digits", folder)
    if length is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:length])
    with pytest.raises(
        UserError, match=f"^{folder / name}: damaged: .*; delete {folder}, and it is made again$"
    ) as raised:
        load("digits", "train", tmp_path)
    assert "\n" not in str(raised.value)
    shutil.rmtree(folder)
    assert len(load("digits", "train", tmp_path)) == 1442


def test_conversion_survives_a_rival_and_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = sources.read_digits

    def rival(root: Path) -> dict[str, sources.Arrays]:
        monkeypatch.setitem(sources.READERS.built_in, "digits", read)
        load("digits", "train", root)  # another process finishes while this one still reads
        return read(root)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", crash)
        with pytest.raises(KeyboardInterrupt):
            load("digits", "train", tmp_path)
    assert list((tmp_path / ".converted").iterdir()) == []
    monkeypatch.setitem(sources.READERS.built_in, "digits", rival)
    assert len(load("digits", "train", tmp_path)) == 1442
    assert [folder.name for folder in (tmp_path / ".converted").iterdir()] == ["digits"]
