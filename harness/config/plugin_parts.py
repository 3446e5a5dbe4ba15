"""What the runs of a grid are made of beside the package: plug-ins, their settings made concrete and which code they
are, and folders of pictures.

Of a grid that is run, from the plug-ins that are here; what was found is recorded with the study. Of a stored study,
from that record alone: nothing is loaded, so that its report opens without the plug-ins, and is of the runs it has.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness import plugins
from harness.config.core_yaml import dotted
from harness.config.kinds.process_kinds import PROCESSES
from harness.config.kinds.sampler_kinds import SAMPLERS
from harness.config.resolve import Added, SettingError, check_groups, resolve_blocks
from harness.config.settings.data_settings import DATASETS, FEATURES, FolderData, FolderSettings
from harness.config.settings.run_settings import Settings
from harness.config.settings.term_settings import OFF, OWN_KEYS, TERMS, TermKind
from harness.config.settings.values import read_block, read_blocks
from harness.config.spec import Origins, TermSpec, canonical
from harness.config.yaml_document import Layer, Leaf, mistakes, validate_layers
from harness.errors import UserError, nearest
from harness.files import place
from harness.metric_definitions import METRICS, Definition, remember
from harness.picture_folder import data_name, read_folder

FOLDER = "folder"  # the name of a data set that is a folder of pictures
Written = Mapping[str, Any]  # the settings of a term as a grid has them
Entry = tuple[str, str]  # group and name
BUILT_IN = {
    "terms": tuple(TERMS.built_in), "processes": tuple(PROCESSES.built_in), "samplers": tuple(SAMPLERS.built_in),
    "datasets": DATASETS, "features": FEATURES,
}  # fmt: skip


class PluginRecord(BaseModel):
    """What a study knows of its grid's plug-ins. terms: canonical JSON of what is written and of the network's depth →
    the term that this is; processes: the same of a family and what is written of it. families: a plug-in's → the words
    on what it predicts. origins: "terms/mine" → which code that was. formulas: a term's kind → its LaTeX. pictures:
    canonical JSON of what is written of a folder → the settings `data` that it is."""

    model_config = ConfigDict(frozen=True, extra="allow")

    origins: dict[str, str] = {}
    terms: dict[str, dict[str, Any]] = {}
    formulas: dict[str, str] = {}
    processes: dict[str, dict[str, Any]] = {}
    families: dict[str, str] = {}
    metrics: dict[str, Definition] = {}
    pictures: dict[str, dict[str, Any]] = {}


class PluginParts:
    """The plug-ins of one grid. record: those of a stored study; None: those that this process finds."""

    def __init__(self, record: PluginRecord | None = None) -> None:
        self.stored = record
        self.record = record or PluginRecord(
            origins={}, terms={}, formulas={}, processes={}, families={}, metrics={}, pictures={}
        )  # added to
        for name, definition in self.record.metrics.items():
            remember(name, definition)

    def _origins(self, *entries: Entry) -> Origins:
        """Return which code entries of plug-ins are, as a spec has it; nothing of those that are built in."""
        entries = tuple(entry for entry in entries if entry[1] not in BUILT_IN.get(entry[0], ()))
        for group, name in entries:
            if self.stored is None and (here := plugins.origin(group, name)):
                self.record.origins[f"{group}/{name}"] = here
        keys = sorted({f"{group}/{name}" for group, name in entries} & self.record.origins.keys())
        return tuple(f"{key} {self.record.origins[key]}" for key in keys)

    @property
    def families(self) -> Container[str]:
        """The families of models that there are."""
        return PROCESSES if self.stored is None else {*PROCESSES.built_in, *self.stored.families}

    def added(self, settings: Settings, family: str, depth: int, steps: Callable[[int], int]) -> Added:
        """Return what plug-ins bring to a run. depth: blocks of the network. steps: of the paper's epochs.

        Raises:
            SettingError: an unknown kind of term, a setting that is not legal, or a stored study that has no such term.
        """
        on = {name: term for name, term in sorted(settings.terms.items()) if term.get("kind", OFF) != OFF}
        terms = tuple(self._term(name, term, depth, steps) for name, term in on.items())
        for term in terms:
            check_groups(f"terms.{term.name}.group", term.group or 1, settings)
            self._check_family(term, family, settings.model)
        data, kinds = ("datasets", settings.data.name), [("terms", term.kind) for term in terms]
        process, of_training = self._process(settings, family), self._origins(data, ("processes", family), *kinds)
        checked, measurement = self.stored is not None, self._measurement(settings, data)
        return Added(terms, process, self.families, checked, of_training, measurement)

    def _process(self, settings: Settings, family: str) -> dict[str, Any] | None:
        """Return the settings of a plug-in's process, all of them, checked by its model.

        Raises:
            SettingError: a key that is none or whose value is not legal.
        """
        written, key = settings.process, canonical({"family": family, **settings.process})
        if family not in PROCESSES.built_in and self.stored is not None:
            if key not in self.stored.processes:
                raise SettingError("process", "the study has no run of such a process; run the grid again")
            return self.stored.processes[key] or None
        kind = PROCESSES[family]
        if kind.Settings is None and written:
            raise SettingError(f"process.{next(iter(written))}", f"{family} has no settings under process")
        final = _validated(kind.Settings, written, "process").model_dump(mode="json") if kind.Settings else {}
        if family not in PROCESSES.built_in:
            self.record.processes[key], self.record.families[family] = final, kind.predicts
        return final or None

    def _check_family(self, term: TermSpec, family: str, model: str) -> None:
        """Refuse a term beside a process that it is not defined for; of a stored study's plug-ins nothing is known."""
        if self.stored is not None and term.kind not in TERMS.built_in:
            return
        families = TERMS[term.kind].Settings.families
        if families and family not in families:
            raise SettingError(
                f"terms.{term.name}.kind", f"'{term.kind}' is defined for {', '.join(families)}, not for {model}"
            )

    def _measurement(self, settings: Settings, data: Entry) -> Origins:
        """Return which code measures beside the package."""
        features, metrics = settings.evaluation.features, settings.evaluation.metrics or ()
        sampler = ("samplers", settings.sampler.method)
        if sampler[1] not in SAMPLERS.built_in and not self._origins(sampler):
            legal = nearest(sampler[1], SAMPLERS) if self.stored is None else ""
            raise SettingError("sampler.method", f"no sampler '{sampler[1]}'{legal}")
        if features not in FEATURES and not self._origins(("features", features)):
            legal = nearest(features, (*FEATURES, *plugins.added("features")))
            raise SettingError("evaluation.features", f"'{features}' is not legal{legal}")
        for name in metrics:
            if not self._origins(("metrics", name)):
                legal = nearest(name, plugins.added("metrics")) or "; no plug-in brings one"
                raise SettingError("evaluation.metrics", f"'{name}' is no metric of a plug-in{legal}")
            if self.stored is None:
                self.record.metrics[name] = METRICS[name].definition
                remember(name, METRICS[name].definition)
        return self._origins(data, sampler, ("features", features), *(("metrics", name) for name in metrics))

    def with_pictures(self, layers: Layer, fallback: str) -> Layer:
        """Return settings of which `data`, where it is a folder of pictures, is what was found in it.

        fallback: as in `validate_layers`.

        Raises:
            UserError: a wrong key, a folder that is no data set, or one that is not what is written of it.
        """
        if "data.name" not in layers or layers["data.name"].value != FOLDER:
            return layers
        written = {key: leaf for key, leaf in layers.items() if key.startswith("data.") and leaf.value is not None}
        chosen = validate_layers(FolderSettings, written, fallback).data
        where = layers["data.path"].where
        found = self._pictures(chosen, where)
        for key in ("channels", "classes"):
            if getattr(chosen, key) not in (None, found[key]):
                problem = f"the pictures in {chosen.path} have {found[key]}; leave it out, or write null over it"
                raise UserError(f"{layers[f'data.{key}'].where}: data.{key}: {getattr(chosen, key)}, and {problem}")
        made = {f"data.{key}": Leaf(value, where) for key, value in found.items()}
        return {key: leaf for key, leaf in layers.items() if not key.startswith("data.")} | made

    def _pictures(self, chosen: FolderData, where: str) -> dict[str, Any]:
        key = canonical(chosen.model_copy(update={"channels": None, "classes": None}))
        of_subset = {"subset": chosen.subset} if chosen.subset else {}
        if self.stored is None and key not in self.record.pictures:
            folder = read_folder(place(chosen.path, f"{where}: data.path"), chosen.split)
            name = data_name(folder.content, chosen.size, folder.channels)
            found = {"name": name, "channels": folder.channels, "size": chosen.size, "classes": folder.classes}
            self.record.pictures[key] = found | {"flip": chosen.flip} | of_subset
        if key not in self.record.pictures:
            raise UserError(f"{where}: data.path: the study has no run of these pictures; run the grid again")
        return self.record.pictures[key]

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
    changes |= {span: steps(epochs) for span in settings.in_epochs if (epochs := getattr(settings, span, None))}
    final = _validated(kind.Settings, settings.model_dump() | changes, key, written)
    return TermSpec(name=name, **final.model_dump(mode="json", by_alias=True, exclude_none=True))


def _validated(model: Any, content: Written, key: str, written: Written | None = None) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        loc, message = mistakes(model, error)[0]
        there = not loc or loc[0] in (written or content)  # what is missing is told where the term is
        words = (".".join((key, *map(str, loc))), message) if there else (key, f"{dotted(loc)}: {message}")
        raise SettingError(*words) from None


def folders(record: PluginRecord) -> Iterator[tuple[str, FolderData]]:
    """Yield the folders of pictures that a grid's runs are made of: the name of the data set, and what is written."""
    for written, found in record.pictures.items():
        yield found["name"], FolderData.model_validate_json(written)
