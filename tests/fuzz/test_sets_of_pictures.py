"""Arrays and folders of pictures: measured as what they are, or refused."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from support.fuzzing import Content, command, spliced

pytestmark = pytest.mark.fuzz
N, SIDE = 12, 16
PICTURES = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)
GREY = PICTURES[..., :1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import timm
    import torch

    folder = tmp_path_factory.mktemp("measured")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", pretrained=False).state_dict(), folder / "vit.pth")
    reference = np.random.default_rng(9).integers(0, 256, (20, SIDE, SIDE, 3), dtype=np.uint8)
    np.savez(folder / "reference.npz", reference)
    return folder


def measure(folder: Path, samples: str, reference: str = "reference.npz") -> dict[str, Any] | None:
    """Return what `harness measure` writes; None where it refuses."""
    target = folder / "numbers.json"
    target.unlink(missing_ok=True)
    features = ("--features", "test_vit", "--weights", "vit.pth", "--device", "cpu")
    places = ("--scratch", "scratch", "--data", "data", "--json", "numbers.json")
    outcome = command(folder, "measure", samples, "--reference", reference, *features, *places)
    return json.loads(target.read_text()) if outcome.code == 0 else None


def numbers_of(folder: Path, pictures: np.ndarray) -> dict[str, float]:
    """Return the metrics of bytes that leave nothing to interpret."""
    np.savez(folder / "plain.npz", pictures)
    plain = measure(folder, "plain.npz")
    assert plain
    return plain["metrics"]


def agrees(measured: dict[str, Any], expected: dict[str, float]) -> None:
    metrics = measured["metrics"]
    assert all(np.isfinite(value) for value in metrics.values()), metrics
    for name in ("fd:test_vit", "vendi:test_vit", "precision:test_vit", "recall:test_vit"):
        assert metrics[name] == pytest.approx(expected[name], rel=1e-6), name


# What an array may hold, and the bytes that it can only mean; None where nothing can be meant.
MEANINGS: dict[str, tuple[Any, np.ndarray | None]] = {
    "bytes": (PICTURES, PICTURES),
    "from 0 to 1": ((PICTURES / 255).astype(np.float32), PICTURES),
    "floats from 0 to 255": (PICTURES.astype(np.float64), PICTURES),
    "16 bits": (PICTURES.astype(np.uint16) * 257, PICTURES),
    "integers": (PICTURES.astype(np.int64), PICTURES),
    "from -1 to 1": ((PICTURES / 127.5 - 1).astype(np.float32), PICTURES),
    "channels first": (PICTURES.transpose(0, 3, 1, 2), PICTURES),
    "channels in the middle": (PICTURES.transpose(0, 1, 3, 2), None),
    "grey": (GREY, GREY.repeat(3, -1)),
    "grey without channels": (GREY[..., 0], GREY.repeat(3, -1)),
    "transparent": (np.concatenate([PICTURES, GREY], -1), None),
    "booleans": (PICTURES > 127, None),
    "NaN": (np.where(PICTURES[0, 0, 0, 0] == PICTURES, np.nan, PICTURES), None),
    "infinite": (np.where(PICTURES[0, 0, 0, 0] == PICTURES, np.inf, PICTURES / 255), None),
    "beyond a byte": (PICTURES.astype(np.int32) + 200, None),
    "negative": (PICTURES.astype(np.int32) - 300, None),
    "complex": (PICTURES.astype(np.complex64), None),
    "objects": (PICTURES.astype(object), None),
    "text": (PICTURES.astype("U3"), None),
    "one picture": (PICTURES[0], None),
    "none": (PICTURES[:0], None),
    "no pixels": (PICTURES[:, :0], None),
    "two shapes at once": (np.zeros((N, 3, SIDE, 3), np.uint8), None),
    "a number": (np.array(3), None),
    "big-endian": (PICTURES.astype(">f4") / 255, PICTURES),
    "every second": (PICTURES[::-1], PICTURES),
}
HEADERS = (
    b"(12, 16, 16, 3)",
    b"(12, 16, 16, 9)",
    b"(10000000000000,)",
    b"(-1, 16, 16, 3)",
    b"(12, 768)",
    b"'|u1'",
    b"'<f8'",
)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, str, str]:
    """Draw what an archive holds, under which name, and what lies beside it."""
    name = draw(st.sampled_from(("arr_0", "images", "samples", "mu", "x")))
    beside = draw(st.sampled_from(("", "", "labels", "wrong labels", "second", "sigma")))
    return draw(st.sampled_from(sorted(MEANINGS))), name, beside


def test_an_array_is_measured_as_what_it_can_only_mean(folder: Path, explore: Any) -> None:
    expected = {name: numbers_of(folder, meaning) for name, (_, meaning) in MEANINGS.items() if meaning is not None}
    beside = {
        "labels": {"arr_1": np.arange(N)}, "wrong labels": {"arr_1": np.arange(N - 1)}, "second": {"arr_1": PICTURES},
        "sigma": {"sigma": np.eye(3)}, "": {},
    }  # fmt: skip

    def check(drawn: tuple[str, str, str]) -> None:
        kind, name, further = drawn
        np.savez(folder / "mutated.npz", **{name: MEANINGS[kind][0]}, **beside[further])
        measured = measure(folder, "mutated.npz")
        if measured is not None:
            assert kind in expected, f"{kind} was given a number"
            agrees(measured, expected[kind])

    explore(check, arrays(), 120)


def archive(**arrays: np.ndarray) -> Content:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return Content(file.getvalue())


def test_a_torn_or_changed_archive_is_measured_by_its_bytes_or_refused(folder: Path, explore: Any) -> None:
    expected = numbers_of(folder, PICTURES)

    def check(content: bytes) -> None:
        (folder / "torn.npz").write_bytes(content)
        measured = measure(folder, "torn.npz")
        if measured is not None:
            agrees(measured, expected)  # a zip knows the checksum of its content
        measure(folder, "mutated.npz" if (folder / "mutated.npz").exists() else "reference.npz", "torn.npz")

    whole = archive(arr_0=PICTURES)
    headers = st.sampled_from(HEADERS).map(lambda header: Content(archive(arr_0=PICTURES).replace(HEADERS[0], header)))
    statistics = mutated_statistics()
    explore(check, spliced(whole) | spliced(archive(mu=np.zeros(64), sigma=np.eye(64))) | headers | statistics, 80)


def mutated_statistics() -> st.SearchStrategy[bytes]:
    """Return archives of a mean and of matrices that are no covariance."""
    eye = np.eye(64)
    lopsided = eye + np.triu(np.ones((64, 64)), 1)
    with_nan = np.where(eye == 0, np.nan, eye)
    infinite, negative = np.where(eye == 1, np.inf, 0), np.diag([-1.0] + [1.0] * 63)
    sigmas = (-eye, lopsided, with_nan, eye[:63], infinite, eye.astype(complex) * 1j, negative)
    return st.sampled_from([archive(mu=np.zeros(64), sigma=sigma) for sigma in sigmas])


LOSSLESS = {
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tiff": "TIFF",
    ".tif": "TIFF",
    ".ppm": "PPM",
    ".PNG": "PNG",
    ".tga": "TGA",
}


def save(path: Path, pixels: np.ndarray, suffix: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(pixels).save(path.with_suffix(suffix), LOSSLESS[suffix], **options)


def hidden_copies(folder: Path) -> None:
    save(folder / ".ipynb_checkpoints/0-checkpoint", PICTURES[0], ".png")
    save(folder / ".trash", PICTURES[1], ".png")
    (folder / "._0.png").write_bytes(b"\x00\x05\x16\x07resource fork")


def other_files(folder: Path) -> None:
    (folder / "README.txt").write_text("not a picture")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")


def strange_name(folder: Path) -> None:
    first = min(path for path in folder.iterdir() if path.suffix.lower() in LOSSLESS)
    first.rename(folder / f"caf\udce9 {'x' * 200}{first.suffix}")


def a_circle(folder: Path) -> None:
    (folder / "again").symlink_to(folder)


def half_a_picture(folder: Path) -> None:
    first = min(path for path in folder.iterdir() if path.suffix.lower() in LOSSLESS)
    first.write_bytes(first.read_bytes()[:60])


def postscript(folder: Path) -> None:
    (folder / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\nshowpage\n")


def sixteen_bits(folder: Path) -> None:
    Image.fromarray(np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)).save(folder / "deep.png")


# What may happen to a folder, and whether its pictures are then still those that it held.
ACCIDENTS = {
    "nothing": (lambda folder: None, True), "hidden copies": (hidden_copies, True), "other files": (other_files, True),
    "strange name": (strange_name, True), "circle": (a_circle, None), "half a picture": (half_a_picture, None),
    "postscript": (postscript, None), "sixteen bits": (sixteen_bits, None),
}  # fmt: skip


def test_every_picture_of_a_folder_counts_once_or_the_folder_is_refused(folder: Path, explore: Any) -> None:
    expected = numbers_of(folder, PICTURES)

    def check(drawn: tuple[list[str], bool, bool, str]) -> None:
        suffixes, nested, linked, accident = drawn
        place = folder / "real" if linked else folder / "folder"
        for old in (folder / "real", folder / "folder"):
            shutil.rmtree(old, ignore_errors=True)
            old.unlink(missing_ok=True) if old.is_symlink() else None
        for index, pixels in enumerate(PICTURES):
            suffix = suffixes[index % len(suffixes)]
            save(place / (f"class{index % 3}" if nested and index else "") / f"{index:02}", pixels, suffix)
        spoil, unharmed = ACCIDENTS[accident]
        spoil(place)
        if linked:
            (folder / "folder").mkdir()
            (folder / "folder/linked").symlink_to(folder / "real")
        measured = measure(folder, "folder")
        if measured is None:
            assert not (unharmed and accident != "strange name"), f"refused, but nothing is wrong: {accident}"
            return
        assert measured["protocol"]["generated"] == N or unharmed is None
        if unharmed:
            agrees(measured, expected)

    suffixes = st.lists(st.sampled_from(sorted(LOSSLESS)), min_size=1, max_size=3)
    explore(check, st.tuples(suffixes, st.booleans(), st.booleans(), st.sampled_from(sorted(ACCIDENTS))), 60)
