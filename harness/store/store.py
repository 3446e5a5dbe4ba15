"""The folder is the database: where things live, and status derived from which files exist.

results/<study>/grids/<table>.json        which grid file, scale and overrides belong to the study
results/<study>/code/<version>.json       the sources that worked on it, one file for each version
results/<study>/<train_id>/               the small files of a training (`records`): spec, attempts, log, measurements
scratch/<study>/<train_id>/               its checkpoints: large, and not committed; its submission to SLURM
…/<train_id>/parts/<part>/                of a part of its work (`job_part`): signs of life; images, submission
scratch/<study>/slurm/                    its sender's alone: the jobs' code, sbatch files, tasks and output;
…/slurm-<user>/                           of further senders
"""

import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

from harness.config.named_files import grid_word
from harness.config.plugin_parts import PluginRecord
from harness.errors import UserError
from harness.files import UnfitFile
from harness.plain_text import check_name, escape_controls
from harness.store import records

T = TypeVar("T")
R = TypeVar("R")

IDENTITY = re.compile(r"[0-9a-f]{12}")
MOST_POINTS = 16_000_000  # of all logs of a study: five hundred trainings of 4,000 lines
PARTS = "parts"
BUNDLE = ".zip"  # how the name of a study in one archive ends


@dataclass(frozen=True)
class Store:
    """One study's folders."""

    results: Path
    scratch: Path
    study: str

    def __post_init__(self) -> None:
        check_name("--study", self.study)

    def check_new_name(self) -> None:
        """Refuse a new study that is called as a bundle: `harness report` would look for that.

        Raises:
            UserError: the name, and another.
        """
        if self.study.endswith(BUNDLE) and not self.root.is_dir():
            other = self.study.removesuffix(BUNDLE) or "study"
            raise UserError(f"--study {self.study}: what ends in {BUNDLE} is a bundle; did you mean '{other}'?")

    def absolute(self) -> "Store":
        """Return the same folders as seen from any other."""
        return Store(self.results.absolute(), self.scratch.absolute(), self.study)

    @cached_property
    def root(self) -> Path:
        """The study's small files."""
        return self.results / self.study

    @property
    def cache(self) -> Path:
        """What all studies share: classifiers, features of reference images."""
        return self.scratch / ".cache"

    @property
    def slurm_folder(self) -> Path:
        """The folder of the jobs in SLURM of who sent the study first."""
        return self.scratch / self.study / "slurm"

    def run_folder(self, train_id: str) -> Path:
        """Return a training's folder of small files."""
        assert IDENTITY.fullmatch(train_id), train_id
        return self.root / train_id

    def run_folders(self) -> list[Path]:
        """Return the folders of all trainings, by their identity."""
        return sorted(folder for folder in self.root.glob("*") if IDENTITY.fullmatch(folder.name))

    def scratch_folder(self, train_id: str) -> Path:
        """Return a training's folder of large files."""
        assert IDENTITY.fullmatch(train_id), train_id
        return self.scratch / self.study / train_id

    def eval_path(self, train_id: str, eval_id: str) -> Path:
        """Return the file whose presence means that the measurement is done."""
        assert IDENTITY.fullmatch(eval_id), eval_id
        return self.run_folder(train_id) / "evals" / f"{eval_id}.json"

    def probe_path(self, train_id: str, step: int) -> Path:
        """Return the file of what a checkpoint's representations are like."""
        return self.run_folder(train_id) / f"probe-{step}.json"

    def submissions(self) -> dict[str, dict[Path, records.Submission]]:
        """Return the last submissions of every training, those of its parts too, by the folders that they lie in; also
        of trainings that no grid of the study wants any more."""
        root = self.scratch / self.study
        names = {path.name for path in root.glob("*") if IDENTITY.fullmatch(path.name)}
        submissions = {name: self.submissions_of(name) for name in sorted(names)}
        return {name: of_training for name, of_training in submissions.items() if of_training}

    def submissions_of(self, train_id: str) -> dict[Path, records.Submission]:
        """Return the last submissions of a training and of its parts, by the folders that they lie in."""
        folder = self.scratch_folder(train_id)
        found = {place: records.Submission.peek(place) for place in (folder, *part_folders(folder))}
        return {place: submission for place, submission in found.items() if submission}

    def measured(self, train_id: str, eval_id: str) -> bool:
        """Tell whether a measurement is done: its file is there and whole.

        Raises:
            NewerRecord: a newer harness has measured it.
        """
        return records.Record.read(self.eval_path(train_id, eval_id)) is not None

    def settled(self, train_id: str, eval_id: str) -> bool:
        """Tell whether nothing is to be measured: it is done, or its file cannot be read and is not written over."""
        try:
            return self.measured(train_id, eval_id)
        except UserError:
            return True

    def check_grid(self, table: str, grid: Path, scale: str, overrides: list[str]) -> None:
        """Refuse what would make the study's report forget runs: another scale, or the same table from other words.

        Raises:
            UserError: the study holds something else under this name. Other seeds are welcome.
        """
        new = _grid_record(grid, scale, overrides).without_seeds()
        for name, record in self._grids().items():
            if record.scale != scale:
                raise UserError(f"--study {self.study}: its runs are at scale {record.scale}; choose another name")
            if name == table and record.without_seeds() != new:
                words = " ".join(f"--set {word}" for word in record.overrides) or "no --set"
                raise UserError(f"--study {self.study}: holds {record.grid} with {words}; choose another name")

    def record_grid(
        self,
        table: str,
        grid: Path,
        scale: str,
        overrides: list[str],
        plugins: PluginRecord | None = None,
        claims: Iterable[records.StatedClaim] = (),
    ) -> None:
        """Remember that a grid belongs to this study, so that the report can be made from the study alone.

        plugins: what its runs are made of beside the package. What was recorded of the table before is forgotten, its
        seeds too; but not its claims: one that was stated before keeps its time.
        """
        path, record = self.root / "grids" / f"{table}.json", _grid_record(grid, scale, overrides)
        if plugins and (plugins.origins or plugins.pictures):
            record = record.model_copy(update={"plugins": plugins})
        earlier = records.GridRecord.read(path)
        record = record.stating(earlier, claims)
        if earlier != record:
            record.write(path)

    def recorded_grid(self, table: str) -> records.GridRecord | None:
        """Return what `record_grid` stored of a table; None where it stored nothing.

        Raises:
            UserError: the record is damaged.
        """
        path = self.root / "grids" / f"{table}.json"
        return _read_grid(path) if os.path.lexists(path) else None

    def grids(self) -> Iterator[records.GridRecord]:
        """Yield what `record_grid` stored, by table name; what is damaged is told, and left out while another is not.

        Raises:
            UserError: there is no such study, or all its records are damaged.
        """
        paths = self.grid_paths()
        if not paths:
            make = f"'harness run GRID --scale SCALE --study {self.study}' makes one"
            raise UserError(f"{self.root}: no study here; {make}")
        yield from each_or_told(_read_grid, paths)

    def _grids(self) -> dict[str, records.GridRecord]:
        return {path.stem: _read_grid(path) for path in self.grid_paths()}

    def grid_paths(self) -> list[Path]:
        """Return the files of the records of the study's grids, by table name."""
        return sorted((self.root / "grids").glob("*.json"))


