"""A study in one archive: grids, results with thumbnails, and the report, to be opened elsewhere.

The archive is laid out as a project's folder, so that unpacking it by hand gives one; equal studies give equal bytes.
"""

import json
import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from harness.config import imported_weights as imported
from harness.errors import UserError
from harness.files import TEMPORARY, replace
from harness.report.rendering.page import make_report
from harness.report.rendering.study_summary import portable
from harness.store.records import Heartbeat
from harness.store.store import Store
from harness.store.study import study_tables

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can say
LEFT_OUT = (Heartbeat.FILE,)
LARGEST = 4 << 30  # bytes, unpacked


def bundle(store: Store, reports: Path, path: Path) -> Path:
    """Make the report of a study and pack it with all it was made from into the zip archive `path`.

    Raises:
        UserError: there is no such study, or two of its grids in different folders need different files of one name.
    """
    tables = study_tables(store)
    make_report(store, tables, reports / store.study)
    weights = {cell.settings.weights for table in tables for cell in table.cells} - {None}
    records = _records(store)
    files = _grid_files(store)
    files |= {f"weights/{name}.json": imported.description_path(imported.folder(), str(name)) for name in weights}
    files |= _below(store.root, f"results/{store.study}") | _below(reports / store.study, f"reports/{store.study}")

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name in sorted(files):
                archive.writestr(_entry(name), records.get(name) or files[name].read_bytes(), zipfile.ZIP_DEFLATED)

    replace(path, write)
    return path


def unpack(archive: Path, folder: Path) -> Store:
    """Unpack a bundle into `folder`, and return the study that it holds.

    Raises:
        UserError: it is no bundle of one study, or a name in it would leave the folder.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            for entry in entries:
                _check(archive, entry)
            if sum(entry.file_size for entry in entries) > LARGEST:
                raise UserError(
                    f"{archive}: unpacks to more than {LARGEST >> 30} GiB, which no study's small files are"
                )
            opened.extractall(folder, entries)
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{archive}: cannot be read as a bundle: {reason}") from None
    studies = {path.parent.parent.name for path in folder.glob("results/*/grids/*.json")}
    if len(studies) != 1:
        raise UserError(f"{archive}: a bundle holds one study, found {len(studies)}; 'harness bundle STUDY' makes one")
    return Store(folder / "results", folder / "scratch", studies.pop())


def report_bundle(archive: Path, reports: Path, pdf: bool = False) -> Path:
    """Make the report of a bundle's study anew from the results in it, in `reports`, and return its path.

    Raises:
        UserError: as `unpack`.
    """
    target = reports.absolute()
    with tempfile.TemporaryDirectory() as folder:
        store = unpack(archive, Path(folder))
        with chdir(folder), _own_weights():  # its grids lie beside its results, as in a project
            return make_report(store, study_tables(store), target / store.study, pdf)


@contextmanager
def _own_weights() -> Iterator[None]:
    """Look for imported weights where the bundle has them, whatever HARNESS_WEIGHTS says."""
    folder = os.environ.pop("HARNESS_WEIGHTS", None)
    try:
        yield
    finally:
        if folder is not None:
            os.environ["HARNESS_WEIGHTS"] = folder


def _check(archive: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse a name that is absolute, climbs, or is spelt in another system's way, and anything but a plain file."""
    parts = entry.filename.split("/")
    plain = stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)
    if not plain or "\\" in entry.filename or ":" in entry.filename or any(part in ("", ".", "..") for part in parts):
        raise UserError(f"{archive}: holds {entry.filename!r}, which would leave its folder; it was not unpacked")


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.create_system = 3  # the same bytes wherever it is packed
    return entry


def _records(store: Store) -> dict[str, bytes]:
    """Return the records of the study's grids, with the grids where the archive has them."""
    return {
        f"results/{store.study}/grids/{Path(record.grid).stem}.json": json.dumps(
            record.content | {"grid": portable(Path(record.grid)).as_posix()}, indent=1, ensure_ascii=False
        ).encode()
        for record in store.grids()
    }


def _grid_files(store: Store) -> dict[str, Path]:
    """Return the study's grids with their scales and presets by their names in the archive."""
    files: dict[str, Path] = {}
    for record in store.grids():
        grid = Path(record.grid)
        beside = [grid, grid.parent / "scales" / f"{record.scale}.yaml", *(grid.parent / "presets").glob("*.yaml")]
        for path in beside:
            name = (portable(grid).parent / path.relative_to(grid.parent)).as_posix()
            other = files.setdefault(name, path)
            if other.read_bytes() != path.read_bytes():
                raise UserError(
                    f"harness bundle: {other} and {path} differ and would have one name; make them one file"
                )
    return files


def _below(folder: Path, name: str) -> dict[str, Path]:
    """Return the files of a folder by their names in the archive, without what is of this moment."""
    paths = (Path(place) / file for place, _, files in os.walk(folder) for file in files)
    packed = (path for path in paths if path.name not in LEFT_OUT and not path.name.startswith(TEMPORARY))
    return {f"{name}/{path.relative_to(folder).as_posix()}": path for path in packed if not path.is_symlink()}
