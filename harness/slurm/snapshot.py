"""The code of a submission as it was when it was sent: editing the tree changes no job that waits in the queue.

scratch/<study>/slurm/code-<hash of its content>/   the package, and the YAML files of grids and clusters, whether git
                                                    knows them or not; harness/source.json keeps the commit it was
                                                    taken from
"""

import hashlib
import shlex
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from harness.files import make_folder, write_json
from harness.jobs.recording import PACKAGE, SOURCE, source

GRID_FILES = ("*.yaml", "scales/*.yaml", "presets/*.yaml")  # not all below: it may be the folder one works in


@dataclass(frozen=True)
class Snapshot:
    """Files to copy, by their names in the folder."""

    folder: Path
    files: dict[str, Path]

    @property
    def setup(self) -> str:
        """Return the line of shell by which a job runs this code: not what lies in the folder it is started in."""
        return f"export PYTHONSAFEPATH=1 PYTHONPATH={shlex.quote(str(self.folder))}${{PYTHONPATH:+:$PYTHONPATH}}"

    def take(self) -> None:
        """Copy the files, where that was not done before."""
        if not self.folder.exists():
            make_folder(self.folder, self._copy)

    def _copy(self, folder: Path) -> None:
        for name, path in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
        write_json(folder / PACKAGE.name / SOURCE, source(folder / PACKAGE.name))


def snapshot(grids: Collection[Path], folder: Path) -> Snapshot:
    """Name the code as it is now, in a folder of snapshots; `grids`: the folders of the grid files that are sent."""
    sources = [(PACKAGE, path) for path in sorted(PACKAGE.rglob("*")) if "__pycache__" not in path.parts]
    for grid in sorted({grid.resolve() for grid in (*grids, Path("clusters"))}):
        sources += [(grid, path) for pattern in GRID_FILES for path in sorted(grid.glob(pattern))]
    files = {
        f"{root.name}/{path.relative_to(root).as_posix()}": path
        for root, path in sources
        if path.is_file() and not path.name.startswith(".")
    }
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return Snapshot(folder.absolute() / f"code-{digest.hexdigest()[:12]}", files)
