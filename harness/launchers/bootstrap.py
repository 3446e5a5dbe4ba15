"""Starts what a job runs, once that is what was sent: this text is a part of the sbatch file, which SLURM keeps.

It runs before anything that lies in a shared folder, so it imports the standard library alone. The folder is opened
once, and all else through its handle: who may rename the folder cannot put another in its place between check and use.
"""

import hashlib
import os
import pwd
import stat
import sys
from pathlib import Path
from pkgutil import resolve_name

REFUSED = "refused, and nothing of it was run:"


class Untrusted(Exception):
    """A file or folder that is not this user's alone to write, or not what was sent."""


def check_own(path: Path, status: os.stat_result | None = None) -> bool:
    """Return whether it is a file, and not a folder.

    Raises:
        Untrusted: it is not this user's alone to write, or a link.
    """
    status = status or path.lstat()
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        raise Untrusted(f"{path} is a link, or no file")
    if status.st_uid != os.geteuid():
        raise Untrusted(f"{path} belongs to {user_name(status.st_uid)}")
    if status.st_mode & 0o022:
        raise Untrusted(f"{path} can be written by others (mode {status.st_mode & 0o777:o})")
    return stat.S_ISREG(status.st_mode)


def user_name(uid: int) -> str:
    """Return the name of a user, or the number where it has none here."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder, by their names in it.

    Raises:
        Untrusted: as `check_own`, of any of them.
    """
    check_own(folder)
    paths = [path for path in folder.rglob("*") if check_own(path)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def digest(files: dict[str, bytes]) -> str:
    """Return the sha256 of files, by their names and bytes."""
    total = hashlib.sha256()
    for name in sorted(files):
        encoded = os.fsencode(name)
        total.update(b"%d:%s%d:" % (len(encoded), encoded, len(files[name])) + files[name])
    return total.hexdigest()


def opened(folder: Path) -> Path:
    """Return a path that stays that of this very folder, whatever its name comes to mean.

    Raises:
        Untrusted: as `check_own`.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    check_own(folder, os.fstat(handle))
    return Path(f"/proc/{os.getpid()}/fd/{handle}")  # by its number, for processes that this one starts


def check_and_start(module: str, folder: Path, code: str, code_sha256: str, tasks: str, tasks_sha256: str) -> None:
    """Start a module of the code that was sent, with the tasks that were sent.

    Raises:
        Untrusted: either is another, or not this user's alone to write.
    """
    here = opened(folder)
    if digest(read_folder(here / code)) != code_sha256:
        raise Untrusted(f"{folder}/{code} is not the code that was sent")
    check_own(here / tasks)
    content = (here / tasks).read_bytes()
    if hashlib.sha256(content).hexdigest() != tasks_sha256:
        raise Untrusted(f"{folder}/{tasks} is not what was sent")
    sys.path.insert(0, str(here / code))
    resolve_name(f"{module}:start")(content, here)


if __name__ == "__main__":
    try:
        check_and_start(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
    except (Untrusted, OSError) as error:
        sys.exit(f"{REFUSED} {error}")
