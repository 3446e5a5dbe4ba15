"""Where a measurement is worked at: by which processes, on which device; and where its parts lie that a kill leaves.

Work is cut into parts that depend on nothing but its size. The processes take the missing ones, and every number is put
together of the parts in their order: so it is the same by however many processes, and after however many kills.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import files
from harness.data.cache import own_file
from harness.engine.distributed import ALONE, World
from harness.errors import UserError

Arrays = Mapping[str, np.ndarray]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Workspace:
    """Processes, their device, and the folder of finished parts, which all of them see; None: kept in memory alone."""

    world: World = ALONE
    device: torch.device = field(default=CPU)
    folder: Path | None = None

    def within(self, name: str) -> "Workspace":
        """Return the workspace of a piece of this work, its parts in a folder of that name."""
        return replace(self, folder=self.folder and self.folder / name)

    def parts(self, count: int, make: Callable[[int], Arrays]) -> list[Arrays]:
        """Return `count` parts in all processes: each made by one of them, or found where an earlier attempt left it.

        A process makes neighbours of each other, in order. All must call this.

        Raises:
            UserError: a part could not be made, or cannot be read; in all processes.
        """
        found = self.world.decide(lambda: {path.name for path in self._files()})
        missing = [i for i in range(count) if _name(i) not in found]
        mine, problem = np.array_split(missing, self.world.size)[self.world.rank].tolist(), None
        made: dict[int, Arrays] = {}
        try:
            for i in mine:
                made[i] = make(i)
                self._keep(i, made[i])
        except UserError as error:
            problem = error
        self._agree(problem)
        if self.folder:
            return [made[i] if i in made else load(self.folder / _name(i)) for i in range(count)]
        everywhere = {i: part for parts in self.world.all_gather(made) for i, part in parts.items()}
        return [everywhere[i] for i in range(count)]

    def value(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what the leading process makes, or finds as JSON where it was made before; in all processes."""

        def kept() -> Any:
            if self.folder is None:
                return make()
            path = self.folder / f"{name}.json"
            content = files.read_json(path)
            if content is None:
                content = make()
                with suppress(ValueError):  # what is no number is no JSON, and is made again
                    files.write_json(path, content)
            return content

        return self.world.decide(kept)

    def keep_only(self, made_of: dict[str, Any]) -> None:
        """Forget what was made of anything else."""
        if self.folder and self.world.leads:
            path = self.folder / "made-of.json"
            if files.read_json(path) != made_of:
                self.forget()
                files.write_json(path, made_of)

    def forget(self) -> None:
        """Remove the parts, in the leading process."""
        if self.folder and self.world.leads:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> Iterator[Path]:
        return self.folder.glob("*.npz") if self.folder and self.folder.is_dir() else iter(())

    def _keep(self, number: int, arrays: Arrays) -> None:
        if self.folder:
            save(self.folder / _name(number), arrays)

    def _agree(self, problem: UserError | None) -> None:
        """Raise in all processes what went wrong in one."""
        problems = list(filter(None, self.world.all_gather(str(problem or ""))))
        if problems:
            raise problem or UserError(problems[0])


def _name(number: int) -> str:
    return f"{number:06d}.npz"


def save(path: Path, arrays: Arrays) -> None:
    """Write arrays as an .npz, whole or not at all."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # np.savez would add .npz to the name
            np.savez(file, **arrays)  # type: ignore[arg-type]

    files.replace(path, write)


def load(path: Path) -> Arrays:
    """Return the arrays of `save`.

    Raises:
        UserError: the file is missing or damaged.
    """
    with own_file(path, path), np.load(path) as arrays:
        return dict(arrays)
