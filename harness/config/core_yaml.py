"""YAML 1.2's core schema (https://yaml.org/spec/1.2.2, 10.3), within limits: from text to values and their lines.

PyYAML reads YAML 1.1, to which 12:00:00 is 43,200, 1_000 is 1000, 0b11 is 3, no is false, 2026-01-01 a date and 1e3
text. Here 1e3 is a number and all the others are text. So is 010, which is 8 to one version and 10 to the other. Merge
keys, <<, are of 1.1 alone and are read. What others wrote may be hostile: how large a document is, how deep, and how
large with its aliases written out, is known before any of it is built.
"""

import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, ClassVar, Self

import yaml

from harness.files import YAML_LOADER
from harness.plain_text import CONTROL, check_text, cut, escape_controls

Keys = tuple[str | int, ...]

LARGEST = 1 << 20  # characters of a document
DEEPEST = 32  # lists and mappings around a value
MOST_VALUES = 100_000  # keys, values and containers, with aliases written out
# Keys of prose, and of a profile's lines of shell.
SEVERAL_LINES = ("title", "report_title", "question", "note", "paper_text", "claims", "says", "setup")

TAG = "tag:yaml.org,2002:"
NULL = re.compile("~|null|Null|NULL|")
BOOLEAN = re.compile("true|True|TRUE|false|False|FALSE")
INTEGER = re.compile("[-+]?(0|[1-9][0-9]{0,30})|0o[0-7]{1,30}|0x[0-9a-fA-F]{1,30}")
FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
# Tag → how its text is spelt, and what is made of it.
SCALARS: dict[str, tuple[re.Pattern[str], Callable[[str], Any]]] = {
    f"{TAG}null": (NULL, lambda text: None),
    f"{TAG}bool": (BOOLEAN, lambda text: text.lower() == "true"),
    f"{TAG}int": (INTEGER, lambda text: int(text, 0)),
    f"{TAG}float": (FLOAT, lambda text: float(re.sub(r"\.(?=[in])", "", text.lower()))),
}
MERGE = (f"{TAG}merge", re.compile("<<"))


class Spelt:
    """A number whose text in the document is not what Python prints of it, 0.10 or 1e3: as text it stays as it was."""

    text: str

    def __new__(cls, value: Any, text: str = "") -> Self:
        """Make one of a number and of its text."""
        number = super().__new__(cls, value)  # type: ignore[call-arg]
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text


class SpeltInteger(Spelt, int):
    """Such a whole number."""


class SpeltFloat(Spelt, float):
    """Such a float."""


class CoreDumper(yaml.SafeDumper):
    """Writes what `parse_yaml` reads as the same: text in quotes, and numbers as they were spelt."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write what is there twice, twice."""
        return True


CoreDumper.add_representer(str, lambda dumper, text: dumper.represent_scalar(f"{TAG}str", text, '"'))
CoreDumper.add_representer(SpeltInteger, lambda dumper, number: dumper.represent_scalar(f"{TAG}int", number.text))
CoreDumper.add_representer(SpeltFloat, lambda dumper, number: dumper.represent_scalar(f"{TAG}float", number.text))


def write_yaml(content: Any) -> str:
    """Return a document of values as `parse_yaml` returns them."""
    return yaml.dump(content, Dumper=CoreDumper, sort_keys=False, allow_unicode=True, width=110)


class Refusal(Exception):
    """What is wrong with a document, and in which line of it."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


class CoreLoader(YAML_LOADER):  # type: ignore[misc, valid-type]
    """PyYAML's parser with the plain words of the core schema, and no others."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _tag, _pattern in (*((tag, spelt) for tag, (spelt, _) in SCALARS.items()), MERGE):
    CoreLoader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern.pattern})\Z"), None)


def parse_yaml(text: str, *above: str) -> tuple[Any, dict[Keys, int]]:
    """Return the value of a document, None of an empty one, and the line of each of its keys; above: before them all.

    Raises:
        Refusal: it is not YAML, has a tag beyond the core schema, exceeds a limit, says a key twice, has an alias that
            contains itself, or text with control characters.
    """
    _check_characters(text)
    try:
        _check_events(yaml.parse(text, CoreLoader))
        node = yaml.compose(text, CoreLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise Refusal(mark.line + 1 if mark else 1, f"not YAML: {problem}") from None
    document = _Document()
    return (None if node is None else document.value(node, above)), document.lines


def dotted(keys: Keys) -> str:
    """Return a key as people write it after --set: "regularizer.tau"."""
    return escape_controls(".".join(str(part) for part in keys if part != "[key]"))


def _check_characters(text: str) -> None:
    if len(text) > LARGEST:
        raise Refusal(1, f"{len(text):,} characters; a document has at most {LARGEST:,}")
    for match in CONTROL.finditer(text):
        if match[0] not in "\t\n\r":
            line = text.count("\n", 0, match.start()) + 1
            raise Refusal(line, f"holds the control character {escape_controls(match[0])}; leave it out")


def _check_events(events: Iterator[yaml.Event]) -> None:
    """Refuse what is too deep or too large before nodes are made: libyaml's composer dies of 3,000 brackets."""
    values, sizes, containers = 0, dict[str, int](), list[tuple[str | None, int]]()
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = containers.pop()
            sizes |= {anchor: values - before} if anchor else {}
        elif isinstance(event, yaml.NodeEvent):
            # An alias within its own anchor counts as one value; it is refused when it is read.
            values += sizes.get(event.anchor or "", 1) if isinstance(event, yaml.AliasEvent) else 1
            if isinstance(event, yaml.CollectionStartEvent):
                containers.append((event.anchor, values - 1))
            _check_limits(event, values, len(containers))


def _check_limits(event: yaml.Event, values: int, depth: int) -> None:
    line = event.start_mark.line + 1 if event.start_mark else 1
    if depth > DEEPEST:
        raise Refusal(line, f"lists and mappings are nested deeper than {DEEPEST}")
    if values > MOST_VALUES:
        raise Refusal(line, f"more than {MOST_VALUES:,} values, aliases written out")


class _Document:
    """The values of nodes, and the lines of their keys."""

    def __init__(self) -> None:
        self.lines: dict[Keys, int] = {}

    def value(self, node: yaml.Node, keys: Keys, *above: yaml.Node) -> Any:
        line = self.lines.setdefault(keys, node.start_mark.line + 1)
        if node in above:
            raise Refusal(line, f"{dotted(keys)}: this alias contains itself")
        if len(above) > DEEPEST:
            raise Refusal(line, f"lists and mappings are nested deeper than {DEEPEST}, aliases written out")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, keys)
        _check_tag(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, keys, *above)
        return [self.value(item, (*keys, index), *above, node) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, keys: Keys, *above: yaml.Node) -> dict[Any, Any]:
        content = {}
        for key, value in _pairs(node, keys, *above):
            inner = (*keys, key.value)
            self.lines[inner] = key.start_mark.line + 1
            content[_key(key, keys)] = self.value(value, inner, *above, node)
        return content


