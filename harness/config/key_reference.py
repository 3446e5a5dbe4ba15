"""Every key of a grid file, a scale file and a run's settings, read off the models that check them."""

import json
import re
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Any, NamedTuple

from harness.config.cluster_profile import SlurmProfile
from harness.config.grid_file import GridFile, Scale
from harness.config.kinds.process_kinds import PROCESSES
from harness.config.settings.data_settings import FolderData
from harness.config.settings.run_settings import Settings
from harness.config.settings.term_settings import TERMS
from harness.config.settings.values import Frozen

MODELS: dict[str, type[Frozen]] = {
    "A grid file: one table": GridFile,
    "A scale file: what the paper's words cost here": Scale,
    "Settings: of `base`, an axis's label, a scale, a family, or `--set`": Settings,
    "A folder of pictures as the data set: `data` with `name: folder`": FolderData,
    "A cluster's profile, clusters/*.yaml": SlurmProfile,
}
KINDS = dict(integer="a whole number", number="a number", string="text", boolean="true, false", null="nothing")
# Behind a validator of ours pydantic writes its own names of the limits, and elsewhere JSON schema's.
SIGNS = dict(ge="≥", minimum="≥", gt=">", exclusiveMinimum=">", le="≤", maximum="≤", lt="<", exclusiveMaximum="<")

Schema = dict[str, Any]  # JSON schema of a model or a field, as pydantic makes it


class Key(NamedTuple):
    """A key of a file: its dotted name, what may stand there, its default ("" where it must be said) and meaning."""

    name: str
    legal: str
    default: str
    meaning: str


def keys(model: type[Frozen]) -> list[Key]:
    """Return every key of a model, nested ones in their parent's place; those of resources with the settings only."""
    schema = model.model_json_schema()
    rows = list(_keys(schema, schema.get("$defs", {}), ""))
    return rows if model is Settings else [key for key in rows if not key.name.startswith("resources.")]


def term_keys(names: Iterable[str] = TERMS) -> dict[str, list[Key]]:
    """Return the keys of further terms of the loss, kind by kind; by default those of plug-ins that are here too."""
    kinds = {kind: TERMS[kind].Settings for kind in names}
    rows = {f"The term {kind}, under a name of one's own": keys(model) for kind, model in kinds.items() if model}
    return {title: [key._replace(name=f"terms.NAME.{key.name}") for key in found] for title, found in rows.items()}


def process_keys() -> dict[str, list[Key]]:
    """Return the keys of the processes of plug-ins that are here, family by family."""
    models = {family: PROCESSES[family].Settings for family in PROCESSES}
    rows = {f"The family {family}": keys(model) for family, model in models.items() if model}
    return {title: [key._replace(name=f"process.{key.name}") for key in found] for title, found in rows.items()}


def markdown() -> str:
    """Return the page of documentation that lists all keys."""
    from jinja2 import Template  # here alone: who lists keys on a terminal does not wait for it

    template = Template(files(__package__).joinpath("grid_format.md.j2").read_text(encoding="utf-8"), trim_blocks=True)
    return template.render(sections={title: keys(model) for title, model in MODELS.items()} | term_keys(TERMS.built_in))


def _keys(schema: Schema, groups: dict[str, Schema], prefix: str) -> Iterator[Key]:
    for name, field in schema["properties"].items():
        path = f"{prefix}{name}"
        group = re.search(r"#/\$defs/(\w+)", json.dumps(field))  # of keys, that the field is or holds
        several = not any("$ref" in option for option in (field, *field.get("anyOf", ())))
        if several or not group:
            default = "" if name in schema.get("required", ()) else _shown(field["default"])
            yield Key(path, _legal(field), default, field.get("description", ""))
        if group:
            yield from _keys(groups[group[1]], groups, f"{path}[]." if several else f"{path}.")


def _legal(field: Any) -> str:
    """Say what may stand in a field, from its schema and the limits in it."""
    match field:
        case {"enum": values}:
            return ", ".join(map(str, values))
        case {"const": value}:
            return str(value)
        case {"anyOf": options}:
            return " or ".join(map(_legal, options))
        case {"items": inner}:
            return f"a list, each {_legal(inner)}"
        case {"additionalProperties": inner}:
            return f"a mapping to {_legal(inner)}"
        case {"$ref": _}:
            return "keys below"
        case {"type": kind}:
            return KINDS[kind] + " and".join(f" {sign} {field[key]:g}" for key, sign in SIGNS.items() if key in field)
    return "settings"


def _shown(default: Any) -> str:
    if default in (None, "", [], {}):
        return "nothing"
    if isinstance(default, float):
        return f"{default:g}"
    return default if isinstance(default, str) else json.dumps(default)
