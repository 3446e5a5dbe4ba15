"""Tells somebody of a study, as `notify:` of a profile says: never for long, and no run fails by it."""

import json
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from harness.config.site_options import Event, Notify
from harness.errors import UserError, one_line
from harness.files import place
from harness.jobs.job import Job
from harness.store.records import Failure
from harness.store.status import training_statuses
from harness.store.store import Store
from harness.store.study import study_tables

PATIENCE = 20.0  # seconds for a command, and for each step of a connection
LONGEST = 4000  # bytes of the file of an address


def tell(notify: Notify | None, event: Event, study: str, text: str) -> None:
    """Tell of an event by command and webhook; what hinders that is printed."""
    if notify is None or event not in notify.on:
        return
    words = {"event": event, "study": study, "text": text}
    if notify.command:
        _try(event, partial(_run, notify.command, words))
    if notify.webhook:
        _try(event, partial(_post, notify.webhook, words))


def tell_failures(notify: Notify | None, jobs: Sequence[Job], since: float) -> None:
    """Tell of those that have failed since a time."""
    for job in jobs if notify else ():
        failure = Failure.peek(job.folder)
        if failure and (failure.time or 0) >= since:
            words = f"{job.store.study}: training {job.train_id} failed: {failure.kind}: {failure.message}"
            tell(notify, "failure", job.store.study, words)


def tell_end(notify: Notify | None, store: Store, report: str = "") -> str:
    """Tell how a study stands by its files, now that no job of it is left, and return that in words, with `report`."""
    trainings = training_statuses(study_tables(store), store)
    left = [training for training in trainings if training.state != "done"]
    failed = [training for training in left if training.state in ("failed", "diverged")]
    words = f"{store.study}: {len(trainings) - len(left)} of {len(trainings)} trainings are done"
    words += f", {len(failed)} failed; harness status {store.study} tells why" if left else ""
    text = "; ".join(filter(None, (words, report)))
    tell(notify, "end" if left else "completion", store.study, text)
    return text


def _try(event: Event, send: Callable[[], None]) -> None:
    try:
        send()
    except (OSError, ValueError, HTTPException, UserError, subprocess.SubprocessError) as error:
        # Of a failed command its words are not shown, for they may hold a secret.
        reason = type(error).__name__ if isinstance(error, subprocess.SubprocessError) else one_line(error)
        print(f"notify: nobody was told of {event}: {reason}", file=sys.stderr, flush=True)


def _run(command: tuple[str, ...], words: dict[str, str]) -> None:
    """Run a program, without a shell.

    Raises:
        OSError, SubprocessError: it cannot be started, fails, or takes too long.
    """
    command = tuple(_filled(word, words) for word in command)
    program = str(place(command[0], "notify.command:")) if command[0].startswith("~") else command[0]
    subprocess.run(
        [program, *command[1:]], input=words["text"], text=True, timeout=PATIENCE, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _filled(word: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        word = word.replace(f"{{{name}}}", value)
    return word


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none: the next address may not be https, nor the user's choice."""


def _post(path: str, words: dict[str, str]) -> None:
    """Send JSON to the address in a file.

    Raises:
        ValueError: the file is not the user's alone, or holds no https address.
        OSError: the file or the address cannot be reached, or does not answer with 2xx.
    """
    address = _address(place(path, "notify.webhook:"))
    headers = {"Content-Type": "application/json", "User-Agent": "harness"}
    request = urllib.request.Request(address, json.dumps(words).encode(), headers)  # noqa: S310 - https, by `_address`
    try:
        urllib.request.build_opener(_NoRedirect).open(request, timeout=PATIENCE).close()
    except urllib.error.HTTPError as error:  # whose words may hold the address
        raise OSError(f"the webhook answers {error.code}") from None


def _address(path: Path) -> str:
    """Return the address in a file.

    Raises:
        ValueError: others can read it, or it holds none.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ValueError(f"{path} can be read by others: chmod 600 {path}")
        address = file.read(LONGEST).decode().strip()
    if not address.startswith("https://") or len(address.split()) != 1:
        raise ValueError(f"{path}: one address that begins with https:// is expected")
    return address
