"""What plug-ins bring to the runs of a grid: their settings made concrete, and which code they are.

Of a grid that is run, from the plug-ins that are here; what was found is recorded with the study. Of a stored study,
from that record alone: nothing is loaded, so that its report opens without the plug-ins, and is of the runs it has.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness import plugins
from harness.config.core_yaml import dotted
from harness.config.resolve import Added, SettingError, check_groups, resolve_blocks
from harness.config.settings import (
    OFF,
    OWN_KEYS,
    TERMS,
    Settings,
    TermKind,
    TermSettings,
    read_block,
    read_blocks,
)
from harness.config.spec import Origins, TermSpec, canonical
from harness.config.yaml_document import mistakes
from harness.errors import nearest

Written = Mapping[str, Any]  # the settings of a term as a grid has them


class PluginRecord(BaseModel):
    """What a study knows of its grid's plug-ins. terms: canonical JSON of what is written and of the network's depth →
    the term that this is. origins: "terms/mine" → which code that was. formulas: a term's kind → its LaTeX."""

    model_config = ConfigDict(frozen=True, extra="allow")

    origins: dict[str, str] = {}
    terms: dict[str, dict[str, Any]] = {}
    formulas: dict[str, str] = {}


class PluginParts:
    """The plug-ins of one grid. record: those of a stored study; None: those that this process finds."""

    def __init__(self, record: PluginRecord | None = None) -> None:
        self.stored = record
        self.record = record or PluginRecord(origins={}, terms={}, formulas={})  # these are added to

    def origins(self, *entries: tuple[str, str]) -> Origins:
        """Return which code entries of plug-ins are, each (group, name), as a spec has it."""
        for group, name in entries:
            if self.stored is None and (here := plugins.origin(group, name)):
                self.record.origins[f"{group}/{name}"] = here
        keys = sorted({f"{group}/{name}" for group, name in entries} & self.record.origins.keys())
        return tuple(f"{key} {self.record.origins[key]}" for key in keys)

    def added(self, settings: Settings, depth: int, steps: Callable[[int], int]) -> Added:
        """Return what plug-ins bring to a run. depth: blocks of the network. steps: of the paper's epochs.

        Raises:
            SettingError: an unknown kind of term, a setting that is not legal, or a stored study that has no such term.
        """
        on = {name: term for name, term in sorted(settings.terms.items()) if term.get("kind", OFF) != OFF}
        terms = tuple(self._term(name, term, depth, steps) for name, term in on.items())
        for term in terms:
            check_groups(f"terms.{term.name}.group", term.group or 1, settings)
        kinds = [("terms", term.kind) for term in terms if term.kind not in TERMS.built_in]
        return Added(terms, self.origins(*kinds))

    def _term(self, name: str, written: Written, depth: int, steps: Callable[[int], int]) -> TermSpec:
        if self.stored is None or written["kind"] in TERMS.built_in:
            return self._resolved(name, written, depth, steps)
        key = canonical({"name": name, "depth": depth, **written})
        if key not in self.stored.terms:
            raise SettingError(f"terms.{name}", "the study has no run of such a term; run the grid again")
        return TermSpec.model_validate(self.stored.terms[key])

    def _resolved(self, name: str, written: Written, depth: int, steps: Callable[[int], int]) -> TermSpec:
        kind, key = str(written["kind"]), f"terms.{name}.kind"
        if kind in OWN_KEYS:
            raise SettingError(key, f"'{kind}' has settings of its own, under {OWN_KEYS[kind]}")
        if kind not in TERMS:
            legal = nearest(kind, set(TERMS) - OWN_KEYS.keys())
            raise SettingError(key, f"no term '{kind}'{legal or '; name the file of a plug-in under plugins'}")
        term = resolve_term(TERMS[kind], name, written, depth, steps)
        if kind not in TERMS.built_in:
            key = canonical({"name": name, "depth": depth, **written})
            self.record.terms[key] = term.model_dump(mode="json", by_alias=True, exclude_none=True)
            self.record.formulas[kind] = str(getattr(TERMS[kind], "formula", ""))
        return term


def resolve_term(kind: TermKind, name: str, written: Written, depth: int, steps: Callable[[int], int]) -> TermSpec:
    """Turn what is written of a term into what runs: blocks by numbers, epochs in steps.

    It is validated in both forms: what is written points into the file, and a rule about blocks is about their numbers.

    Raises:
        SettingError: a key that is none or whose value is not legal, or no such block.
    """
    settings, key, changes = _validated(kind.Settings, written, f"terms.{name}"), f"terms.{name}", dict[str, Any]()
    for field, info in type(settings).model_fields.items():
        readers, words = {getattr(rule, "func", None) for rule in info.metadata}, getattr(settings, field)
        if words is not None and read_blocks in readers:
            changes[field] = resolve_blocks(words, depth, f"{key}.{field}")
        elif words is not None and read_block in readers:
            (changes[field],) = resolve_blocks(words, depth, f"{key}.{field}")
    if settings.stop:
        changes["stop"] = steps(settings.stop)
    final = _validated(kind.Settings, settings.model_dump() | changes, key)
    return TermSpec(name=name, **final.model_dump(mode="json", by_alias=True, exclude_none=True))


def _validated(model: type[TermSettings], content: Written, key: str) -> TermSettings:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        loc, message = mistakes(model, error)[0]
        written = not loc or loc[0] in content  # what is missing is told where the term is
        words = (".".join((key, *map(str, loc))), message) if written else (key, f"{dotted(loc)}: {message}")
        raise SettingError(*words) from None