def part_folders(folder: Path) -> list[Path]:
    """Return the folders of what is made by itself for a training, below one of its two folders."""
    return sorted(folder.glob(f"{PARTS}/*"))


class Logs:
    """The logs of a study, and what its trainings ran on, by their identity; what a training's folder lacks is a log
    without series and an environment that is None.

    Raises:
        UserError: as `Record.load`, where an environment cannot be read.

    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.environment = cache(lambda train_id: records.Environment.load(store.run_folder(train_id)))
        self._kept: dict[str, records.Log] = {}
        self._room = MOST_POINTS

    def of(self, train_id: str) -> records.Log:
        """Return a training's log; one that cannot be read, or that has no room beside the others, is told, and
        empty."""
        if train_id not in self._kept:
            path = self.store.run_folder(train_id) / records.LOG
            try:
                self._kept[train_id] = self._fitting(records.read_log(path))
            except OSError as error:
                print(f"Left out: {path}: {error.strerror}", file=sys.stderr)
                self._kept[train_id] = records.NO_LOG
        return self._kept[train_id]

    def read(self, train_ids: Iterable[str]) -> None:
        """Read the logs of some trainings, the first of them first: which of them have room does not depend on who asks
        for what later."""
        for train_id in train_ids:
            self.of(train_id)

    def _fitting(self, log: records.Log) -> records.Log:
        points = sum(map(len, log.values()))
        if points > self._room:
            raise UnfitFile(errno.EFBIG, f"more than {MOST_POINTS:,} numbers with the logs of the other trainings")
        self._room -= points
        return log


def each_or_told(read: Callable[[T], R], sources: Iterable[T]) -> list[R]:
    """Read each source; one that is refused costs itself, and a line on the standard error.

    Raises:
        UserError: the first refusal, where nothing could be read.
    """
    whole, refusals = [], []
    for source in sources:
        try:
            whole.append(read(source))
        except UserError as error:
            refusals.append(error)
    if refusals and not whole:
        raise refusals[0]
    for refusal in refusals:
        print(f"Left out: {escape_controls(str(refusal))}", file=sys.stderr)
    return whole


def _read_grid(path: Path) -> records.GridRecord:
    """Return the record of a grid.

    Raises:
        UserError: it is damaged.
    """
    record = records.GridRecord.read(path)
    if record is None:
        raise UserError(f"{path}: not a record of a grid; delete it, and 'harness run' writes it again")
    return record


def _grid_record(grid: Path, scale: str, overrides: list[str]) -> records.GridRecord:
    """Return what a study remembers of a grid; its path is relative, so that the study can move with its project."""
    return records.GridRecord(grid=grid_word(grid), scale=scale, overrides=overrides)
