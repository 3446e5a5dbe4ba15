"""A YAML file that remembers its lines, and errors that point into it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from harness.errors import UserError, closest, nearest
from harness.files import YAML_LOADER

Keys = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


# Where the words of pydantic are Python's rather than YAML's.
EXPECTED = {
    "model_type": "keys and values are expected",
    "dict_type": "keys and values are expected",
    "tuple_type": "a list is expected",
    "too_short": "at least one is needed",
}


class Leaf(NamedTuple):
    """One setting as somebody wrote it: the value, and where it stands ("grids/table2.yaml:12" or "--set")."""

    value: Any
    where: str


Layer = dict[str, Leaf]  # dotted key → leaf


@dataclass(frozen=True)
class Document:
    """The content of a YAML file and the line of each of its keys."""

    path: Path
    content: Any
    lines: dict[Keys, int]

    def where(self, *keys: str | int) -> str:
        """Return "file:line" of a key, or of the nearest key above it that has a line."""
        while keys not in self.lines and keys:
            keys = keys[:-1]
        return f"{self.path}:{self.lines.get(keys, 1)}"

    def layer(self, settings: Mapping[str, Any], *keys: str, prefix: str = "") -> Layer:
        """Turn settings, nested below a key, into {"regularizer.tau": Leaf}; dotted keys may be mixed with nesting.

        Raises:
            UserError: a setting is said twice.
        """
        layer: Layer = {}
        for key, value in settings.items():
            below, name = (*keys, str(key)), f"{prefix}{key}"
            nested = isinstance(value, Mapping)
            leaves = self.layer(value, *below, prefix=f"{name}.") if nested else {name: Leaf(value, self.where(*below))}
            for twice in leaves.keys() & layer.keys():
                raise UserError(f"{leaves[twice].where}: '{twice}' is said twice, also at {layer[twice].where}")
            layer |= leaves
        return layer


def named_file(folder: Path, name: str, message: str) -> Path:
    """Return the YAML file of a name in a folder.

    Raises:
        UserError: there is none: the message, and the nearest name.
    """
    names = [path.stem for path in folder.glob("*.yaml")]
    if name not in names:
        raise UserError(f"{message}{nearest(name, names)}")
    return folder / f"{name}.yaml"


def read_validated(model: type[M], path: Path) -> tuple[M, Document]:
    """Read a YAML file and validate it.

    Raises:
        UserError: as `read_document` and `validate`.
    """
    document = read_document(path)
    return validate(model, document.content, document.where), document


def read_document(path: Path) -> Document:
    """Read a YAML file safely.

    Raises:
        UserError: the file is missing, is not YAML, says a key twice, or has an alias that contains itself.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        names = [other.name for other in path.parent.glob(f"*{path.suffix}")]
        near = nearest(path.name, names) if isinstance(error, FileNotFoundError) else ""
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}{near}") from None
    try:
        node = yaml.compose(text, YAML_LOADER)
        content = {} if node is None else YAML_LOADER("").construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise UserError(f"{path}:{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    lines: dict[Keys, int] = {}
    if node is not None:
        _collect_lines(lines, node, (), path)
    if not isinstance(content, dict):
        raise UserError(f"{path}:1: a mapping of keys to values is expected, found {type(content).__name__}")
    return Document(path, content, lines)


def _collect_lines(lines: dict[Keys, int], node: yaml.Node, keys: Keys, path: Path, *above: yaml.Node) -> None:
    lines.setdefault(keys, node.start_mark.line + 1)
    if node in above:
        raise UserError(f"{path}:{lines[keys]}: {dotted(keys)}: this alias contains itself")
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _collect_lines(lines, item, (*keys, index), path, *above, node)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*keys, key.value)
            if inner in lines:
                raise UserError(f"{path}:{key.start_mark.line + 1}: {dotted(inner)}: this key is said twice")
            lines[inner] = key.start_mark.line + 1
            _collect_lines(lines, value, inner, path, *above, node)


def nest(leaves: Layer) -> dict[str, Any]:
    """Turn flat settings back into nested mappings.

    Raises:
        UserError: one key is given both a value and keys below it.
    """
    content: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = name.split(".")
        inner = content
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise UserError(f"{leaf.where}: '{name}' lies below '{parent}', which has a value of its own")
        if isinstance(inner.get(last), dict):
            raise UserError(f"{leaf.where}: '{name}' needs keys below it, found {leaf.value!r}")
        inner[last] = leaf.value
    return content


def parse_overrides(overrides: Sequence[str]) -> Layer:
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


def validate(model: type[M], content: Any, where: Callable[..., str]) -> M:
    """Validate nested settings; each mistake becomes one line, which begins with where it was written.

    Raises:
        UserError: one line for each mistake, with the nearest legal word.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [f"{where(*e['loc'])}: {dotted(e['loc'])}: {_message(model, e)}" for e in _mistakes(model, error)]
    raise UserError("\n".join(dict.fromkeys(lines)))


def validate_layers(model: type[M], leaves: Layer, fallback: str) -> M:
    """Validate merged settings; `fallback` is where a mistake lies that no setting stands behind.

    Raises:
        UserError: as `validate`.
    """
    return validate(model, nest(leaves), lambda *keys: where_written(dotted(keys), leaves, fallback))


def where_written(name: str, leaves: Layer, fallback: str) -> str:
    """Return where a setting was written, or the first below it, or the nearest above it."""
    below = [leaf for key, leaf in leaves.items() if key.startswith(f"{name}.")]
    above = [leaves[key] for key in accumulate(name.split("."), "{}.{}".format) if key in leaves]
    return next((leaf.where for leaf in (*below, *reversed(above))), fallback)


def dotted(loc: Keys) -> str:
    """Return a key as people write it after --set: "regularizer.tau"."""
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


def _message(model: type[BaseModel], error: Any) -> str:
    kind, loc, value = error["type"], error["loc"], error["input"]
    if kind == "extra_forbidden":
        return f"unknown key '{loc[-1]}'{nearest(str(loc[-1]), legal_keys(model, loc[:-1]))}"
    if kind == "missing":
        return "this key is needed and nothing sets it"
    if kind == "literal_error":
        legal = [word.strip(" '") for word in error["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return f"'{value}' is not legal{nearest(str(value), legal)}"
    return f"{EXPECTED.get(kind) or error['msg'].removeprefix('Value error, ')}, found {value!r}"


def legal_keys(model: Any, loc: Keys) -> list[str]:
    """Return the keys that are legal at a location inside a model."""
    for part in loc:
        model = _annotations(model).get(part, model)
        model = next((inner for inner in (model, *get_args(model)) if hasattr(inner, "model_fields")), model)
    return list(_annotations(model))


def _annotations(model: Any) -> dict[Any, Any]:
    return {field.alias or name: field.annotation for name, field in getattr(model, "model_fields", {}).items()}
