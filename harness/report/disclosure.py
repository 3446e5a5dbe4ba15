"""What the files of a study tell of those who made them, and the same files without it.

Host names, names of users, absolute paths, uncommitted changes and tracebacks may be packed when that is said; secrets
never.
"""

import getpass
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from harness.credentials import secrets_in
from harness.errors import UserError
from harness.store.records import Environment, Failure

PATH = re.compile(r"(?<![\w.:/~+-])(?:/[\w.+@~-]+){2,}/?|~[\w.-]*/[\w.+@~/-]+")
HOME = re.compile(r"(?:/(?:home|Users|usr/home|scratch|work|data|gpfs|lustre)/(?:users?/)?|~)([A-Za-z_][\w.-]{2,31})")
COMMON = {"root", "user", "users", "home", "data", "shared", "public", "vm", "localhost", "anonymous", "project"}
NAMES, PATHS, HOSTS, CHANGES, TRACEBACKS = (
    "names of users", "absolute paths", "names of hosts", "uncommitted changes", "tracebacks",
)  # fmt: skip
LEFT_OUT = {"host": "", "slurm": None, "slurm_job_id": None, "diff": None, "traceback": ""}
OF_THE_NUMBERS = ("spec", "metrics", "train_id", "eval_id")  # what was run and what came out: nobody's name


def check_secrets(name: str, source: Path, content: bytes) -> None:
    """Refuse a file that holds what looks like a secret.

    Raises:
        UserError: its file, line and kind; never the secret.
    """
    if name.endswith(".png"):
        return
    # What JSON holds in one line of its own may be several of a text, such as a .netrc's.
    text = content.decode(errors="replace").replace('\\"', '"').replace("\\n", "\v")
    for number, kind in secrets_in(text):
        advice = "take it out there; --anonymous leaves tracebacks and changes out, and keeps messages"
        raise UserError(f"{source}:{number}: looks like {kind}, and was not packed; {advice}")


def gives_away(name: str, content: bytes) -> Iterator[tuple[str, str]]:
    """Yield what a file tells of its makers: the kind, and the words."""
    if name.endswith(".png"):
        return
    if name.endswith(".patch"):
        yield CHANGES, Path(name).name
    text = content.decode(errors="replace")
    yield from ((PATHS, match[0]) for match in PATH.finditer(text))
    yield from ((NAMES, user) for user in _users(text))
    stored = from_json(content) if name.endswith((Environment.FILE, Failure.FILE)) and _is_json(content) else {}
    yield from ((HOSTS, host) for host in _hosts(stored))
    if isinstance(stored, dict) and stored.get("traceback"):
        yield TRACEBACKS, name


def summary(found: Iterable[tuple[str, str]]) -> list[str]:
    """Return in a line for each kind what is given away, with examples."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for kind, words in found:
        kinds[kind].add(words)
    return [f"{kind}: {len(words):,}, such as {', '.join(sorted(words)[:3])}" for kind, words in sorted(kinds.items())]


def names_of(told: Iterable[tuple[str, str]]) -> re.Pattern[str]:
    """Return what finds the names of users and hosts that files tell of; those that are common words are no names."""
    found = {words for kind, words in told if kind in (NAMES, HOSTS)}
    names = sorted((word for word in found if len(word) > 2 and word.lower() not in COMMON), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names)) or '(?!)'})(?!\w)")


def anonymous(name: str, content: bytes, named: re.Pattern[str]) -> bytes:
    """Return a file without what tells of its makers; named: as `names_of`. Uncommitted changes are to be left out.

    Raises:
        UserError: a grid, scale or preset tells of them, which cannot be changed without changing what was run.
    """
    if name.endswith(".png"):
        return content
    text = content.decode(errors="replace")
    if name.endswith(".yaml") or "/grids/" in name:
        for number, line in enumerate(text.split("\n"), 1):
            if PATH.search(line) or named.search(line):
                advice = "without that another thing would have been run; take it out of the file, and run again"
                raise UserError(f"{name}:{number}: --anonymous: tells a path, a host or a user: {advice}")
        return content
    if name.endswith(".json") and _is_json(content):
        return (json.dumps(_without(from_json(content), named), indent=1, ensure_ascii=False) + "\n").encode()
    return named.sub("[name]", PATH.sub("[path]", text)).encode()


def _without(value: Any, named: re.Pattern[str]) -> Any:
    """Return JSON without the fields that tell of its makers, and without their names in others."""
    if isinstance(value, str):
        return named.sub("[name]", PATH.sub("[path]", value))
    if isinstance(value, list):
        return [_without(item, named) for item in value]
    if isinstance(value, dict):
        return {
            key: LEFT_OUT[key] if key in LEFT_OUT else item if key in OF_THE_NUMBERS else _without(item, named)
            for key, item in value.items()
        }
    return value


def _users(text: str) -> set[str]:
    """Return the names of users: of homes, and of who packs."""
    names = {match[1] for match in HOME.finditer(text)}
    try:
        me = getpass.getuser()
    except (KeyError, OSError):
        me = ""
    if len(me) > 2 and re.search(rf"(?<!\w){re.escape(me)}(?!\w)", text):
        names.add(me)
    return {name for name in names if name.lower() not in COMMON}


def _hosts(stored: Any) -> Iterator[str]:
    """Yield the hosts of attempts."""
    attempts = stored.get("attempts") if isinstance(stored, dict) else None
    for attempt in attempts if isinstance(attempts, list) else ():
        host = attempt.get("host") if isinstance(attempt, dict) else None
        if isinstance(host, str) and host:
            yield host
        slurm = attempt.get("slurm") if isinstance(attempt, dict) else None
        nodes = slurm.get("nodes") if isinstance(slurm, dict) else None
        if isinstance(nodes, str) and nodes:
            yield nodes


def _is_json(content: bytes) -> bool:
    try:
        from_json(content)
    except ValueError:
        return False
    return True
