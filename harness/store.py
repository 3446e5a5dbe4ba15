"""The folder is the database: where things live, and status derived from which files exist.

results/<study>/grids/<table>.json        which grid file, scale and overrides belong to the study
results/<study>/<train_id>/spec.json      what is trained
                           env.json       where and with what it ran, attempt by attempt
                           train.jsonl    the training log
                           heartbeat.json present while a job is at work
                           error.json     present after a failure
                           evals/<eval_id>.json (+ .png)   what was measured; its presence means done
scratch/<study>/<train_id>/               checkpoints: large, and not committed
"""

import platform
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import UserError
from harness.files import read_json, write_json

State = Literal["done", "running", "interrupted", "failed", "diverged", "unreadable", "not run"]
HEARTBEAT_STALE_SECONDS = 60.0
IDENTITY = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Status:
    """What is known of one run from its folder alone."""

    state: State
    reason: str = ""
    step: int | None = None
    total: int | None = None
    phase: str = ""


def beating(beat: dict[str, Any]) -> bool:
    """Tell a live heartbeat from one that a killed process left: by its process on this host, by its age elsewhere."""
    if beat["host"] == platform.node():
        return Path(f"/proc/{beat['pid']}").exists() or not Path("/proc").exists()
    return time.time() - beat["time"] < HEARTBEAT_STALE_SECONDS


@dataclass(frozen=True)
class Store:
    """One study's folders."""

    results: Path
    scratch: Path
    study: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.study):
            raise UserError(f"--study {self.study}: a study's name is letters, digits, '.', '_' and '-'")

    @property
    def root(self) -> Path:
        """The study's small files."""
        return self.results / self.study

    def run_folder(self, train_id: str) -> Path:
        """Return a training's folder of small files."""
        assert IDENTITY.fullmatch(train_id), train_id
        return self.root / train_id

    def scratch_folder(self, train_id: str) -> Path:
        """Return a training's folder of large files."""
        assert IDENTITY.fullmatch(train_id), train_id
        return self.scratch / self.study / train_id

    def eval_path(self, train_id: str, eval_id: str) -> Path:
        """Return the file whose presence means that the measurement is done."""
        assert IDENTITY.fullmatch(eval_id), eval_id
        return self.run_folder(train_id) / "evals" / f"{eval_id}.json"

    def check_writable(self) -> None:
        """Refuse folders that cannot be written, before anything runs and without leaving anything behind.

        Raises:
            UserError: the results or scratch folder cannot be written.
        """
        for flag, folder in (("--results", self.results), ("--scratch", self.scratch)):
            existing = folder.absolute()
            while not existing.exists():
                existing = existing.parent
            try:
                with tempfile.TemporaryFile(dir=existing):
                    pass
            except OSError as error:
                raise UserError(f"{flag} {folder}: cannot write in {existing}: {error.strerror}") from None

    def status(self, train_id: str, eval_id: str) -> Status:
        """Derive a run's status from which files exist."""
        if self.eval_path(train_id, eval_id).is_file():
            return Status("done")
        try:
            return self._unfinished(self.run_folder(train_id))
        except OSError as error:
            return Status("unreadable", f"{Path(str(error.filename)).name}: {error.strerror}")
        except (KeyError, TypeError, AttributeError):
            return Status("unreadable", "heartbeat.json or error.json is broken; delete it")

    def _unfinished(self, folder: Path) -> Status:
        beat, error = read_json(folder / "heartbeat.json"), read_json(folder / "error.json")
        if beat and beating(beat):
            return Status("running", "", beat["step"], beat["total"], beat["phase"])
        if error:
            return Status("diverged" if error["class"] == "diverged" else "failed", error["message"])
        if beat:
            return Status("interrupted", f"last sign at step {beat['step']}; the next run goes on from there")
        return Status("not run")

    def check_scale(self, scale: str) -> None:
        """Refuse to mix scales in one study.

        Raises:
            UserError: the study's runs are at another scale.
        """
        for path in (self.root / "grids").glob("*.json"):
            other = (read_json(path) or {}).get("scale", scale)
            if other != scale:
                raise UserError(f"--study {self.study}: its runs are at scale {other}; choose another name")

    def record_grid(self, table: str, grid: Path, scale: str, overrides: list[str]) -> None:
        """Remember that a grid belongs to this study, so that the report can be made from the study alone."""
        content = {"grid": grid.as_posix(), "scale": scale, "set": overrides}
        path = self.root / "grids" / f"{table}.json"
        if read_json(path) != content:
            write_json(path, content)

    def grids(self) -> Iterator[dict[str, Any]]:
        """Yield what `record_grid` stored, by table name.

        Raises:
            UserError: there is no such study.
        """
        files = sorted((self.root / "grids").glob("*.json"))
        if not files:
            raise UserError(
                f"{self.root}: no study here; 'harness run GRID --scale SCALE --study {self.study}' makes one"
            )
        for path in files:
            content = read_json(path)
            if not isinstance(content, dict) or not content.keys() >= {"grid", "scale", "set"}:
                raise UserError(f"{path}: not a record of a grid; delete it, and 'harness run' writes it again")
            yield content
