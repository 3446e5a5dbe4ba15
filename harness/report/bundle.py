"""A study in one archive: grids, results with thumbnails, and the report, to be opened elsewhere.

The archive is laid out as a project's folder, so that unpacking it by hand gives one; equal studies give equal bytes.
It holds the files that are named here and no others, and its report is made from them alone.
"""

import dataclasses
import json
import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.config import imported_weights as imported
from harness.config.grid import Table
from harness.config.grid_file import preset_document, read_grid, read_scale
from harness.config.named_files import GRIDS, grid_word, recorded_grid, without_shipped
from harness.config.yaml_document import whole
from harness.errors import UserError
from harness.files import LARGEST_LOG, check_no_links, is_file, read_file, replace, write_bytes
from harness.plain_text import is_name
from harness.report import disclosure
from harness.report.archive import check_items, check_sizes, is_read, unpack
from harness.report.rendering.page import make_report
from harness.report.rendering.study_summary import portable
from harness.store.records import GridRecord
from harness.store.store import Store
from harness.store.study import study_tables

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can say
OPENED = "bundles"  # the folder of reports in which those of bundles lie, beside one's own


@dataclass(frozen=True)
class Bundle:
    """An archive, and in a line for each kind what it tells of those who made it."""

    path: Path
    gives_away: list[str]


def bundle(store: Store, reports: Path, path: Path, anonymous: bool = False) -> Bundle:
    """Make the report of a study and pack it with all it was made from into the zip archive `path`.

    anonymous: leave out what tells of its makers; the study's own report in `reports` then stays as it is.

    Raises:
        UserError: there is no such study, a file of it cannot be read or looks as if it held a secret, two of its
            grids in different folders need different files of one name, it is too large to be opened, or a folder of
            the report is a link.
    """
    check_no_links(reports / store.study)
    files = _files(store)
    told = [fact for name in files for fact in disclosure.gives_away(name, files[name].content)]
    if anonymous:
        named = disclosure.names_of(told)
        files = {name: file.without(named) for name, file in files.items() if not name.endswith(".patch")}
    with tempfile.TemporaryDirectory() as folder:
        for name, file in files.items():
            content = file.content
            disclosure.check_secrets(name, file.source, content)
            write_bytes(Path(folder) / name, content)
        made = _report(Path(folder), store.study)
        pages = {f"reports/{store.study}/{page.relative_to(made).as_posix()}": page for page in _plain_files(made)}
        if not anonymous:
            for name, page in pages.items():
                write_bytes(reports.joinpath(*Path(name).parts[1:]), page.read_bytes())
        check_items(path, (Path(folder) / name for name in files))
        replace(path, lambda temporary: _pack(temporary, path, [*files, *pages], Path(folder)))
    return Bundle(path, [] if anonymous else disclosure.summary(told))


@dataclass(frozen=True)
class Packed:
    """A file to be packed. written: another content than it has. named: finds the names that are to be left out."""

    name: str
    source: Path
    written: bytes | None = None
    named: re.Pattern[str] | None = None

    def without(self, named: re.Pattern[str]) -> "Packed":
        """Return the same without names."""
        return dataclasses.replace(self, named=named)

    @property
    def content(self) -> bytes:
        """Its bytes, read anew each time: a study's files may be more than the memory holds."""
        content = self.written if self.written is not None else _content(self.source)
        return content if self.named is None else disclosure.anonymous(self.name, content, self.named)


def _pack(temporary: Path, path: Path, names: list[str], folder: Path) -> None:
    """Pack files, and refuse an archive that nobody could open."""
    with zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted(names):
            archive.writestr(_entry(name), (folder / name).read_bytes(), zipfile.ZIP_DEFLATED)
        check_sizes(path, archive.infolist())


def _content(source: Path) -> bytes:
    try:
        return read_file(source, LARGEST_LOG)
    except OSError as error:
        raise UserError(f"{source}: cannot be packed: {error.strerror}") from None


