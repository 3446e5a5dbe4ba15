"""What a training's folders hold, for a person to read: its job's output, its failure, and everything on one page."""

import json
import shlex
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UserError, closest
from harness.files import read_json
from harness.store.records import Environment, Failure, MeasurementFile, SpecFile, measurement_paths
from harness.store.store import IDENTITY, Store
from harness.store.submissions import output_path, read_submission


def find_run(results: Path, scratch: Path, train_id: str) -> Store:
    """Return the study that holds a training, the one written to last where several do.

    Raises:
        UserError: none does.
    """
    studies = [path.parent for path in results.glob(f"*/{train_id}") if IDENTITY.fullmatch(train_id)]
    if not studies:
        near = closest(train_id, {path.parent.name for path in results.glob(f"*/*/{SpecFile.FILE}")})
        hint = f"; did you mean '{near}'?" if near else "; 'harness status STUDY' names them"
        raise UserError(f"{train_id}: no training of this name in {results}{hint}")
    latest = max(studies, key=lambda root: (root / train_id).stat().st_mtime)
    return Store(results, scratch, latest.name)


def log_of(store: Store, train_id: str) -> Path:
    """Return the file that a training's last job in SLURM writes.

    Raises:
        UserError: it was not sent to SLURM, or has written nothing yet.
    """
    submission = read_submission(store, train_id)
    job = submission.job if submission else None
    if job is None:
        raise UserError(f"{train_id}: no job of SLURM's made this training; 'harness show {train_id}' tells the rest")
    path = output_path(store, job)
    if not path.is_file():
        raise UserError(f"{train_id}: its job {job} has written nothing yet ({path})")
    return path


def follow_file(path: Path, lines: int, follow: bool) -> Iterator[str]:
    """Yield the last lines of a file and, where asked, what is added to it, until interrupted."""
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from deque(file, maxlen=lines)
        while follow:
            yield from iter(file.readline, "")
            time.sleep(0.5)


def failures(store: Store, lines: int) -> list[str]:
    """Return the last lines of every failure of a study, under the name of its training."""
    texts = []
    for path in sorted(store.root.glob(f"*/{Failure.FILE}")):
        if failure := Failure.read(path.parent):
            text = failure.traceback or failure.message
            texts.append("\n".join([f"{path.parent.name}: {failure.kind}", *text.splitlines()[-lines:]]))
    return texts


def describe(store: Store, train_id: str) -> str:
    """Return everything that is known of a training, and the command that makes what it lacks."""
    folder, scratch = store.run_folder(train_id), store.scratch_folder(train_id)
    parts = [f"{train_id} in study {store.study}"]
    for name in (SpecFile.FILE, Environment.FILE, Failure.FILE):
        content = read_json(folder / name)
        if content is not None:
            parts.append(f"{name}\n{json.dumps(content, indent=1, ensure_ascii=False)}")
    for path in measurement_paths(folder):
        measurement = MeasurementFile.read(path)
        if measurement and measurement.evaluation:
            step = measurement.evaluation.step
            parts.append(f"{path.name}, step {step}\n{json.dumps(measurement.metrics, indent=1)}")
        else:
            parts.append(f"{path.name}\ndamaged; delete it, and 'harness run' measures again")
    files = [path for root in (folder, scratch) for path in sorted(root.rglob("*")) if path.is_file()]
    parts.append("files\n" + "\n".join(f"{path.stat().st_size:>12,} {path}" for path in files))
    commands = [f"harness run {words} --study {store.study}" for words in grid_options(store, train_id)]
    parts.append("command\n" + "\n".join(commands))
    return "\n\n".join(parts)


def grid_options(store: Store, train_id: str, without: str | None = None) -> Iterator[str]:
    """Yield the words by which a command takes each grid that wants a training: file, scale and overrides.

    without: the key of a setting whose overrides are left out.
    """
    from harness.config.grid import load_table

    for record in store.grids():
        table = load_table(Path(record.grid), record.scale, record.overrides)
        if any(run.train_id == train_id for run in table.runs):
            overrides = [f"--set={word}" for word in record.overrides if word.partition("=")[0] != without]
            yield shlex.join([record.grid, "--scale", record.scale, *overrides])
