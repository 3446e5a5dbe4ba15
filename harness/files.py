"""Files that are never half written, and readers that never trip over one that is."""

import errno
import gc
import hashlib
import io
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from harness.errors import UserError, user_error
from harness.plain_text import escape_controls

if TYPE_CHECKING:
    from filelock import FileLock

M = TypeVar("M", bound=BaseModel)
# libyaml's parser, where PyYAML was built with it, is ten times as fast and reads the same documents.
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
TEMPORARY = ".writing-"
LARGEST_JSON = 8 << 20  # bytes; parsed they take fifty times as much at worst
LONGEST_LINE = 1 << 16  # characters of a log's; ours have 250
LARGEST_LOG = 32 << 20  # bytes: a line of 250 bytes every 100 steps for 13 million steps
# Seconds for a lock: after which is said what is waited for, and after which it is waited for no more.
LONG_WAIT, LONGEST_WAIT = 20.0, 6 * 3600.0
NOT_UTF8 = re.compile("[\ud800-\udfff]")  # as Python reads such a byte
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the collector of reference cycles while many objects are made that all stay, and need no looking at."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def write_json(path: Path, content: Any) -> None:
    """Write JSON to a temporary name beside the target and rename it, so that no reader ever sees half a file.

    A byte of a file's name that is not UTF-8 is written in words, \\udce9: no other reader would take it.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, NOT_UTF8.sub(lambda half: f"\\\\u{ord(half[0]):04x}", text).encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically; the folder is made when it is missing."""
    replace(path, lambda temporary: temporary.write_bytes(content))


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file under a temporary name beside `path`, bring it to the disk, and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` make a folder under a temporary name beside `folder`, and rename it, unless a rival was faster."""
    temporary = folder.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        fill(temporary)
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def place(words: str | Path, flag: str) -> Path:
    """Return the path that somebody's words name: the one place where `~` and `~user` become a home, which a shell does
    in `--json ~/x` and not in `--json=~/x`, in a variable or in a file. Nothing is looked for there.

    flag: the option, argument or variable that the words stand in.

    Raises:
        UserError: there are none, `~user` has no home, a variable has no value yet, or no record, page or job script
            could hold them.
    """
    shown = escape_controls(str(words))
    if not str(words).strip():
        raise UserError(f"{flag}: an empty name; leave it out, or say which")
    if shown != str(words):
        raise UserError(f"{flag} {shown}: control characters, or bytes that are not UTF-8, in a name; rename it")
    if meant := re.match(r"\$(\w+|\{\w+\})", shown):
        advice = f"write its value, or ~/ for your home; a name that begins with '$' is written ./{shown}"
        raise UserError(f"{flag} {shown}: no shell has put a value for {meant[0]}; {advice}")
    try:
        return Path(words).expanduser()
    except RuntimeError:
        raise UserError(f"{flag} {words}: no such user; a name that begins with '~' is written ./~name") from None


def check_writable(flag: str, folder: Path) -> None:
    """Refuse a folder that cannot be written, leaving nothing behind.

    Raises:
        UserError: naming the command-line flag that gave the folder.
    """
    with user_error(f"{flag} {folder}: cannot be written", kinds=OSError):
        existing = nearest_existing(folder)
        with user_error(f"{flag} {folder}: cannot write in {existing}", kinds=OSError):
            tempfile.TemporaryFile(dir=existing).close()


def share_with_group(*folders: Path) -> None:
    """Let all that this process writes from now on be its group's too, whatever the umask, where that is what all of
    some folders are for: they are setgid and the group's to write (chmod 2770). Elsewhere the umask stays."""
    shared = stat.S_ISGID | stat.S_IRWXG
    with suppress(OSError):  # who may not look there is told so later
        if all(nearest_existing(folder).stat().st_mode & shared == shared for folder in folders):
            os.umask(os.umask(0) & ~stat.S_IRWXG)


def as_umask(path: Path) -> None:
    """Give a file, of a library that closes what it writes, the mode of any new file beside it."""
    probe = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    with suppress(OSError), probe.open("xb") as file:  # not computed: a folder may have its own rule (ACL)
        probe.unlink()
        path.chmod(stat.S_IMODE(os.fstat(file.fileno()).st_mode))


def check_open(folder: Path, most: int = os.R_OK | os.W_OK) -> None:
    """Refuse a folder of which something is another's and closed to this user; what is missing is not looked for.

    most: what is to be done there: a finished cache need only be read.

    Raises:
        UserError: what it is, whose, and the command by which they mend it.
    """
    whole = most | os.X_OK
    needed = {parent: os.X_OK for parent in reversed(folder.absolute().parents) if os.path.lexists(parent)}
    needed |= {folder: whole} if os.path.lexists(folder) else {}
    for place, folders, names in os.walk(folder):
        needed |= {Path(place, name): whole for name in folders} | {Path(place, name): most for name in names}
    for path, access in needed.items():
        if not os.access(path, access, effective_ids=True):
            owner = _owner(path)
            mend = f"g+x {path}" if path in folder.absolute().parents else f"-R g+rwX {folder}"
            raise UserError(f"{path}: belongs to {owner} and is closed to you; {owner} mends it with: chmod {mend}")


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):
        return "another user"


def check_output(flag: str, path: Path) -> None:
    """Refuse the name of a file that cannot be written, or that is a folder or a device, leaving nothing behind.

    Raises:
        UserError: naming the command-line flag that gave the file.
    """
    with user_error(f"{flag} {path}: cannot be written", kinds=OSError):
        if path.is_dir():
            raise UserError(f"{flag} {path}: is a folder; the name of a file in it is expected")
        if path.exists() and not path.is_file():
            raise UserError(f"{flag} {path}: is a device or a pipe; the name of a file is expected")
    check_writable(flag, path.parent)


def check_no_links(folder: Path) -> None:
    """Refuse a folder to be written in that is a link, or that has a link below it to anything but a file.

    What is written there would land elsewhere, perhaps where somebody else wants it. A link to a file is replaced.

    Raises:
        UserError: naming the link and where it leads.
    """
    below = (Path(place, name) for place, *names in os.walk(folder) for name in (*names[0], *names[1]))
    for path in (folder, *below):
        if path.is_symlink() and not path.is_file():
            raise UserError(
                f"{path}: a link to {path.readlink()}, and a report is written into folders of its own; remove the "
                "link, or choose another folder with --reports"
            )


@contextmanager
def locked(path: Path, timeout: float | None = None) -> Iterator[None]:
    """Hold the lock of a file for this process; the system lets go of it when the process ends, however it does.

    timeout: seconds to wait for another process; None for as long as a long work may take, with a word on the standard
    error. Who is neither the owner nor of the file's group can hold no lock against us.

    Raises:
        filelock.Timeout: another process holds it.
        UserError: the filesystem has no such locks, or `timeout` is None and another process never lets go. A lock that
            its holder has to remove would stay when a node dies.
        OSError: the file cannot be written.
    """
    from filelock import FileLock

    lock = FileLock(path, mode=0o660, fallback_to_soft=False)
    try:
        if timeout is None:
            _wait_for(lock, path)
        else:
            lock.acquire(timeout=timeout, poll_interval=0.5)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise UserError(
            f"{path.parent}: its filesystem cannot lock files ({error.strerror}), and nothing would keep two jobs "
            "apart; mount it with flock (Lustre: -o flock), or name a folder of another filesystem (--scratch, --data)"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _wait_for(lock: "FileLock", path: Path) -> None:
    """Wait for a lock, with a word after a while and an end."""
    from filelock import Timeout

    with suppress(Timeout):
        lock.acquire(timeout=LONG_WAIT, poll_interval=0.5)
        return
    holder = f"'fuser -v {path}' on its node names it"
    print(f"{path}: another process has this lock, which is waited for; {holder}", file=sys.stderr, flush=True)
    try:
        lock.acquire(timeout=LONGEST_WAIT - LONG_WAIT, poll_interval=0.5)
    except Timeout:
        hours = f"{LONGEST_WAIT / 3600:g} hours"
        raise UserError(
            f"{path}: another process has had this lock for {hours}; {holder}: end it, and run again"
        ) from None


def nearest_existing(folder: Path) -> Path:
    """Return the folder itself, or what is there of the way to it."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


def sha256_of(*paths: Path) -> str:
    """Return the sha256 of plain files' bytes, one file after the other.

    Raises:
        UnfitFile, OSError: as `open_file`.
    """
    digest = hashlib.sha256()
    for path in paths:
        with open_file(path) as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed writer left under temporary names; only for a folder's one writer."""
    for path in folder.rglob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)


class UnfitFile(OSError):
    """What stands in a file's place is no plain file, or is larger than any of ours."""


def open_file(path: Path) -> io.BufferedReader:
    """Open a plain file for reading; never waits, as for who writes into a pipe.

    Raises:
        UnfitFile: it is a pipe, a device or a folder.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return io.BufferedReader(io.FileIO(descriptor))
    os.close(descriptor)
    kind = os.strerror(errno.EISDIR) if stat.S_ISDIR(mode) else "not a plain file"
    raise UnfitFile(errno.EINVAL, kind, str(path))


def is_file(path: Path) -> bool:
    """Tell whether there is a plain file; not where we may not even look."""
    with suppress(OSError):
        return path.is_file()
    return False


def is_same(one: Path, other: Path) -> bool:
    """Tell whether two paths lead to one file that is there."""
    return is_file(one) and is_file(other) and one.samefile(other)


def read_file(path: Path, most: int = LARGEST_JSON) -> bytes:
    """Return the bytes of a plain file that has at most so many.

    Raises:
        UnfitFile, OSError: as `open_file`; or it is larger.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size  # room for the largest costs more than reading a small one
        content = file.read(min(size, most) + 1)
    if len(content) > most:
        raise UnfitFile(errno.EFBIG, f"larger than {most >> 20} MiB", str(path))
    return content


def read_json(path: Path) -> Any:
    """Read a JSON file; None where it is missing or not JSON: also where it is nested deeper than 200, or too large."""
    try:
        return from_json(read_file(path))
    except (FileNotFoundError, NotADirectoryError, ValueError, UnfitFile):
        return None


def read_yaml(path: Path) -> Any:
    """Read a YAML file of the package's own: a table, or words."""
    return yaml.load(path.read_text(encoding="utf-8"), YAML_LOADER)  # noqa: S506


def read_model(path: Path, model: type[M], advice: str) -> M:
    """Read a JSON file against its pydantic model.

    Raises:
        UserError: it is missing, not JSON, or a key of it is wrong; the key, and the advice.
    """
    try:
        return model.model_validate_json(read_file(path))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except ValidationError as error:
        reason = first_mistake(error)
    raise UserError(f"{path}: {reason}; {advice}")


def first_mistake(error: ValidationError) -> str:
    """Return "key: what is wrong with it" of the first key that is wrong."""
    first = error.errors(include_input=False, include_url=False)[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))


def read_jsonl(path: Path, keys: Collection[str] = (), most: int | None = None) -> list[dict[str, Any]]:
    """Read a log by step: of a step that was done twice the last line counts, and a torn line is left out.

    keys: those to be kept, where not all are. most: lines that it may have.

    Raises:
        OSError: it is there and cannot be read; `UnfitFile` where it is no log, or has more lines.
    """
    try:
        content = read_file(path, LARGEST_LOG)
    except (FileNotFoundError, NotADirectoryError):
        return []
    if most is not None and content.count(b"\n") > most:
        raise UnfitFile(errno.EFBIG, f"more than {most:,} lines", str(path))
    return parse_log(content.decode(errors="replace"), keys)


def parse_log(text: str, keys: Collection[str] = ()) -> list[dict[str, Any]]:
    """Read the lines of a log, as `read_jsonl` does; no writer of ours leaves a list or mapping in one, or a line that
    is longer than `LONGEST_LINE`."""
    by_step = {}
    for line in text.split("\n"):
        entry = _entry(line)
        if isinstance(entry, dict) and type(entry.get("step")) is int:
            kept = [key for key in keys or entry if key in entry and type(entry[key]) not in (list, dict)]
            by_step[entry["step"]] = {key: entry[key] for key in kept}
    return [by_step[step] for step in sorted(by_step)]


def _entry(line: str) -> Any:
    """Return what a line of a log holds; None where it is torn."""
    try:
        return from_json(line) if len(line) <= LONGEST_LINE else None
    except ValueError:
        return None


def head(path: Path, size: int = 4000) -> str:
    """Return the first `size` bytes of a text file, whose last line may be cut; "" where it cannot be read."""
    with suppress(OSError), open_file(path) as file:
        return file.read(size).decode(errors="replace")
    return ""


def tail(path: Path, size: int = 4000) -> str:
    """Return the last `size` bytes of a text file, whose first line may be cut; "" where it cannot be read."""
    with suppress(OSError), open_file(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read().decode(errors="replace")
    return ""