def _pairs(node: yaml.MappingNode, keys: Keys, *above: yaml.Node) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return the keys of a mapping with their values; its own come before those that it merges, earlier ones first.

    Raises:
        Refusal: a key that is written twice, whatever its spelling: 1 is 0x1, and 1.0, and as a label '1'.
    """
    own, texts = dict[str, Any](), set[str]()
    for key, value in node.value:
        name = _name(key, keys)
        if name in own or key.value in texts:
            raise Refusal(key.start_mark.line + 1, f"{dotted((*keys, key.value))}: this key is said twice")
        own[name] = (key, value)
        texts.add(key.value)
    merges = [own.pop(name) for name in list(own) if own[name][0].tag == MERGE[0]]
    brought = chain.from_iterable(_merged(key, value, keys, *above, node) for key, value in merges)
    merged = {_name(key, keys): (key, value) for key, value in brought}
    further = [pair for name, pair in merged.items() if name not in own and pair[0].value not in texts]
    return [*further, *own.values()]


def _merged(key: yaml.Node, value: yaml.Node, keys: Keys, *above: yaml.Node) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return what a merge key brings, of several mappings the last first, so that the first counts."""
    sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
    line = key.start_mark.line + 1
    if not all(isinstance(source, yaml.MappingNode) for source in sources):
        raise Refusal(line, f"{dotted(keys)}: << merges a mapping, or a list of mappings")
    if any(source in above for source in sources):
        raise Refusal(line, f"{dotted(keys)}: this alias contains itself")
    return list(chain.from_iterable(_pairs(source, keys, *above, source) for source in reversed(sources)))


def _name(node: yaml.Node, keys: Keys) -> str:
    """Return what tells a key from the others: to Python 1, 1.0 and true are one key."""
    key = _key(node, keys)
    number = isinstance(key, int | float)
    return repr(int(key) if number and float(key).is_integer() else float(key)) if number else str(key)


def _key(node: yaml.Node, keys: Keys) -> Any:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.ScalarNode):
        raise Refusal(line, f"{dotted(keys)}: a key is a word, not a list or a mapping")
    return node.value if node.tag == MERGE[0] else _scalar(node, (*keys, node.value), is_key=True)


def _scalar(node: yaml.ScalarNode, keys: Keys, is_key: bool = False) -> Any:
    words = [key for key in keys if isinstance(key, str)]
    keep = "\n\t" if not is_key and words and words[-1] in SEVERAL_LINES else ""
    try:
        check_text(node.value, keep)
    except ValueError as error:
        text = cut(escape_controls(node.value))
        raise Refusal(node.start_mark.line + 1, f"{dotted(keys)}: {error}: '{text}'") from None
    _check_tag(node)
    return _spelt(SCALARS[node.tag][1](node.value), node.value) if node.tag in SCALARS else node.value


def _spelt(value: Any, text: str) -> Any:
    """Return a value with its text, where it is a number that Python would print otherwise."""
    kind = {int: SpeltInteger, float: SpeltFloat}.get(type(value))
    return value if kind is None or str(value) == text else kind(value, text)


def _check_tag(node: yaml.Node) -> None:
    """Refuse an explicit tag beyond the core schema, and one whose value is not spelt so."""
    kind = {yaml.SequenceNode: "seq", yaml.MappingNode: "map", yaml.ScalarNode: "str"}[type(node)]
    spelt = kind == "str" and node.tag in SCALARS and SCALARS[node.tag][0].fullmatch(node.value)
    if node.tag not in (f"{TAG}{kind}", "!", MERGE[0]) and not spelt:
        tag = escape_controls(node.tag.replace(TAG, "!!"))
        raise Refusal(node.start_mark.line + 1, f"not YAML: {cut(tag)} here is none of the core schema's tags")
