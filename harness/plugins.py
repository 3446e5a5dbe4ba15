"""What other people add: each room has a registry, name → entry, of what is built in and of what plug-ins bring.

A plug-in is a package that is installed, found by its entry points in the groups `harness.terms`, `harness.datasets` …,
or a Python file that a grid or `--plugin` names, with a dictionary for each group: `TERMS = {"mine": Mine}`. What a
package brings is imported when it is asked for. An origin says which code that is, and is part of a run's identity: the
name and version of the package, or the hash of the file. No file is executed that nobody named.
"""

import hashlib
import importlib.metadata
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any, Generic, TypeVar

from harness.errors import UserError, nearest, one_line, user_error
from harness.files import read_file
from harness.plain_text import is_name

E = TypeVar("E")
GROUPS = (
    "terms", "processes", "samplers", "datasets", "features", "metrics", "sections", "autoencoders", "launchers",
)  # fmt: skip
MEASURING = tuple(group for group in GROUPS if group != "terms")  # what a network that is trained still needs
LARGEST = 1 << 20  # bytes of a file
DIGITS = 16  # of a file's sha256, in its origin


@dataclass(frozen=True)
class Source:
    """Where an entry comes from, and what loads it."""

    origin: str
    load: Callable[[], Any]


@dataclass(frozen=True)
class PluginFile:
    """A file that was executed: what it brings, group by group, and the bytes that were."""

    path: Path
    content: bytes
    entries: Mapping[str, Mapping[str, Any]]

    @property
    def origin(self) -> str:
        """What of it enters identities: neither its name nor its place."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()[:DIGITS]}"


_FILES: dict[Path, PluginFile] = {}  # of this process, by their places


def load_file(path: Path, where: str) -> None:
    """Execute a plug-in's file, once in a process. where: the option or key that names it.

    Raises:
        UserError: it cannot be read or executed, or brings nothing that can be used.
    """
    path = path.absolute()  # through a handle of the folder, where a job has one: not resolved
    if path in _FILES:
        return
    with user_error(f"{where}: {path}: cannot be read", "a Python file is expected", OSError):
        content = read_file(path, LARGEST)
    # A plug-in is code of who names it.
    module = ModuleType(f"harness_plugin_{path.stem}_{hashlib.sha256(content).hexdigest()[:8]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where pydantic and pickle look for its classes
    try:
        exec(compile(content, path, "exec"), module.__dict__)  # noqa: S102
    except Exception as error:
        raise UserError(f"{where}: {_line_of(error, path)}: {type(error).__name__}: {one_line(error)}") from None
    _FILES[path] = PluginFile(path, content, _entries(module, path, where))


def _line_of(error: Exception, path: Path) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    return f"{path}:{line}" if line else str(path)


def _entries(module: ModuleType, path: Path, where: str) -> dict[str, dict[str, Any]]:
    """Return what a module brings.

    Raises:
        UserError: nothing, or not under names.
    """
    entries = {group: getattr(module, group.upper()) for group in GROUPS if hasattr(module, group.upper())}
    legal = ", ".join(group.upper() for group in GROUPS)
    if not entries:
        raise UserError(f"{where}: {path}: brings nothing; a plug-in has one of the dictionaries {legal}")
    for group, named in entries.items():
        if not isinstance(named, dict) or not all(isinstance(name, str) and is_name(name) for name in named):
            raise UserError(f"{where}: {path}: {group.upper()} is no dictionary of names")
    return entries


def files() -> tuple[PluginFile, ...]:
    """Return the files that this process has loaded."""
    return tuple(_FILES.values())


def _added(group: str) -> dict[str, Source]:
    """Return what plug-ins bring to a group; of a name that two bring, a source that refuses."""
    sources = defaultdict(list)
    for file in _FILES.values():
        for name, entry in file.entries.get(group, {}).items():
            sources[name].append(Source(file.origin, partial(_same, entry)))
    for name, source in _installed(group):
        sources[name].append(source)
    return {name: found[0] if len(found) == 1 else _ambiguous(group, name, found) for name, found in sources.items()}


@cache
def _installed(group: str) -> list[tuple[str, Source]]:
    return [(point.name, Source(_distribution(point), partial(_loaded, point))) for point in _points(group)]


def _same(entry: Any) -> Any:
    return entry


def _distribution(point: importlib.metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "no package"


def _loaded(point: importlib.metadata.EntryPoint) -> Any:
    with user_error(f"plug-in {point.name} of {_distribution(point)}: {point.value} cannot be imported"):
        return point.load()


def _ambiguous(group: str, name: str, found: Iterable[Source]) -> Source:
    def refuse() -> Any:
        raise UserError(f"harness.{group}: two plug-ins bring '{name}': {origins}; leave one of them out")

    origins = " and ".join(sorted(source.origin for source in found))
    return Source(origins, refuse)


class Registry(Generic[E]):
    """The entries of a group, by their names. What is built in may be "module:name", imported when it is asked for."""

    def __init__(self, group: str, what: str, built_in: Mapping[str, E | str]) -> None:
        """what: an entry in words, "data set"."""
        assert group in GROUPS, group
        self.group, self.what, self.built_in = group, what, dict(built_in)

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in _added(self.group)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self.built_in, *_added(self.group))))

    def __getitem__(self, name: str) -> E:
        """Return an entry.

        Raises:
            UserError: there is none of this name, two plug-ins bring it, or it cannot be imported.
        """
        if name in self.built_in:
            if any(name in file.entries.get(self.group, {}) for file in _FILES.values()):
                raise UserError(f"plug-in: the {self.what} '{name}' is built in; choose another name")
            entry = self.built_in[name]
            return resolve_name(entry) if isinstance(entry, str) else entry
        source = _added(self.group).get(name)
        if source is None:
            raise UserError(f"no {self.what} '{name}'{nearest(name, self)}")
        return source.load()

    def origin(self, name: str) -> str | None:
        """Return which code a plug-in's entry is; None of what is built in, and of what there is not."""
        return None if name in self.built_in else origin(self.group, name)


