"""Grids, scales, presets and clusters' profiles by their names: one's own come first, then those of the package.

One's own lie in `grids/`, `grids/scales/`, `grids/presets/` and `clusters/`, or where a path says; the package has the
same folders in `harness/shipped`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from harness.errors import UserError, closest, nearest
from harness.files import is_file
from harness.plain_text import check_name, is_name

SHIPPED = Path(__file__).parents[1] / "shipped"
GRIDS, SCALES, PRESETS, PROFILES = Path("grids"), Path("grids/scales"), Path("grids/presets"), Path("clusters")
_with_shipped = ContextVar("with_shipped", default=True)


@contextmanager
def without_shipped() -> Iterator[None]:
    """Find nothing in the package: what somebody else's study is made of must come with it."""
    token = _with_shipped.set(False)
    try:
        yield
    finally:
        _with_shipped.reset(token)


def shipped_allowed() -> bool:
    """Tell whether files of the package, and those that others extend, may be read."""
    return _with_shipped.get()


def files_by_name(own: Path, beside: Path | None = None) -> dict[str, Path]:
    """Return the YAML files of a kind by their names; of one name, that in `beside` counts, then one's own.

    own: the folder of the kind, of the constants above; beside: the folder where to look first.
    """
    shipped = SHIPPED / own
    folders = [own, *([beside] if beside and beside != shipped else [])]
    if shipped_allowed():
        folders = [shipped, *folders]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml")) if is_name(path.stem)}


def named_file(own: Path, name: str, words: str, message: str, beside: Path | None = None) -> Path:
    """Return the YAML file of a name; own, beside: as `files_by_name`; words: the option or key that wants it.

    Raises:
        UserError: it is no name, or there is no such file: the message, and the nearest name.
    """
    check_name(words, name)
    files = files_by_name(own, beside)
    if name not in files:
        raise UserError(f"{message}{nearest(name, files)}")
    return files[name]


def find_grid(word: Path) -> Path:
    """Return the grid file that a path or a name means: what the path leads to, `grids/NAME.yaml`, the package's.

    Raises:
        UserError: there is none, and which may be meant.
    """
    files = files_by_name(GRIDS)
    if is_file(word) or (word.exists() and str(word) not in files):
        return word
    if str(word) in files:
        return files[str(word)]
    beside = {path.stem: path for path in sorted(word.parent.glob("*.yaml"))}
    spelt = {name: grid_word(path) for name, path in (files | beside).items()}
    near = closest(word.stem, spelt)
    meant = f"; did you mean '{spelt[near]}'?" if near else nearest(str(word), spelt.values())
    raise UserError(f"{word}: no such grid file{meant}")


def grid_word(path: Path) -> str:
    """Return what means a grid file: of the package's the name, else the path from where one stands."""
    return path.stem if path.parent == SHIPPED / GRIDS else Path(os.path.relpath(path)).as_posix()


def recorded_grid(word: str) -> Path:
    """Return the grid file that a study has recorded by `grid_word`; it need not be there."""
    path = Path(word)
    if is_name(word) and not is_file(path) and shipped_allowed():
        return SHIPPED / GRIDS / f"{word}.yaml"
    return path
