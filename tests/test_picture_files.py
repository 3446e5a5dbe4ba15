"""Which files are pictures, in which order, and what is said of the rest."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from harness.errors import UserError
from harness.picture_files import picture_files
from harness.plain_text import escape_controls


def save(path: Path, kind: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, kind)
    return path


def test_hidden_names_are_nothing_at_any_depth(tmp_path: Path) -> None:
    for name in (".trash.png", ".ipynb_checkpoints/a-checkpoint.png", "a/.cache/b/c.png", "a/._d.png"):
        save(tmp_path / "hidden" / name)
    files = picture_files(tmp_path / "hidden")
    assert (files.names, files.left_out) == ((), "")
    save(tmp_path / ".mine" / "a.png")
    assert picture_files(tmp_path / ".mine").names == ("a.png",)  # the folder itself was asked for


def test_the_content_decides_where_the_name_does_not(tmp_path: Path) -> None:
    """Names of formats are believed without a look; what they hold is then read as it is, or refused."""
    for name, kind in {"a.JPEG": "JPEG", "b.webp": "WEBP", "c.TIF": "TIFF", "d": "PNG", "e.dat": "GIF"}.items():
        save(tmp_path / name, kind)
    (tmp_path / "f.png").write_text("no picture")
    for name in ("P3.txt", "list.TXT", "Thumbs.db", "LICENSE"):
        (tmp_path / name).write_text("P3 and more")
    (tmp_path / "x.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n")
    os.mkfifo(tmp_path / "pipe")
    files = picture_files(tmp_path)
    assert files.names == ("a.JPEG", "b.webp", "c.TIF", "d", "e.dat", "f.png")
    assert files.left_out == "6 other files (2 .txt, 2 without suffix, 1 .db, 1 .eps)"


def test_the_order_is_that_of_code_points_folder_by_folder(tmp_path: Path) -> None:
    """Not of bytes of the whole path: the folder a comes before the folder a-b."""
    names = ("B.png", "a/B.png", "a/b.png", "a/é.png", "a-b/a.png", "a.png", "b.png", "é.png")
    for name in reversed(names):
        save(tmp_path / name)
    assert picture_files(tmp_path).names == tuple(sorted(names, key=lambda name: name.split("/")))


def test_links_are_followed(tmp_path: Path) -> None:
    real = save(tmp_path / "elsewhere" / "a.png").parent
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(real)
    (tmp_path / "set" / "b.png").symlink_to(real / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert picture_files(tmp_path / "link").names == ("b.png", "linked/a.png")


def circle(folder: Path) -> None:
    (folder / "deep" / "again").symlink_to(folder)


def twice(folder: Path) -> None:
    (folder / "more").symlink_to(folder / "deep")


def to_nothing(folder: Path) -> None:
    (folder / "b.png").symlink_to(folder / "gone.png")


def to_itself(folder: Path) -> None:
    (folder / "b").symlink_to(folder / "b")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (circle, r"deep/again/?: the same folder as '\.', through a link"),
        (twice, r"(more|deep)/?: the same folder as '(more|deep)/', through a link: remove one of the two"),
        (to_nothing, r"b\.png: a link that leads to no file"),
        (to_itself, r"/b: a link that leads to no file"),
    ],
)
def test_links_that_mislead_are_refused(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    save(tmp_path / "deep" / "a.png")
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        picture_files(tmp_path)


def test_names_that_are_not_utf8_are_listed_and_have_a_text(tmp_path: Path) -> None:
    save(tmp_path / "caf\udce9.png")
    (name,) = picture_files(tmp_path).names
    assert os.fsencode(name) == b"caf\xe9.png"
    assert escape_controls(name).isprintable()
