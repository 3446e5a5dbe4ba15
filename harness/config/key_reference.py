"""Every key of a grid file, a scale file and a run's settings, read off the models that check them."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from harness.config.cluster_profile import SlurmProfile
from harness.config.grid_file import GridFile, Scale
from harness.config.setting_types import Frozen
from harness.config.settings import Settings

MODELS: dict[str, type[Frozen]] = {"grid": GridFile, "scale": Scale, "settings": Settings, "cluster": SlurmProfile}
TITLES = {
    "grid": "A grid file: one table",
    "scale": "A scale file: what the paper's words cost here",
    "cluster": "A cluster's profile, clusters/*.yaml",
    "settings": "Settings: of `base`, an axis's label, a scale, a family, or `--set`",
}
HEADINGS = "| key | legal | default | meaning |\n|---|---|---|---|"
INTRODUCTION = """\
# The grid format

Made by `make docs` from the models that check the files. A key of several parts, `regularizer.tau`, is
nested in a file and written with dots after `--set`. Settings come in layers, each over the one before: preset, table
(`base`), scale (`settings`), the scale's family (`families`), row (a label of an axis), command line. A misspelt key, a
wrong type or a value out of range is refused with file and line before anything runs. A cluster's profile may
also say `resources`, beneath all other layers.
"""
KINDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", bool: "true, false",
                         type(None): "nothing", Any: "settings"}  # fmt: skip
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


@dataclass(frozen=True)
class Key:
    """A key of a file: its dotted name, what may stand there, its default ("" where it must be said) and meaning."""

    name: str
    legal: str
    default: str
    meaning: str


def keys(model: type[Frozen]) -> list[Key]:
    """Return every key of a model, nested ones in their parent's place; those of resources with the settings only."""
    found = list(_walk(model, ""))
    return found if model is Settings else [key for key in found if not key.name.startswith("resources.")]


def markdown() -> str:
    """Return the page of documentation that lists all keys."""
    sections = [f"## {TITLES[name]}\n\n{HEADINGS}\n" + "".join(map(_row, keys(MODELS[name]))) for name in MODELS]
    return "\n".join([INTRODUCTION, *sections])


def _walk(model: type[Frozen], prefix: str) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        group, several = _group(field.annotation)
        if not group or several:
            default = "" if field.is_required() else _shown(field.default)
            yield Key(path, _legal(field.annotation, field.metadata), default, field.description or "")
        if group:
            yield from _walk(group, f"{path}[]." if several else f"{path}.")


def _group(kind: Any) -> tuple[type[Frozen] | None, bool]:
    """Return the group of keys that a field is or is made of, and whether it holds several."""
    if isinstance(kind, type) and issubclass(kind, Frozen):
        return kind, False
    for inner in get_args(kind):
        group, several = _group(inner)
        if group:
            return group, several or get_origin(kind) in (tuple, dict)
    return None, False


def _legal(kind: Any, metadata: Iterable[Any] = ()) -> str:
    """Say what may stand in a field, from its type and the limits beside it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _legal(inner[0], itertools.chain.from_iterable(getattr(m, "metadata", [m]) for m in inner[1:]))
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_legal(option) for option in inner))
    if origin is tuple:
        return f"a list, each {_legal(inner[0])}"
    if origin is dict:
        return f"a mapping to {_legal(inner[1])}"
    if _group(kind)[0]:
        return "keys below"
    return KINDS[kind] + _limits(metadata)


def _limits(metadata: Iterable[Any]) -> str:
    found = [(word, getattr(m, word)) for m in metadata for word in SIGNS if getattr(m, word, None) is not None]
    return " and".join(f" {SIGNS[word]} {limit:g}" for word, limit in found)


def _shown(default: Any) -> str:
    if default is None or default in ((), {}, ""):
        return "nothing"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return str(list(default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _row(key: Key) -> str:
    default = f"`{key.default}`" if key.default not in ("", "nothing") else key.default or "**needed**"
    cells = [f"`{key.name}`", key.legal, default, key.meaning]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
