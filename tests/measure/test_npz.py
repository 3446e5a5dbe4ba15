"""An .npz's headers are looked at before memory is taken for what they declare."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from harness.errors import UserError
from harness.measure import npz
from harness.measure.npz import open_array, read_array


def write(path: Path, declared: str, values: bytes) -> Path:
    """An .npz whose array says of itself what it is told to."""
    header = declared.encode().ljust(117) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + values
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    return path


def of(dtype: str, shape: str, fortran: bool = False) -> str:
    return f"{{'descr': {dtype!r}, 'fortran_order': {fortran}, 'shape': {shape}}}"


@pytest.mark.parametrize(
    "values",
    [np.arange(12.0).reshape(3, 4), np.asfortranarray(np.arange(12).reshape(3, 4)), np.array(3), np.zeros((0, 2)),
     np.arange(6, dtype=">f4")],
)  # fmt: skip
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_array_is_numpys(tmp_path: Path, values: np.ndarray, save: object) -> None:
    save(tmp_path / "a.npz", x=values)  # type: ignore[operator]
    ours = read_array(tmp_path / "a.npz", "x")
    assert ours.dtype == values.dtype
    np.testing.assert_array_equal(ours, values)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (of("<i8", "(10000000000000,)"), r"x has 16 bytes of values, and declares int64 \(10000000000000,\)"),
        (of("<i8", "(-2,)"), "x has 16 bytes of values, and declares"),
        (of("<i8", "(-1, -2)"), "x has 16 bytes of values, and declares"),
        (of("<i8", "(1,)"), "x has 16 bytes of values, and declares"),
        (of("|O", "(2,)"), "x holds objects"),
        ("{}", "Header does not contain the correct keys"),
        ("[" * 100, "a.npz: cannot be read"),
    ],
)
def test_what_a_header_declares_is_what_is_there(tmp_path: Path, declared: str, words: str) -> None:
    path = write(tmp_path / "a.npz", declared, bytes(16))
    tracemalloc.start()
    with pytest.raises(UserError, match=words):
        read_array(path, "x")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    with pytest.raises(UserError, match=words), open_array(path, "x"):
        pass


def test_an_array_too_large_to_be_read_whole_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.npz", of("|u1", "(4194304,)"), bytes(1 << 22))
    assert path.stat().st_size < 1 << 16
    monkeypatch.setattr(npz, "LARGEST", 1 << 20)
    with pytest.raises(UserError, match=r"x is uint8 \(4194304,\), more than 1 MiB"):
        read_array(path, "x")


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", of("<i8", "(2,)"), bytes(16))
    content = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = archive.getinfo("x.npy").file_size.to_bytes(4, "little")
    path.write_bytes(content.replace(size, (2**31 - 1).to_bytes(4, "little")))
    with pytest.raises(UserError, match=r"a\.npz: cannot be read"):
        read_array(path, "x")
