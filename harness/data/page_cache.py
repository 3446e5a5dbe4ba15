"""Memory maps whose files are read in advance, once and in order.

Batches read rows at random, and each that is not in memory yet is a page fault: on a network's filesystem a millisecond
or more, for the first epochs. Read in order, the same bytes come at the filesystem's full speed.
"""

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

BLOCK = 1 << 24  # bytes read at once
CGROUPS = Path("/sys/fs/cgroup")
Open = Callable[[Path], io.RawIOBase]


def _open(path: Path) -> io.RawIOBase:
    return path.open("rb", buffering=0)


@contextmanager
def pre_reading(paths: Sequence[Path], share: float = 0.0, open_file: Open = _open) -> Iterator[threading.Thread]:
    """Read files in a thread, as far as memory holds them, while something else is done; the end of that stops it.

    share: of all bytes, at which to begin; what lies before is read last. So the processes of a node read each another
    part first, and find the others' in memory. Nobody is told of a file that cannot be read: its map will say so.
    """
    stopped = threading.Event()
    thread = threading.Thread(target=_read, args=(paths, share, open_file, stopped), daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        stopped.set()
        thread.join()


def _read(paths: Sequence[Path], share: float, open_file: Open, stopped: threading.Event) -> None:
    buffer, most = bytearray(BLOCK), free_memory() // BLOCK
    with suppress(OSError), ExitStack() as opened:
        files = [opened.enter_context(open_file(path)) for path in paths]
        sizes = [file.seek(0, io.SEEK_END) for file in files]
        blocks = [(file, at) for file, size in zip(files, sizes, strict=True) for at in range(0, size, BLOCK)]
        first = int(share * len(blocks))
        for file, at in (blocks[first:] + blocks[:first])[:most]:
            if stopped.is_set():
                return
            file.seek(at)
            file.readinto(buffer)


def free_memory() -> int:
    """Return how many bytes the system can give, the files in its cache among them, or where less this process's
    control groups."""
    meminfo = Path("/proc/meminfo").read_text()
    available = next(int(line.split()[1]) << 10 for line in meminfo.splitlines() if line.startswith("MemAvailable:"))
    return min([available, *_group_limits()])


def own_group() -> Path:
    """Return the folder of this process's control group (version 2), whether it is there or not."""
    return CGROUPS / Path("/proc/self/cgroup").read_text().rpartition("::/")[2].strip()


def _group_limits() -> Iterator[int]:
    """Yield the limits of this process's control group, and of those around it, where there are any."""
    for folder in (own_group(), *own_group().parents):
        with suppress(OSError, ValueError):  # ValueError: "max", no limit
            yield int((folder / "memory.max").read_text())