def report_bundle(archive: Path, reports: Path, pdf: bool = False) -> Path:
    """Make the report of a bundle's study anew from the results in it, and return its path in `reports/bundles`.

    Raises:
        UserError: as `unpack`, or a folder of the reports of bundles is a link.
    """
    target = reports.absolute() / OPENED
    check_no_links(target)
    with tempfile.TemporaryDirectory() as folder:
        study = unpack(archive, Path(folder)).study
        name = archive.stem if is_name(archive.stem) else study
        with _standing_in(Path(folder)):
            store = Store(Path("results"), Path("scratch"), study)
            return make_report(store, study_tables(store), target / name, pdf)


def _report(folder: Path, study: str) -> Path:
    """Make the report of a study whose project is `folder`, as it will be made when it is opened; return its folder."""
    target = folder.absolute() / "reports" / study
    with _standing_in(folder):
        store = Store(Path("results"), Path("scratch"), study)
        return make_report(store, study_tables(store), target).parent


@contextmanager
def _standing_in(project: Path) -> Iterator[None]:
    """Stand where grids lie beside results, and imported weights too, whatever HARNESS_WEIGHTS says."""
    weights = os.environ.pop("HARNESS_WEIGHTS", None)
    try:
        with chdir(project), without_shipped():
            yield
    finally:
        if weights is not None:
            os.environ["HARNESS_WEIGHTS"] = weights


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.create_system = 3  # the same bytes wherever it is packed
    return entry


def _files(store: Store) -> dict[str, Packed]:
    """Return the files that a study's report is made from, by their names in the archive."""
    records = {path: store.recorded_grid(path.stem) for path in store.grid_paths()}
    tables = study_tables(store)
    if len(tables) < len(records):
        raise UserError(f"{store.root}: a grid of it cannot be read, and without it the bundle would lack a table")
    weights = {cell.settings.weights for table in tables for cell in table.cells} - {None}
    sources = {f"weights/{name}.json": imported.description_path(imported.folder(), str(name)) for name in weights}
    for folder in store.run_folders():
        for path in () if folder.is_symlink() else _plain_files(folder):
            sources[f"results/{store.study}/{folder.name}/{path.relative_to(folder).as_posix()}"] = path
    files = {name: Packed(name, path) for name, path in sources.items() if is_read(name)} | _grid_files(store, tables)
    for path, record in records.items():
        if record:
            name = f"results/{store.study}/grids/{path.name}"
            files[name] = Packed(name, path, _portable(record))
    return files


def _portable(record: GridRecord) -> bytes:
    """Return a record with its grid where the archive has it."""
    content = record.content | {"grid": _in_archive(record).as_posix()}
    return json.dumps(content, indent=1, ensure_ascii=False).encode()


def _plain_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of those in it; links are not followed."""
    for place, _, names in os.walk(folder):
        paths = (Path(place) / name for name in sorted(names))
        yield from (path for path in paths if is_file(path) and not path.is_symlink())


def _in_archive(record: GridRecord) -> Path:
    """Return where the archive has a grid; one of the package's where one's own would be."""
    grid = recorded_grid(record.grid)
    return GRIDS / grid.name if grid_word(grid) == grid.stem else portable(Path(record.grid))


def _grid_files(store: Store, tables: list[Table]) -> dict[str, Packed]:
    """Return the study's grids with their scales, and the presets that they name, by their names in the archive."""
    files: dict[str, Packed] = {}
    presets = {
        table.name: sorted({str(c.settings.preset) for c in table.cells if c.settings.preset}) for table in tables
    }
    for record in store.grids():
        grid, folder = recorded_grid(record.grid), _in_archive(record).parent
        sources = {_in_archive(record): read_grid(grid)[1]}
        sources[folder / "scales" / f"{record.scale}.yaml"] = read_scale(record.scale, grid.parent / "scales")[1]
        for name in presets[grid.stem]:
            sources[folder / "presets" / f"{name}.yaml"] = preset_document(name, f"{grid}", grid.parent / "presets")
        for place, document in sources.items():
            packed = Packed(place.as_posix(), document.path, whole(document))
            other = files.setdefault(packed.name, packed)
            if other.content != packed.content:
                raise UserError(
                    f"harness bundle: {other.source} and {packed.source} differ and would have one name; "
                    "make them one file"
                )
    return files
