"""Our choices: what the paper leaves open and we decided, each shown where some run of the study depends on it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from harness.config.grid import Run
from harness.config.settings import ConsistencySettings, MomentMatchingSettings, RegularizerSettings
from harness.config.spec import Regularizer, TrainSpec
from harness.report import TEMPLATES
from harness.report.analysis.text import counted, listed

Condition = Callable[[TrainSpec], bool]
# settings: why each is open; fixed: id, subject, sentence, and the name of a condition as `when`
CHOICES: dict[str, Any] = yaml.safe_load((TEMPLATES / "our_choices.yaml").read_text(encoding="utf-8"))


def _where(holds: Callable[[Regularizer], bool]) -> Condition:
    return lambda train: train.regularizer is not None and holds(train.regularizer)


_restricted = _where(lambda regularizer: regularizer.noise == "restricted")
CONDITIONS: Mapping[str, Condition] = {  # those of `our_choices.yaml`
    "covariance": _where(lambda regularizer: regularizer.loss == "covariance"),
    "contrastive": _where(lambda regularizer: regularizer.kind == "contrastive"),
    "contrastive hinge": _where(lambda regularizer: (regularizer.loss, regularizer.kind) == ("hinge", "contrastive")),
    "hinge": _where(lambda regularizer: regularizer.loss == "hinge"),
    "several blocks": _where(lambda regularizer: len(regularizer.blocks) > 1),
    "restricted noise": _restricted,
    "restricted noise with DiT": lambda train: train.process == "ddpm" and _restricted(train),
    "dispersive other than InfoNCE ℓ2": _where(
        lambda regularizer: regularizer.kind == "dispersive" and regularizer.loss != "infonce-l2"
    ),
    "regulariser with MeanFlow": lambda train: train.process == "meanflow" and train.regularizer is not None,
    "shortcut": lambda train: train.process == "shortcut",
    "imm": lambda train: train.process == "imm",
    "consistency": lambda train: train.process == "consistency",
    "alignment": lambda train: train.alignment is not None,
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


def setting_choices(runs: Iterable[Run]) -> list[SettingChoice]:
    """Return every open setting of the regulariser that some run uses, with the value it used."""
    trainings = {run.train_id: run.train.regularizer for run in runs if run.train.regularizer}.values()
    choices = []
    for name, field in RegularizerSettings.model_fields.items():
        used = [value for spec in trainings if (value := getattr(spec, name, None)) is not None]
        if used and name in CHOICES["settings"]:
            values = listed([str(value) for value in sorted(set(used))])
            key, depending = f"regularizer.{field.alias or name}", counted(len(used), "training")
            sentence = CHOICES["settings"][name]
            choices.append(SettingChoice(sentence, key, field.description or "", values, depending))
    return choices


def fixed_choices(runs: Collection[Run]) -> list[FixedChoice]:
    """Return every choice of ours that is no setting and on which some run depends."""
    trainings = {run.train_id: run.train for run in runs}.values()
    choices = []
    for stated in CHOICES["fixed"]:
        depending = [train for train in trainings if CONDITIONS[stated["when"]](train)]
        if depending:
            sentence = stated["sentence"] + _own_constants(stated["when"], depending)
            choices.append(FixedChoice(stated["subject"], sentence, counted(len(depending), "training")))
    return choices


def _own_constants(when: str, trainings: Collection[TrainSpec]) -> str:
    """Say where a constant of IMM or iCT is not the authors' own."""
    if when == "imm":
        name, own, used = "k", MomentMatchingSettings().k, {train.imm.k for train in trainings if train.imm}
    elif when == "consistency":
        name, own = "s₁", ConsistencySettings().finest
        used = {train.consistency.finest for train in trainings if train.consistency}
    else:
        return ""
    values = listed([str(value) for value in sorted(used)])
    return f" Here {name} is {values} instead of {own}." if used - {own} else ""
