"""What a job will execute belongs to its sender alone: folders of mode 0700 and files of 0600, whatever the umask.

Who sends jobs of a study first has the folder `slurm`, others have `slurm-<user>` beside it. Results, checkpoints and
caches are data, and stay as shared as the umask makes them.
"""

import json
import os
import re
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from harness.errors import UserError
from harness.files import make_folder, replace
from harness.launchers.bootstrap import Untrusted, check_own, opened, read_folder, user_name
from harness.store.records import SubmitOptions
from harness.store.store import Store

LEGAL = re.compile(r"[A-Za-z0-9_.@-]+")  # of names of users, that SLURM reads as they are in a path
OWN = "choose another --study or --scratch, or move it away: mv"


def own_folder(store: Store) -> Path:
    """Return the folder of this user's jobs of a study: the first one, unless another has it and keeps it closed.

    One that is another's and open is no sender's: it is returned, to be refused.
    """
    first = store.slurm_folder
    with suppress(OSError):
        status = first.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid != os.geteuid() and not status.st_mode & 0o077:
            name = user_name(os.geteuid())
            return first.with_name(f"{first.name}-{name if LEGAL.fullmatch(name) else os.geteuid()}")
    return first


def problem(folder: Path) -> str:
    """Return what is wrong with the folder of a study's jobs, and what to do; "" where it is well or missing."""
    try:
        check_own(folder)
    except Untrusted as error:
        remedy = OWN if "can be written" not in str(error) else "look at what lies there, then: chmod 700"
        target = f" {shlex.quote(str(folder) + '.of-others')}" if remedy is OWN else ""
        return f"{error}, and jobs run what lies there; {remedy} {shlex.quote(str(folder))}{target}"
    except OSError:  # it is missing, or cannot be looked at
        pass
    return ""


@contextmanager
def private_folder(folder: Path) -> Iterator[Path]:
    """Make the folder, or close an own one to others; yield a path that stays its own, whoever renames its parents.

    Raises:
        UserError: it belongs to another, others can write in it, or the filesystem does not keep owners and modes.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if wrong := problem(folder):
        raise UserError(wrong)
    here = opened(folder)
    try:
        here.chmod(0o700)
        yield here
    finally:
        os.close(int(here.name))


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 atomically."""
    replace(path, partial(_write, content))


def _write(content: bytes, path: Path) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(content)


def write_private_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder of their own; one that is there already must hold just these, byte for byte.

    Raises:
        Untrusted: it holds something else, or others could write it.
    """
    if not os.path.lexists(folder):
        make_folder(folder, partial(_fill, files))
    if read_folder(folder) != files:
        raise Untrusted(f"{folder} does not hold what would be sent")


def _fill(files: dict[str, bytes], folder: Path) -> None:
    folder.chmod(0o700)
    for name, content in files.items():
        for parent in reversed((folder / name).relative_to(folder).parents[:-1]):
            with suppress(FileExistsError):
                (folder / parent).mkdir(mode=0o700)
        _write(content, folder / name)


def remember(options: SubmitOptions, store: Store) -> None:
    """Write what a retry takes over from this submission.

    Raises:
        UserError: as `private_folder`.
    """
    with private_folder(own_folder(store)) as here:
        write_private(here / options.FILE, json.dumps(options.content).encode())


def remembered(store: Store) -> SubmitOptions:
    """Return what this user's last submission left for a retry.

    Raises:
        UserError: others could have written it: a profile has commands, and theirs are not taken.
    """
    path = own_folder(store) / SubmitOptions.FILE
    if wrong := problem(path.parent):
        raise UserError(wrong)
    try:
        check_own(path)
    except Untrusted as error:
        rest = "a retry takes no profile from it; say --profile and --data after: rm"
        raise UserError(f"{error}; {rest} {shlex.quote(str(path))}") from None
    except OSError:  # it is missing
        return SubmitOptions()
    return SubmitOptions.read(path.parent) or SubmitOptions()
