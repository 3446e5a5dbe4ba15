"""What is taken out of somebody else's bundle: its names and sizes are refused before a byte is written.

Only what a report reads is unpacked (grids, records, pictures of samples): no code, and no page.
"""

import io
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UserError
from harness.files import LARGEST_LOG, open_file
from harness.plain_text import CONTROL, is_name, shown
from harness.store.records import GridRecord, items_in
from harness.store.store import IDENTITY, Store

MOST_ENTRIES = 50_000
LARGEST = 2 << 30  # bytes, unpacked
# Of all its records: those of a thousand trainings that are probed. In RAM a value takes 300 bytes at most.
LARGEST_RECORDS, MOST_ITEMS = 64 << 20, 2_000_000
RATIO = 200  # of unpacked bytes to packed ones, in what is larger than a MiB: a study's text has 10, zeros 1000
LIST = 8 << 20  # bytes of the archive's list of files, which is read as a whole
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others take up to 4 GiB to unpack anything
# The files of a run by their names in its folder; a bundle holds these and no others.
OF_A_RUN = re.compile(
    r"(spec|env|error|facts)\.json|train\.jsonl|probe-\d+\.json|diff-[0-9a-f]{12}\.patch|evals/[0-9a-f]{12}(\.json|(-nearest)?\.png)"
)


class Archive(io.BufferedReader):
    """An archive whose list of files is not read where that alone would fill the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most `LIST` bytes at once, as `io.BufferedReader.read`."""
        if size is not None and size > LIST:
            raise zipfile.BadZipFile("its list of files is too long")
        return super().read(size)


def unpack(archive: Path, folder: Path) -> Store:
    """Unpack a bundle into `folder`, and return the study that it holds.

    Raises:
        UserError: it is no bundle of one study, is too large, or a name in it would leave the folder.
    """
    with _opened(archive) as opened:
        entries = [entry for entry in opened.infolist() if not entry.is_dir()]
        check_sizes(archive, entries)
        for entry in entries:
            _check(archive, entry)
        wanted = {entry.filename: entry for entry in entries if is_read(entry.filename)}
        study = _study(archive, wanted)
        for name, entry in wanted.items():
            _write(opened, entry, folder / name)
    check_items(archive, (folder / name for name in wanted))
    store = Store(folder / "results", folder / "scratch", study)
    _check_grids(archive, store, wanted)
    return store


def is_read(name: str) -> bool:
    """Tell whether a report is made from a file, by its name in a bundle."""
    top, _, rest = name.partition("/")
    if top == "results":
        _, folder, inner = (*rest.split("/", 2), "", "")[:3]
        grid = folder == "grids" and inner.endswith(".json") and is_name(inner.removesuffix(".json"))
        return grid or bool(IDENTITY.fullmatch(folder) and OF_A_RUN.fullmatch(inner))
    if top == "weights":
        return rest.endswith(".json") and is_name(rest.removesuffix(".json"))
    return top != "reports" and name.endswith(".yaml")


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; all that can be wrong with one is told as the user's mistake."""
    try:
        with Archive(open_file(archive).detach()) as file, zipfile.ZipFile(file) as opened:
            yield opened
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or shown(str(error))
        raise UserError(f"{archive}: cannot be read as a bundle: {reason}") from None


def check_sizes(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse a bomb by what it says of itself; what it says is held against it when it is unpacked.

    Raises:
        UserError: it holds more than a bundle may.
    """
    if len(entries) > MOST_ENTRIES:
        raise UserError(f"{archive}: holds {len(entries):,} files; a bundle has at most {MOST_ENTRIES:,}")
    if len({entry.filename for entry in entries}) < len(entries):
        raise UserError(f"{archive}: holds two files of one name; it was not unpacked")
    if sum(entry.file_size for entry in entries) > LARGEST:
        raise UserError(f"{archive}: unpacks to more than {LARGEST >> 30} GiB, which no study's small files are")
    records = sum(entry.file_size for entry in entries if is_record(entry.filename))
    if records > LARGEST_RECORDS:
        limit = f"a bundle has at most {LARGEST_RECORDS >> 20} MiB of records, as of a thousand trainings"
        raise UserError(f"{archive}: holds {records >> 20:,} MiB; {limit}")
    for entry in entries:
        if entry.file_size > max(1 << 20, RATIO * entry.compress_size):
            raise UserError(f"{archive}: {shown(entry.filename)} unpacks to more than {RATIO} times its size")


def check_items(archive: Path, paths: Iterable[Path]) -> None:
    """Refuse records that would fill the memory: of small values, a list or mapping each, they take most.

    Raises:
        UserError: they hold more values than the records of a bundle may.
    """
    items = sum(items_in(path.read_bytes()) for path in paths if path.suffix == ".json")
    if items > MOST_ITEMS:
        raise UserError(f"{archive}: its records hold {items:,} values; those of a bundle have at most {MOST_ITEMS:,}")


def is_record(name: str) -> bool:
    """Tell whether a file of a bundle, by its name, is read as JSON."""
    return name.endswith(".json") and is_read(name)


def _check(archive: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse a name that is absolute, climbs, or is spelt in another system's way, and anything but a plain file."""
    name, parts = entry.filename, entry.filename.split("/")
    plain = stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)
    if not plain or "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        raise UserError(f"{archive}: holds {shown(name)}, which would leave its folder; it was not unpacked")
    if CONTROL.search(name) or any(len(part.encode()) > 255 for part in parts):
        raise UserError(f"{archive}: holds {shown(name)}, which no file may be called; it was not unpacked")
    if entry.compress_type not in METHODS or entry.flag_bits & 1:
        raise UserError(f"{archive}: {shown(name)} is packed in a way that bundles are not; it was not unpacked")
    if is_read(name) and entry.file_size > LARGEST_LOG:
        raise UserError(f"{archive}: {shown(name)} is larger than {LARGEST_LOG >> 20} MiB; it was not unpacked")


def _study(archive: Path, names: Iterable[str]) -> str:
    """Return the one study that has grids; files of others are none of its."""
    studies = {parts[1] for name in names if (parts := name.split("/"))[0] == "results"}
    grids = {parts[1] for name in names if (parts := name.split("/"))[0] == "results" and parts[2] == "grids"}
    if len(grids) != 1 or studies != grids or not is_name(*grids):
        raise UserError(f"{archive}: a bundle holds one study, found {len(grids)}; 'harness bundle STUDY' makes one")
    return grids.pop()


def _write(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    """Unpack a file piece by piece: zipfile stops at the size that the list says, and compares the checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(entry) as packed, path.open("xb") as file:
        shutil.copyfileobj(packed, file, 1 << 20)


def _check_grids(archive: Path, store: Store, names: Iterable[str]) -> None:
    """Refuse a study whose grids or scales are not in the bundle: those of this machine are none of its business."""
    records = [record for path in store.grid_paths() if (record := GridRecord.peek(path))]
    if not records:
        raise UserError(f"{archive}: no record of a grid in it can be read; 'harness bundle STUDY' makes it again")
    for record in records:
        grid = record.grid
        scale = (Path(grid).parent / "scales" / f"{record.scale}.yaml").as_posix()
        for name in (grid, scale):
            if name not in names:
                raise UserError(f"{archive}: its study wants {shown(name)}, which is not in it")
