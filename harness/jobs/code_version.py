"""Which code made a number: a hash of the sources that training and measuring use, and in what two versions differ.

    results/<study>/code/<version>.json   `CodeRecord`: the sources of one version, and the commit they are of

It is no part of a run's identity: code may change and its numbers stay. Whether they do nobody knows, so numbers of two
versions are shown as such (`code` of a measurement's protocol). A version is known since this was recorded. The sources
of a plug-in's package are among those of the trainings that use it: it may be edited and keep its version.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness import plugins
from harness.store.records import LONGEST_NAME, Attempt, CodeRecord

PACKAGE = Path(__file__).parents[1]
USED = (
    "method", "engine", "networks", "data", "measure", "config/spec.py", "config/settings", "jobs/measuring.py",
)  # fmt: skip
PLUGIN = "plug-in "  # before the names of the sources of a plug-in's package
LENGTH = 12  # hexadecimal digits of a hash


@cache
def sources(package: Path = PACKAGE) -> dict[str, str]:
    """Return the hash of each source that numbers follow from, by its name in the package."""
    places = [package / name for name in USED]
    paths = [path for place in places for path in ([place] if place.is_file() else place.rglob("*"))]
    used = sorted(path for path in paths if path.suffix in (".py", ".yaml"))
    return {path.relative_to(package).as_posix(): _hash(path.read_bytes()) for path in used}


def all_sources(packages: Mapping[str, Path], package: Path = PACKAGE) -> dict[str, str]:
    """Return those of the harness, and of packages of plug-ins, by `PLUGIN` and their names."""
    files = dict(sources(package))
    for place in packages.values():
        paths = [place] if place.is_file() else sorted(place.rglob("*.py"))
        files |= {f"{PLUGIN}{path.relative_to(place.parent)}": _hash(path.read_bytes()) for path in paths}
    return files


def version(package: Path = PACKAGE, packages: Mapping[str, Path] = MappingProxyType({})) -> str:
    """Return the hash of all of them."""
    files = all_sources(packages, package)
    return _hash("\n".join(f"{name} {digest}" for name, digest in files.items()).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:LENGTH]


def remember(root: Path, origin: dict[str, Any], packages: Mapping[str, Path] = MappingProxyType({})) -> None:
    """Write down the version that works on a study, once; origin: the commit and whether it was changed."""
    place = root / CodeRecord.FOLDER / f"{version(packages=packages)}.json"
    if not place.is_file():
        CodeRecord(files=all_sources(packages), commit=origin["commit"], dirty=origin["dirty"]).write(place)


def of_attempts(attempts: Iterable[Attempt]) -> str:
    """Return the version or versions of some attempts as a protocol has them; "" where that of one is not known."""
    versions = list(dict.fromkeys(attempt.code for attempt in attempts))
    return "+".join(str(name) for name in versions)[:LONGEST_NAME] if versions and None not in versions else ""


def other_versions(root: Path) -> list[str]:
    """Say of each other version that worked on a study what of its sources differs from those that are here."""
    paths = sorted((root / CodeRecord.FOLDER).glob("*.json"))
    records = {path.stem: CodeRecord.peek(path) for path in paths if path.stem != version()}
    words = [_difference(name, record) for name, record in records.items() if record]
    return [difference for difference in words if difference]


def _difference(name: str, record: CodeRecord) -> str:
    """Say in what a version differs from what is here; "" where it is only that of a training with plug-ins."""
    named = {
        file.removeprefix(PLUGIN).partition("/")[0].removesuffix(".py")
        for file in record.files
        if file.startswith(PLUGIN)
    }
    here = all_sources(plugins.installed(named))
    files = [file for file in sorted(here.keys() | record.files.keys()) if here.get(file) != record.files.get(file)]
    if not files:
        return ""
    commit = f", commit {record.commit[:LENGTH]}" if record.commit else ""
    changed = " with uncommitted changes" if record.dirty else ""
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return f"{name}{commit}{changed}: {', '.join(files[:3])}{more}"
