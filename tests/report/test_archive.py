"""Somebody else's bundle: refused by what it says of itself and by what it is, and nothing outside it is read."""

import io
import json
import os
import resource
import struct
import zipfile
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.report import archive as opening
from harness.report.archive import is_read, unpack

RUN = "0123456789ab"
GRID = {"grid": "grids/t.yaml", "scale": "s", "set": []}
WHOLE = {
    "grids/t.yaml": "a: 1",
    "grids/scales/s.yaml": "a: 1",
    "results/one/grids/t.json": json.dumps(GRID),
    f"results/one/{RUN}/env.json": "{}",
}


def written(path: Path, files: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_what_no_report_reads_is_not_unpacked(tmp_path: Path) -> None:
    strange = {
        "PIL.py": "raise SystemExit", "PIL/__init__.py": "", "reports/one/index.html": "<p>", ".env": "A=1",
        f"results/one/{RUN}/heartbeat.json": "{}", f"results/one/{RUN}/x.pkl": "", f"results/one/{RUN}/a/env.json": "",
        "results/one/notes.txt": "", "weights/../x.json": "", "results/one/grids/../../x.json": "",
    }  # fmt: skip
    assert not any(map(is_read, strange))
    legal = {name: content for name, content in strange.items() if ".." not in name}
    store = unpack(written(tmp_path / "a.zip", WHOLE | legal), tmp_path / "in")
    inside = {path.relative_to(tmp_path / "in").as_posix() for path in (tmp_path / "in").rglob("*") if path.is_file()}
    assert inside == set(WHOLE)
    assert store.study == "one"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [({"grid": "/home/me/private.yaml"}, "/home/me/private.yaml"), ({"grid": "../private.yaml"}, "../private.yaml"),
     ({"grid": "grids/../../private.yaml"}, "private"), ({"scale": "../../../private"}, "private"),
     ({"scale": "other"}, "other.yaml")],
)  # fmt: skip
def test_a_grid_or_scale_outside_the_bundle_is_refused(tmp_path: Path, changes: dict[str, str], wanted: str) -> None:
    (tmp_path / "private.yaml").write_text("a: 1")
    path = written(tmp_path / "a.zip", WHOLE | {"results/one/grids/t.json": json.dumps(GRID | changes)})
    with pytest.raises(UserError, match=f"{wanted}.*not in it"):
        unpack(path, tmp_path / "in")


def bomb(path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive, archive.open("reports/one/index.html", "w") as file:
        for _ in range(256):
            file.write(bytes(1 << 20))
    return path


def many(path: Path) -> Path:
    return written(path, {f"reports/{index}": b"" for index in range(opening.MOST_ENTRIES + 1)}, zipfile.ZIP_STORED)


def long_list(path: Path) -> Path:
    """An archive whose list of files is said, at its end, to be a gigabyte long."""
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 1 << 30, 0, 0)
    with path.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(0, os.SEEK_END)
        file.write(end)
    return path


def understated(path: Path) -> Path:
    """An archive that says of a file of 64 MiB that it is a byte long."""
    text = bytes(1 << 26)
    written(path, WHOLE | {"results/one/" + RUN + "/error.json": text})
    content = path.read_bytes().replace(struct.pack("<L", len(text)), struct.pack("<L", 1))
    path.write_bytes(content)
    return path


def twice(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("results/one/grids/t.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("results/one/grids/t.json", "[]")
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def heavy(path: Path) -> Path:
    """An archive of records that are small to the eye and large in the memory."""
    content = "[" + ",".join(["[{}]"] * 24_000) + "]"
    return written(path, WHOLE | {f"results/one/{index:012x}/env.json": content for index in range(30)})


BAD = {
    "zeros": (bomb, "more than 200 times"),
    "bzip2": (lambda path: bomb(path, zipfile.ZIP_BZIP2), "more than 200 times"),
    "lzma": (lambda path: written(path, WHOLE, zipfile.ZIP_LZMA), "packed in a way"),
    "many": (many, r"holds 50,00\d files"),
    "a long list": (long_list, "list of files is too long"),
    "a lie": (understated, "cannot be read as a bundle"),
    "twice": (twice, "two files of one name"),
    "no record": (lambda path: written(path, WHOLE | {"results/one/grids/t.json": "[]"}), "no record of a grid"),
    "a pipe": (pipe, "not a plain file"),
    "a folder": (lambda path: path.mkdir() or path, "Is a directory"),
    "a large record": (
        lambda path: written(path, WHOLE | {f"results/one/{RUN}/env.json": os.urandom(opening.LARGEST_LOG + 1)}),
        "larger than 32 MiB",
    ),
    "many large records": (
        lambda path: written(
            path, WHOLE | {f"results/one/{RUN}/probe-{k}.json": bytes(7 << 20) for k in range(10)}, zipfile.ZIP_STORED
        ),
        "at most 64 MiB of records",
    ),
    "many values": (heavy, "at most 2,000,000"),
    "an escape": (lambda path: written(path, WHOLE | {"grids/\x1b[2J.yaml": ""}), r"no file may be called"),
    "a long name": (lambda path: written(path, WHOLE | {"grids/" + "é" * 200 + ".yaml": ""}), "no file may be called"),
    "a file for a folder": (lambda path: written(path, {"grids/t.yaml": ""} | {"grids/t.yaml/x.yaml": ""} | WHOLE),
                            "cannot be read as a bundle"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_archive_is_refused_in_a_line_and_costs_little(tmp_path: Path, kind: str) -> None:
    make, words = BAD[kind]
    path = make(tmp_path / "bad.zip")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=words) as refused:
        unpack(path, tmp_path / "in")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 18  # KiB: 256 MiB
    assert "\n" not in str(refused.value)
    assert str(refused.value).isprintable()
    assert sum(file.stat().st_size for file in (tmp_path / "in").rglob("*") if file.is_file()) < 1 << 22


def test_the_size_of_the_archive_in_memory_is_no_way_around(tmp_path: Path) -> None:
    """A list within the limit is read: the limit stands against what one read takes, not against the file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in WHOLE.items():
            archive.writestr(name, content)
        archive.writestr("reports/one/film.bin", os.urandom(opening.LIST + 1))
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    assert unpack(tmp_path / "a.zip", tmp_path / "in").study == "one"
