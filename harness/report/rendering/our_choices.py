"""Our choices: what the paper leaves open and we decided, each shown where some run of the study depends on it."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import yaml
from jinja2 import Environment

from harness.config.grid import Run
from harness.config.settings.loss_settings import RegularizerSettings
from harness.config.settings.process_settings import ConsistencySettings, MomentMatchingSettings, SamplerSettings
from harness.config.spec import TrainSpec
from harness.report import TEMPLATES
from harness.report.analysis.text import counted, listed

# settings: why each is open; fixed: id, subject, sentence, and on which trainings it bears
CHOICES: dict[str, Any] = yaml.safe_load((TEMPLATES / "our_choices.yaml").read_text(encoding="utf-8"))
# Which of the fixed ones bear on a training, of its fields and of how it is sampled; what it lacks equals nothing.
CONDITIONS: Any = Environment().compile_expression(f"[{', '.join(choice['when'] for choice in CHOICES['fixed'])}]")  # noqa: S701
# Choices of which a constant of the authors is a part: its symbol, their value, and where a spec has it.
CONSTANTS = {
    "shortcut-sizes": ("bootstrap_every", 8, attrgetter("shortcut.every")),
    "imm-labels": ("k", MomentMatchingSettings().k, attrgetter("imm.k")),
    "ict-network": ("s₁", ConsistencySettings().finest, attrgetter("consistency.finest")),
}


@dataclass(frozen=True)
class SettingChoice:
    """A setting that the paper leaves open: why, what we took, and how many trainings depend on it."""

    sentence: str
    key: str
    description: str
    values: str
    runs: str


@dataclass(frozen=True)
class FixedChoice:
    """A choice of ours that is no setting: what it is about, what we do, and how many trainings depend on it."""

    subject: str
    sentence: str
    runs: str


def sentence_of(choice: str, sentence: str, beside_paper: bool) -> str:
    """Return the words on a choice: beside the paper those given, else those of a study of one's own; "" for none."""
    return sentence if beside_paper else CHOICES["own"].get(choice, sentence)


def setting_choices(runs: Iterable[Run], beside_paper: bool = True) -> list[SettingChoice]:
    """Return every open setting of the regulariser that some run uses, with the value it used."""
    trainings = {run.train_id: run.train.regularizer for run in runs if run.train.regularizer}.values()
    choices = []
    for name, sentence in CHOICES["settings"].items():
        field = RegularizerSettings.model_fields[name]
        used = [value for spec in trainings if (value := getattr(spec, name, None)) is not None]
        if used:
            values = listed([str(value) for value in sorted(set(used))])
            key, depending = f"regularizer.{field.alias or name}", counted(len(used), "training")
            words = sentence_of(name, sentence, beside_paper)
            choices.append(SettingChoice(words, key, field.description or "", values, depending))
    return choices


def fixed_choices(runs: Collection[Run], beside_paper: bool = True) -> list[FixedChoice]:
    """Return every choice of ours that is no setting and on which some run depends."""
    alike: dict[tuple[TrainSpec, SamplerSettings], set[str]] = {}  # seeds share what is asked of them
    for run in {run.eval_id: run for run in runs}.values():
        key = run.train.model_copy(update={"seed": 0}), run.evaluation.sampler
        alike.setdefault(key, set()).add(run.train_id)
    holds = {(train, sampler): CONDITIONS(vars(train) | {"sampler": sampler}) for train, sampler in alike}
    choices = []
    for index, choice in enumerate(CHOICES["fixed"]):
        depending = {train: ids for (train, sampler), ids in alike.items() if holds[train, sampler][index]}
        sentence = sentence_of(choice["id"], choice["sentence"], beside_paper)
        if depending and sentence:
            trainings = set().union(*depending.values())
            sentence += _own_constant(choice["id"], depending)
            choices.append(FixedChoice(choice["subject"], sentence, counted(len(trainings), "training")))
    return choices


def _own_constant(choice: str, trainings: Iterable[TrainSpec]) -> str:
    """Say where a constant is not the authors' own; "" where it is, or has no part in the choice."""
    if choice not in CONSTANTS:
        return ""
    symbol, authors, of = CONSTANTS[choice]
    used = {of(train) for train in trainings}
    return (
        f" Here {symbol} is {listed([str(value) for value in sorted(used)])} instead of {authors}."
        if used - {authors}
        else ""
    )
