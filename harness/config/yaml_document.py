"""A YAML file that remembers its lines, and errors that point into it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from harness.errors import UserError, closest, nearest

Keys = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

# libyaml's parser, where PyYAML was built with it, is ten times as fast and reads the same documents.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Where the words of pydantic are Python's rather than YAML's.
EXPECTED = {
    "model_type": "keys and values are expected",
    "dict_type": "keys and values are expected",
    "tuple_type": "a list is expected",
    "too_short": "at least one is needed",
}


@dataclass(frozen=True)
class Leaf:
    """One setting as somebody wrote it: the value, and where it stands ("grids/table2.yaml:12" or "--set")."""

    value: Any
    where: str


@dataclass(frozen=True)
class Document:
    """The content of a YAML file and the line of each of its keys."""

    path: Path
    content: Any
    lines: dict[Keys, int]

    def where(self, keys: Keys = ()) -> str:
        """Return "file:line" of a key, or of the nearest key above it that has a line."""
        while keys not in self.lines and keys:
            keys = keys[:-1]
        return f"{self.path}:{self.lines.get(keys, 1)}"


def read_document(path: Path) -> Document:
    """Read a YAML file safely.

    Raises:
        UserError: the file is missing, is not YAML, says a key twice, or has an alias that contains itself.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}{_near(path)}") from None
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        content = {} if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise UserError(f"{path}:{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    finally:
        loader.dispose()
    lines: dict[Keys, int] = {}
    if node is not None:
        _collect_lines(node, (), lines, path, ())
    if not isinstance(content, dict):
        raise UserError(f"{path}:1: a mapping of keys to values is expected, found {type(content).__name__}")
    return Document(path, content, lines)


def _near(path: Path) -> str:
    if path.exists() or not path.parent.is_dir():
        return ""
    return nearest(path.name, [p.name for p in path.parent.glob(f"*{path.suffix}")])


def _collect_lines(
    node: yaml.Node, keys: Keys, lines: dict[Keys, int], path: Path, above: tuple[yaml.Node, ...]
) -> None:
    if any(node is outer for outer in above):
        raise UserError(f"{path}:{node.start_mark.line + 1}: {_dotted(keys)}: this alias contains itself")
    lines.setdefault(keys, node.start_mark.line + 1)
    inside = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _collect_lines(item, (*keys, index), lines, path, inside)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*keys, key.value)
            if inner in lines:
                raise UserError(f"{path}:{key.start_mark.line + 1}: {_dotted(inner)}: this key is said twice")
            lines[inner] = key.start_mark.line + 1
            _collect_lines(value, inner, lines, path, inside)


def flatten(content: Mapping[str, Any], document: Document, keys: Keys = (), prefix: str = "") -> dict[str, Leaf]:
    """Turn nested settings into {"regularizer.tau": Leaf}; dotted keys may be mixed with nesting."""
    leaves: dict[str, Leaf] = {}
    for key, value in content.items():
        inner, name = (*keys, str(key)), f"{prefix}{key}"
        found = (
            flatten(value, document, inner, f"{name}.")
            if isinstance(value, Mapping)
            else {name: Leaf(value, document.where(inner))}
        )
        for dotted, leaf in found.items():
            if dotted in leaves:
                raise UserError(f"{leaf.where}: '{dotted}' is said twice, also at {leaves[dotted].where}")
            leaves[dotted] = leaf
    return leaves


def nest(leaves: Mapping[str, Leaf]) -> dict[str, Any]:
    """Turn flat settings back into nested mappings.

    Raises:
        UserError: one key is given both a value and keys below it.
    """
    content: dict[str, Any] = {}
    for dotted, leaf in leaves.items():
        *parents, last = _parts(dotted)
        inner = content
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise UserError(f"{leaf.where}: '{dotted}' lies below '{parent}', which has a value of its own")
        if isinstance(inner.get(last), dict):
            raise UserError(f"{leaf.where}: '{dotted}' needs keys below it, found {leaf.value!r}")
        inner[last] = leaf.value
    return content


