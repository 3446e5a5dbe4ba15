"""Raw files become arrays once, whatever dies or comes in between."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.data import raw_files as sources
from harness.data.datasets import load
from harness.errors import UserError


def test_a_root_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*digits: Not a directory; choose another data folder"):
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
        monkeypatch.setitem(sources.READERS, "digits", read)
        load("digits", "train", root)  # another process finishes while this one still reads
        return read(root)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", crash)
        with pytest.raises(KeyboardInterrupt):
            load("digits", "train", tmp_path)
    assert list((tmp_path / ".converted").iterdir()) == []
    monkeypatch.setitem(sources.READERS, "digits", rival)
    assert len(load("digits", "train", tmp_path)) == 1442
    assert [folder.name for folder in (tmp_path / ".converted").iterdir()] == ["digits"]
