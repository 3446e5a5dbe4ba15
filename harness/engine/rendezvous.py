"""Where the processes of several nodes meet: at a port of the leading one's host, which a shared file tells the others.

The file alone would do, and where a host cannot be reached it does; but through it every process asks for what every
other has written, and each question is a lock on a network's filesystem.
"""

import platform
import socket
from datetime import timedelta

import torch.distributed as dist

from harness.process_group import ProcessPlace

TO_COME = timedelta(minutes=30)  # for all processes of a job to start
TO_REACH = timedelta(seconds=60)  # for a host that is there
REACHED, NOT_REACHED = "reached", "not reached"


def meet_over_network(place: ProcessPlace, host: str = "") -> dist.Store:
    """Return the store that all processes of `place` share; all must call this.

    host: by what name the leading process's is to be reached; by default its own.

    Raises:
        RuntimeError, OSError: another process did not come, or the file cannot be written.
    """
    files = dist.FileStore(place.init_method.removeprefix("file://"), place.world_size)
    files.set_timeout(TO_COME)
    network = _listen(place, host or platform.node(), files) if place.rank == 0 else _reach(place, files)
    files.set(f"{place.rank}", REACHED if network else NOT_REACHED)
    # What one cannot reach, none uses.
    everywhere = all(files.get(f"{rank}").decode() == REACHED for rank in range(place.world_size))
    return network if network and everywhere else dist.PrefixStore("file", files)


def _listen(place: ProcessPlace, host: str, files: dist.Store) -> dist.Store | None:
    """Listen at a free port and say where; None, which is said too, where this machine cannot."""
    try:
        socket.gethostbyname(host)  # for torch would try for the whole of the timeout
        store = dist.TCPStore(host, 0, place.world_size, is_master=True, timeout=TO_COME, wait_for_workers=False)
    except (dist.DistError, OSError):
        store = None
    files.set("address", f"{host} {store.port if store else 0}")
    return store


def _reach(place: ProcessPlace, files: dist.Store) -> dist.Store | None:
    """Connect to where the leading process listens; None where that fails."""
    host, port = files.get("address").decode().split()
    try:
        socket.create_connection((host, int(port)), TO_REACH.total_seconds()).close()
        return dist.TCPStore(host, int(port), place.world_size, is_master=False, timeout=TO_COME)
    except (dist.DistError, OSError):
        return None