@cache
def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(dotted.split("."))


def parse_overrides(overrides: Sequence[str]) -> dict[str, Leaf]:
    """Parse `--set key=value` words; the value is YAML.

    Raises:
        UserError: a word without "=", or a value that is not YAML.
    """
    leaves = {}
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {word}: expected key=value, for example --set regularizer.tau=1.0")
        try:
            leaves[key.strip()] = Leaf(yaml.safe_load(text), f"--set {word}")
        except yaml.YAMLError:
            raise UserError(f"--set {word}: the value is not YAML") from None
    return leaves


def validate(model: type[M], leaves: Mapping[str, Leaf], fallback: str) -> M:
    """Validate flat settings; each mistake becomes one line that says where it was written.

    Raises:
        UserError: one line for each mistake, with the nearest legal word.
    """
    try:
        return model.model_validate(nest(leaves))
    except ValidationError as error:
        mistakes = _mistakes(model, error)
        lines = [_sentence(model, e, where_written(_dotted(e["loc"]), leaves, fallback)) for e in mistakes]
    raise UserError("\n".join(dict.fromkeys(lines)))


def validate_document(model: type[M], document: Document) -> M:
    """Validate a whole file against its model.

    Raises:
        UserError: as `validate`.
    """
    try:
        return model.model_validate(document.content)
    except ValidationError as error:
        lines = [_sentence(model, e, document.where(tuple(e["loc"]))) for e in _mistakes(model, error)]
    raise UserError("\n".join(dict.fromkeys(lines)))


def where_written(dotted: str, leaves: Mapping[str, Leaf], fallback: str) -> str:
    """Return where a setting was written, or the first below it, or the nearest above it."""
    below = next((leaf.where for name, leaf in leaves.items() if name.startswith(f"{dotted}.")), None)
    if below:
        return below
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        leaf = leaves.get(".".join(parts[:length]))
        if leaf:
            return leaf.where
    return fallback


def _dotted(loc: Keys) -> str:
    return ".".join(str(part) for part in loc if part != "[key]")


def _mistakes(model: type[BaseModel], error: ValidationError) -> list[Any]:
    """Return one error for each mistake.

    pydantic also finds a list too short when an item of it is wrong, and a key missing when it is misspelt.
    """
    errors: list[Any] = list(error.errors())
    unknown = [e["loc"] for e in errors if e["type"] == "extra_forbidden"]
    meant = [(*loc[:-1], closest(str(loc[-1]), legal_keys(model, loc[:-1]))) for loc in unknown]
    around = {e["loc"][:length] for e in errors for length in range(len(e["loc"]))}
    return [e for e in errors if e["loc"] not in around and not (e["type"] == "missing" and e["loc"] in meant)]


def _sentence(model: type[BaseModel], error: Any, where: str) -> str:
    loc, found, key = error["loc"], error["input"], f"{where}: {_dotted(error['loc'])}"
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key '{loc[-1]}'{nearest(str(loc[-1]), legal_keys(model, loc[:-1]))}"
    if error["type"] == "missing":
        return f"{key}: this key is needed and nothing sets it"
    if error["type"] == "literal_error":
        legal = [word.strip(" '") for word in error["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return f"{key}: '{found}' is not legal{nearest(str(found), legal)}"
    expected = EXPECTED.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    return f"{key}: {expected}, found {found!r}"


def legal_keys(model: Any, loc: Keys) -> list[str]:
    """Return the keys that are legal at a location inside a model."""
    for part in loc:
        fields = getattr(model, "model_fields", {})
        names = {(field.alias or name): field.annotation for name, field in fields.items()}
        if isinstance(part, str) and part in names:
            model = names[part]
        candidates = [model, *get_args(model)]
        model = next((c for c in candidates if hasattr(c, "model_fields")), model)
    return [field.alias or name for name, field in getattr(model, "model_fields", {}).items()]
