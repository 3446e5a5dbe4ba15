"""A data set copied to a disk of the node, from which the jobs there then read it.

<place>/harness-<user>/<hash>/   one state of a folder of data sets: copies of one set's files, links to all else
"""

import getpass
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness.errors import UserError, user_error
from harness.files import locked, make_folder
from harness.jobs.job import Job

VARIABLE = "HARNESS_STAGE_DATA"  # how a job is told the place


def staged(job: Job, place: str | None) -> Job:
    """Return a job that reads its data set from a place of this node, copied there by the first job that needs it.

    place: a folder; "$NAME" is a variable of the job. None: the job as it is.

    Raises:
        UserError: nothing says where the place is, it may be another user's, or it cannot hold the files.
    """
    name = job.train.data.name
    own = [folder for folder in (Path(name), Path(".converted") / name) if (job.data / folder).is_dir()]
    if place is None or not own:
        return job
    folder = _folder(place)
    target = folder / _state(job.data, own)
    with user_error(f"stage_data: {target}", "choose another place, or leave it out", OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_own(folder)
        with locked(folder / "lock"):
            if not target.is_dir():
                start = time.perf_counter()
                make_folder(target, partial(_copy, job.data, own))
                print(f"data set {name} copied to {target} in {time.perf_counter() - start:.0f} s", flush=True)
    return replace(job, data=target)


def _folder(place: str) -> Path:
    """Return this user's folder below a place.

    Raises:
        UserError: it names a variable that the job has not, or no absolute path.
    """
    path = os.path.expandvars(place)
    if meant := re.search(r"\$\{?\w+\}?", path):
        raise UserError(f"stage_data: {place}: the job has no variable {meant[0]}")
    if not Path(path).is_absolute():
        raise UserError(f"stage_data: {place}: an absolute path is expected, found {path}")
    return Path(path) / f"harness-{getpass.getuser()}"


def _check_own(folder: Path) -> None:
    """Refuse a folder that another user made, who could change what is trained on.

    Raises:
        UserError: it is one, or others can write in it.
    """
    status = folder.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022 or folder.is_symlink():
        raise UserError(f"stage_data: {folder} is not this user's alone to write; remove it, or choose another place")


def _files(data: Path, folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(path for path in (data / folder).rglob("*") if path.is_file())


def _state(data: Path, folders: list[Path]) -> str:
    """Return a hash of where files lie, of their sizes and times: what is changed is copied again."""
    digest = hashlib.sha256(os.fsencode(data.absolute()))
    for path in _files(data, folders):
        status = path.stat()
        digest.update(os.fsencode(path) + f"\n{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _copy(data: Path, folders: list[Path], target: Path) -> None:
    """Fill a folder: some folders of `data` copied, links to everything else in it."""
    for path in _files(data, folders):
        copied = target / path.relative_to(data)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copied)
    for inside in dict.fromkeys([Path(), *(folder.parent for folder in folders)]):
        for other in (data / inside).iterdir():
            if not (target / inside / other.name).exists():
                (target / inside / other.name).symlink_to(other.absolute())
