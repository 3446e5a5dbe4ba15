"""Arrays and folders as sets of images: each number means one thing, or is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.errors import UserError
from harness.measure import images

rng = np.random.default_rng(0)
BYTES = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (BYTES / 255, r"float64 \(6, 8, 8, 3\); expected uint8"),
        (
            BYTES.astype(np.uint16),
            r"uint16 .* 255 np.round\(x\).*, of those from 0 to 65,535 np.round\(x / 257\)",
        ),
        (BYTES.astype(np.int64), r"int64 .*; of whole numbers from 0 to 255 np.round\(x\).astype\('uint8'\)"),
        (BYTES > 127, r"bool .*; of false and true np.round\(255 \* x\)"),
        (BYTES.transpose(0, 3, 1, 2), "its channels come first, and transpose"),
        (BYTES.transpose(0, 1, 3, 2), r"\(6, 8, 3, 8\); expected uint8"),
        (BYTES[:, :3], "6×3×8×3: images of 3×8 pixels with their channels last or of 8×3 pixels with their channels f"),
        (BYTES[0], "8×8×3: 8 grey images of 8×3 pixels or one image of 8×8 pixels"),
        (BYTES[0].transpose(2, 0, 1), "3×8×8: 3 grey images of 8×8 pixels or one image of 8×8 pixels"),
        (BYTES[:, :0], "holds no images"),
        (BYTES[..., :2], r"\(6, 8, 8, 2\); expected"),
        (np.array(3, np.uint8), r"\(\); expected"),
    ],
)
def test_an_array_that_could_mean_something_else_is_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "x.npz", array)
    with pytest.raises(UserError, match=f"arr_0 .*{message}"):
        images.of_path(tmp_path / "x.npz")


def test_a_negative_number_of_images_is_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", BYTES)
    content = (tmp_path / "x.npz").read_bytes().replace(b"(6, 8, 8, 3), ", b"(-6, 8, 8, 3),")
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz: "):
        images.of_path(tmp_path / "x.npz")


def test_labels_of_another_number_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", BYTES, np.arange(5))
    with pytest.raises(UserError, match="arr_0 has 6 images, and arr_1 has 5 labels"):
        images.of_path(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "labels", [np.arange(6.0), np.arange(6) > 2, np.eye(6, dtype=int), np.arange(6) - 1, np.full(6, 2**63, np.uint64)]
)
def test_labels_that_are_none_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    np.savez(tmp_path / "x.npz", BYTES, labels)
    with pytest.raises(UserError, match=rf"x\.npz: arr_1 is {labels.dtype} .*; expected labels, whole numbers from 0"):
        images.of_path(tmp_path / "x.npz")


@pytest.mark.parametrize("array", [BYTES, BYTES[..., :1], BYTES[..., 0]])
def test_bytes_are_what_they_are(tmp_path: Path, array: np.ndarray) -> None:
    np.savez(tmp_path / "x.npz", array)
    found = next(images.of_path(tmp_path / "x.npz").batches(9, 0, 6))
    np.testing.assert_array_equal(found, array.reshape(6, 8, 8, -1).transpose(0, 3, 1, 2))


def test_a_folder_is_read_whatever_its_formats_and_says_what_it_left_out(tmp_path: Path) -> None:
    for index, suffix in enumerate((".png", ".PNG", ".bmp", ".tiff", ".ppm", ".tga")):
        Image.fromarray(BYTES[index]).save(tmp_path / f"caf\udce9{index}{suffix}")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_text("no picture")
    found = images.of_path(tmp_path)
    assert (found.count, found.left_out) == (6, "1 other file (1 .txt)")
    np.testing.assert_array_equal(next(found.batches(9, 0, 6)), BYTES.transpose(0, 3, 1, 2))


def test_grey_of_sixteen_bits_is_scaled_among_pictures_of_eight(tmp_path: Path) -> None:
    grey = BYTES[0, ..., 0]
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(grey).save(tmp_path / "plain.png")
    deep, plain = next(images.of_path(tmp_path).batches(2, 0, 2))
    np.testing.assert_array_equal(deep, plain)
    np.testing.assert_array_equal(plain[0], grey)


def test_postscript_called_a_picture_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    with pytest.raises(
        UserError, match=re.escape(f"{tmp_path}/x.png: cannot be read: cannot identify its format; read are AVIF, ")
    ):
        images.of_path(tmp_path)
