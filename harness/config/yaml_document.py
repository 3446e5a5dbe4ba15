"""A YAML file that remembers its lines, and errors that point into it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from harness.config.core_yaml import DEEPEST, LARGEST, Keys, Refusal, dotted, parse_yaml, write_yaml
from harness.config.named_files import SHIPPED, files_by_name, shipped_allowed
from harness.errors import UserError, closest, nearest
from harness.files import is_file, is_same, place, read_file
from harness.plain_text import check_text, cut, escape_controls, is_name, shown

M = TypeVar("M", bound=BaseModel)

# Where the words of pydantic are Python's rather than YAML's.
EXPECTED = {
    "model_type": "keys and values are expected",
    "dict_type": "keys and values are expected",
    "tuple_type": "a list is expected",
    "too_short": "at least one is needed",
    "string_type": "text is expected",
}


class Leaf(NamedTuple):
    """One setting as somebody wrote it: the value, and where it stands ("grids/table2.yaml:12" or "--set")."""

    value: Any
    where: str


Layer = dict[str, Leaf]  # dotted key → leaf

EXTENDS = "extends"
NOT_INHERITED = (EXTENDS, "scale")  # of a file that is extended: what is its own
VALUE_OR_KEYS = ("regularizer.tau",)  # settings that are a value, or have keys below
# How many keys lead to settings, where regularizer.tau is what tau in regularizer is.
SETTINGS_BELOW = {"base": 1, "settings": 1, "families": 2, "axes": 3, "resources": 1}


@dataclass(frozen=True)
class Document:
    """The content of a YAML file and the line of each of its keys."""

    path: Path
    content: Any
    lines: dict[Keys, int]
    extended: "Document | None" = None  # by this one, whose content has that of both

    def where(self, *keys: str | int) -> str:
        """Return "file:line" of a key, or of the nearest key above it that has a line."""
        spelt = keys[:-1] + tuple(str(keys[-1]).split(".")) if keys else keys  # as nested keys, if it is a dotted one
        document: Document | None = self
        while document:
            if line := document.lines.get(keys) or document.lines.get(spelt):
                return f"{document.path}:{line}"
            document = document.extended if keys[:1] not in [(key,) for key in NOT_INHERITED] else None
        return self.where(*keys[:-1]) if keys else f"{self.path}:1"

    def layer(self, settings: Mapping[str, Any], *keys: str, prefix: str = "") -> Layer:
        """Turn settings, nested below a key, into {"regularizer.tau": Leaf}; dotted keys may be mixed with nesting.

        Raises:
            UserError: a setting is said twice, or has no keys below it and no value: {}.
        """
        layer: Layer = {}
        for key, value in settings.items():
            below, name = (*keys, str(key)), f"{prefix}{key}"
            if (nested := isinstance(value, Mapping)) and not value:
                raise UserError(f"{self.where(*below)}: {name}: {{}} says nothing; say a key below it, or leave it out")
            leaves = self.layer(value, *below, prefix=f"{name}.") if nested else {name: Leaf(value, self.where(*below))}
            for twice in leaves.keys() & layer.keys():
                raise UserError(f"{leaves[twice].where}: '{twice}' is said twice, also at {layer[twice].where}")
            layer |= leaves
        return layer


def read_validated(model: type[M], path: Path, own: Path) -> tuple[M, Document]:
    """Read a YAML file with those that it extends, and validate it; own: the folder of its kind.

    Raises:
        UserError: as `read_extended` and `validate`.
    """
    document = read_extended(path, own)
    return validate(model, document.content, document.where), document


def read_extended(path: Path, own: Path, *below: Path) -> Document:
    """Read a YAML file and what it extends: keys that it says itself count, also those within the other's mappings.

    own: the folder of its kind, as of `named_files`; below: the files that extend it.

    Raises:
        UserError: as `read_document`, it extends itself, or nothing has the name that it extends.
    """
    document = read_document(path)
    if EXTENDS not in document.content:
        return document
    where = f"{document.where(EXTENDS)}: {EXTENDS}"
    other = _extended_file(document.content[EXTENDS], where, path, own)
    if any(is_same(other, earlier) for earlier in (path, *below)):
        raise UserError(f"{where}: {other} extends this file, and none can extend itself; leave one of the two out")
    extended = read_extended(other, own, path, *below)
    content = _over(document, extended, document.content, _inherited(extended.content))
    return Document(path, content, document.lines, extended)


def _extended_file(word: Any, where: str, path: Path, own: Path) -> Path:
    """Return the file that a word means in the file `path`: a path from there, or a name, never its own."""
    if not isinstance(word, str) or not word:
        raise UserError(f"{where}: a name or a path is expected, found {shown(word)}")
    if not shipped_allowed():
        raise UserError(f"{where}: '{cut(word)}' is not in the bundle; 'harness bundle STUDY' writes each file whole")
    if not is_name(word) or word.endswith((".yaml", ".yml")):
        return path.parent / place(word, where)
    others = {name: file for name, file in files_by_name(own, path.parent).items() if not is_same(file, path)}
    shipped = SHIPPED / own / f"{word}.yaml"
    if word not in others and is_file(shipped) and not is_same(shipped, path):  # this file has its name
        return shipped
    if word not in others:
        raise UserError(f"{where}: nothing here is called '{word}'{nearest(word, others)}")
    return others[word]


def _inherited(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in NOT_INHERITED}


def _over(document: Document, extended: Document, over: Any, under: Any, *keys: str) -> Any:
    """Return what a file says at a key over what the one says that it extends; settings by their dotted names."""
    if not (isinstance(over, Mapping) and isinstance(under, Mapping)):
        return over
    if keys and SETTINGS_BELOW.get(keys[0]) == len(keys):
        layers = stacked(extended.layer(under, *keys), document.layer(over, *keys))
        return {name: leaf.value for name, leaf in layers.items()}
    spelt = {str(key): key for key in under}
    merged = dict(under)
    for key, value in over.items():
        name = spelt.get(str(key), key)
        merged[name] = _over(document, extended, value, under.get(name), *keys, str(key))
    return merged


def whole(document: Document) -> bytes:
    """Return a file as it is, or in the place of one that extends others what they say together."""
    if document.extended is None:
        return read_file(document.path, 4 * LARGEST)
    return write_yaml({key: value for key, value in document.content.items() if key != EXTENDS}).encode()


def read_document(path: Path) -> Document:
    """Read a YAML file safely: YAML 1.2's core schema, and within the limits of `core_yaml`.

    Raises:
        UserError: the file is missing, or as `core_yaml.parse_yaml`.
    """
    try:
        text = read_file(path, 4 * LARGEST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        names = [other.name for other in path.parent.glob(f"*{path.suffix}")]
        near = nearest(path.name, names) if isinstance(error, FileNotFoundError) else ""
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}{near}") from None
    try:
        content, lines = parse_yaml(text)
    except Refusal as refusal:
        raise UserError(f"{path}:{refusal.line}: {refusal}") from None
    if not isinstance(content, dict | None):
        raise UserError(f"{path}:1: a mapping of keys to values is expected, found {type(content).__name__}")
    return Document(path, content or {}, lines)


def stacked(*layers: Layer) -> Layer:
    """Return layers, each over the one before; a setting that may be a value or keys below is what was said last."""
    merged: Layer = {}
    for layer in layers:
        said = {setting_of(key) for key in layer}
        merged = {key: leaf for key, leaf in merged.items() if setting_of(key) not in said} | layer
    return merged


def setting_of(key: str) -> str:
    """Return the setting that a dotted key says: the key itself, or the one above it that may be a value as well."""
    return next((setting for setting in VALUE_OR_KEYS if key.startswith(f"{setting}.")), key)


def nest(leaves: Layer) -> dict[str, Any]:
    """Turn flat settings back into nested mappings.

    Raises:
        UserError: one key is given both a value and keys below it.
    """
    content: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = name.split(".")
        if len(parents) > DEEPEST:
            raise UserError(f"{leaf.where}: a key of {len(parents) + 1} words; no setting lies so deep")
        inner = content
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise UserError(f"{leaf.where}: '{name}' lies below '{parent}', which has a value of its own")
        if isinstance(inner.get(last), dict):
            raise UserError(f"{leaf.where}: '{name}' needs keys below it, found {shown(leaf.value)}")
        inner[last] = leaf.value
    return content


def parse_overrides(overrides: Sequence[str]) -> Layer:
    """Parse `--set key=value` words; the value is YAML, read as in a file.

    Raises:
        UserError: a word without "=", with control characters, or a value that `core_yaml.parse_yaml` refuses.
    """
    leaves = {}
    for word in overrides:
        try:
            check_text(word)
        except ValueError as error:
            raise UserError(f"--set {cut(escape_controls(word))}: {error}") from None
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {cut(word)}: expected key=value, for example --set regularizer.tau=1.0")
        try:
            leaves[key.strip()] = Leaf(parse_yaml(text, key.strip())[0], f"--set {cut(word)}")
        except Refusal as refusal:
            raise UserError(f"--set {cut(word)}: {refusal}") from None
    return leaves


def validate(model: type[M], content: Any, where: Callable[..., str]) -> M:
    """Validate nested settings; each mistake becomes one line, which begins with where it was written.

    Raises:
        UserError: one line for each mistake, with the nearest legal word.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [f"{where(*loc)}: {dotted(loc)}: {message}" for loc, message in mistakes(model, error)]
    raise UserError(*dict.fromkeys(lines))


def mistakes(model: type[BaseModel], error: ValidationError) -> list[tuple[Keys, str]]:
    """Return each mistake once: the keys that lead to it, and what is wrong there."""
    return [(e["loc"], _message(model, e)) for e in _mistakes(model, error)]


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
        return f"'{cut(str(value))}' is not legal{nearest(str(value), legal)}"
    expected = EXPECTED.get(kind) or error["msg"].removeprefix("Value error, ")
    if kind == "string_type" and isinstance(value, bool | None):
        expected += " in quotes"
    return f"{expected}, found {shown(value)}"


def legal_keys(model: Any, loc: Keys) -> list[str]:
    """Return the keys that are legal at a location inside a model."""
    for part in loc:
        model = _annotations(model).get(part, model)
        model = next((inner for inner in (model, *get_args(model)) if hasattr(inner, "model_fields")), model)
    return list(_annotations(model))


def _annotations(model: Any) -> dict[Any, Any]:
    return {field.alias or name: field.annotation for name, field in getattr(model, "model_fields", {}).items()}