def added(group: str) -> list[str]:
    """Return the names that plug-ins bring to a group."""
    return list(_added(group))


def origin(group: str, name: str) -> str | None:
    """Return which code of a plug-in a name means here; None where no plug-in brings it."""
    source = _added(group).get(name)
    return source.origin if source else None


def packages(origins: Iterable[str] | None) -> dict[str, Path]:
    """Return the installed packages that bring what a run is made of, by name: the folder of their sources, or the one
    file. origins: as a spec has them."""
    keys = [words.partition(" ")[0].partition("/") for words in origins or () if " sha256:" not in words]
    return installed({_package(p) for group, _, name in keys for p in _points(group) if p.name == name})


def _points(group: str) -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group=f"harness.{group}")


def _package(point: importlib.metadata.EntryPoint) -> str:
    return point.module.partition(".")[0]


def installed(names: Collection[str]) -> dict[str, Path]:
    """Return the folders, or files, of the sources of packages; without what is not here, or is no plug-in's."""
    ours = {_package(point) for group in GROUPS for point in _points(group)} if names else set()
    found = {name: find_spec(name) for name in sorted(ours & set(names))}
    paths = {name: Path(spec.origin) for name, spec in found.items() if spec and spec.origin}
    return {name: path.parent if path.name == "__init__.py" else path for name, path in paths.items()}


def check(origins: Iterable[str] | None, groups: Iterable[str] = GROUPS) -> None:
    """Refuse to work with other plug-ins than a run was made of. origins: as a spec has them, "terms/mine ORIGIN".

    Raises:
        UserError: one of these groups is missing here, or another version.
    """
    for key, _, then in (words.partition(" ") for words in origins or ()):
        group, _, name = key.partition("/")
        now = origin(group, name)
        if group in groups and now != then:
            here = f"here it is {now}" if now else "it is not here"
            advice = "name its file by --plugin" if then.startswith("sha256:") else "install that version"
            raise UserError(f"plug-in {key}: the run is of {then}, and {here}; {advice}, or run the grid again")
