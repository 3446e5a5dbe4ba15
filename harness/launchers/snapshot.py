"""The code of a submission, copied, so that editing the tree changes no job that waits in the queue.

scratch/<study>/slurm/code-<hash of its content>/   the package, and the YAML files of grids and clusters, whether git
                                                    knows them or not; plugins/, the files of plug-ins as they were
                                                    executed here; harness/source.json keeps the commit it was taken
                                                    from
"""

import json
import shlex
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from harness import plugins
from harness.errors import UserError
from harness.jobs.job import Job
from harness.jobs.recording import PACKAGE, SOURCE, source
from harness.launchers.bootstrap import Untrusted, digest
from harness.launchers.private import write_private_folder

GRID_FILES = ("*.yaml", "scales/*.yaml", "presets/*.yaml")  # not all below: it may be the folder one works in


@dataclass(frozen=True)
class Snapshot:
    """Files to copy, as they were when they were read, by their names in the folder."""

    files: dict[str, bytes]

    @cached_property
    def sha256(self) -> str:
        """What the job compares the folder with."""
        return digest(self.files)

    @property
    def name(self) -> str:
        """The name of the folder."""
        return f"code-{self.sha256[:12]}"

    def write(self, here: Path, folder: Path) -> None:
        """Write the files below `here`, which is shown as `folder`.

        Raises:
            UserError: such a folder is there, and holds anything else.
        """
        try:
            write_private_folder(here / self.name, self.files)
        except Untrusted as error:
            words = str(error).replace(str(here), str(folder))
            raise UserError(f"{words}; remove it: rm -r {shlex.quote(str(folder / self.name))}") from None


def snapshot(grids: Collection[Path]) -> Snapshot:
    """Read the code as it is now; `grids`: the folders of the grid files that are sent."""
    files = {name: path.read_bytes() for name, path in _paths(grids)}
    with tempfile.TemporaryDirectory() as folder:
        origin = source(Path(folder))
        differences = {f"{PACKAGE.name}/{path.name}": path.read_bytes() for path in Path(folder).iterdir()}
    files |= {plugin_name(plugin): plugin.content for plugin in plugins.files()}
    return Snapshot(files | differences | {f"{PACKAGE.name}/{SOURCE}": json.dumps(origin).encode()})


def plugin_name(plugin: plugins.PluginFile) -> str:
    """Return what the file of a plug-in is called in the folder; two may have one name elsewhere."""
    return f"plugins/{plugin.origin.rpartition(':')[2]}/{plugin.path.name}"


def as_sent(job: Job) -> Job:
    """Return a job whose plug-ins are those that are sent with it, by their names in the folder."""
    names = {plugin.path: Path(plugin_name(plugin)) for plugin in plugins.files()}
    return replace(job, plugins=tuple(names[path] for path in job.plugins))


def as_received(job: Job) -> Job:
    """Return a job that was sent with the places of its plug-ins: in the folder of the code that runs."""
    return replace(job, plugins=tuple(PACKAGE.parent / path for path in job.plugins))


def _paths(grids: Collection[Path]) -> Iterator[tuple[str, Path]]:
    sources = [(PACKAGE, path) for path in sorted(PACKAGE.rglob("*")) if "__pycache__" not in path.parts]
    for grid in sorted({grid.resolve() for grid in (*grids, Path("clusters"))}):
        sources += [(grid, path) for pattern in GRID_FILES for path in sorted(grid.glob(pattern))]
    for root, path in sources:
        if path.is_file() and not path.name.startswith("."):
            yield f"{root.name}/{path.relative_to(root).as_posix()}", path
