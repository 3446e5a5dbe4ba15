"""The objectives of a study: the terms that its losses have, each with its formula, weights, blocks and constants.

A plug-in's formula is text of others: as LaTeX and Markdown it is printed where nothing but mathematics is in it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from markupsafe import Markup

from harness.config.grid import Run
from harness.config.settings.loss_settings import read_tau
from harness.config.spec import Alignment, Regularizer, TermSpec, TrainSpec
from harness.files import read_yaml
from harness.report import TEMPLATES
from harness.report.analysis.pivot import Pivot
from harness.report.analysis.text import counted, listed

FORMULAS: dict[str, Any] = read_yaml(TEMPLATES / "formulas.yaml")  # of our terms, and the commands of mathematics
COMMANDS = frozenset(FORMULAS["commands"].split())
MATHEMATICS = re.compile(r"(?:[\w ()+\-*/=,.:;'^{}\[\]|<>!]|\\(?:[A-Za-z]+|[,;:!|]))+", re.ASCII)
LONGEST = 500
SHORT = re.compile(r"\\(le|ge|ne|lVert|rVert|lvert|rvert)(?![A-Za-z])")  # what matplotlib knows by another name


@dataclass(frozen=True)
class StudyTerm:
    """A term of a study's losses. formula: L of it in LaTeX, or ""; settings: beside λ and blocks, in words."""

    name: str
    formula: str
    weights: str
    blocks: str
    settings: str
    trainings: str

    @property
    def in_paper(self) -> bool:
        """True for a loss of the paper's Table 1."""
        return self.formula in (*FORMULAS["dispersive"].values(), *FORMULAS["contrastive"].values())


def study_terms(pivots: Sequence[Pivot]) -> list[StudyTerm]:
    """Return every term of the trainings of a study, each once with all values that it has there."""
    formulas: dict[str, str] = {}
    for pivot in pivots:
        formulas |= pivot.table.plugins.formulas
    used: dict[str, tuple[str, list[dict[str, str]]]] = {}
    for train in _trainings(run for pivot in pivots for run in pivot.table.runs):
        for name, formula, values in _terms(train, formulas):
            used.setdefault(name, (formula, []))[1].append(values)
    return [_row(name, formula, values) for name, (formula, values) in used.items()]


def is_mathematics(formula: str) -> bool:
    """Tell whether a formula has nothing in it but mathematics: TeX may then be given it as it is."""
    commands = set(re.findall(r"\\([A-Za-z]+)", formula))
    balanced = formula.count("{") == formula.count("}")
    return len(formula) <= LONGEST and balanced and commands <= COMMANDS and bool(MATHEMATICS.fullmatch(formula))


@cache
def drawing(formula: str) -> tuple[str, float, float, float, float] | None:
    """Return a formula as the data of an SVG's path with its box (left, top, width, height); None where it cannot be
    drawn."""
    from matplotlib.textpath import TextPath

    if not is_mathematics(formula):
        return None
    try:
        path = TextPath((0, 0), f"${SHORT.sub(_in_full, formula)}$", size=16)
    except ValueError:
        return None
    parts = []
    for points, code in path.iter_segments(curves=True, simplify=False):
        pairs = " ".join(f"{x:.1f} {-y:.1f}" for x, y in zip(points[::2], points[1::2], strict=True))
        parts.append({1: f"M{pairs}", 2: f"L{pairs}", 3: f"Q{pairs}", 4: f"C{pairs}"}.get(int(code), "Z"))
    box = path.get_extents()
    return "".join(parts), round(box.x0 - 1), round(-box.y1 - 1), round(box.width + 3), round(box.height + 3)


def in_markdown(formula: str) -> Markup:
    """Return the LaTeX of mathematics as a cell of a Markdown table has it: no bar, and no sign of HTML."""
    for sign, command in (("\\|", r"\Vert "), ("|", r"\vert "), ("<", r"\lt "), (">", r"\gt ")):
        formula = formula.replace(sign, command)
    return Markup(formula)  # noqa: S704


def _in_full(short: re.Match[str]) -> str:
    return rf"\{short[1]}q" if len(short[1]) == 2 else rf"\{short[1][1:]}"


def _trainings(runs: Iterable[Run]) -> Iterable[TrainSpec]:
    return {run.train_id: run.train for run in runs}.values()


def _terms(train: TrainSpec, formulas: Mapping[str, str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the terms of a training: a name, the formula, and what is set."""
    if train.regularizer:
        name, formula = FORMULAS["losses"][train.regularizer.loss], FORMULAS[train.regularizer.kind]
        yield f"{name}, {train.regularizer.kind}", formula[train.regularizer.loss], _values(train.regularizer)
    if train.alignment:
        name = "iREPA" if train.alignment.kernel or train.alignment.alpha is not None else "REPA"
        name = "after SARA, our settings" if train.alignment.sara else name
        yield name, FORMULAS["alignment"][name], _values(train.alignment)
    if phase := train.soft_tokens:
        [(name, formula)] = FORMULAS["soft_tokens"].items()
        settings = phase.model_dump(include={"count", "group", "temperature", "denoising", "learning_rate"})
        blocks = "+".join(map(str, range(1, phase.blocks + 1)))
        yield name, formula, {"lambda": "1", "blocks": blocks, **{key: f"{of:g}" for key, of in settings.items()}}
    for term in train.terms or ():
        yield term.kind, formulas.get(term.kind, ""), _values(term)


def _values(term: Regularizer | Alignment | TermSpec) -> dict[str, str]:
    """What is set of a term, in words. An alignment's weight and block have names of their own."""
    values = term.model_dump(mode="json", by_alias=True, exclude_none=True)
    blocks = values.pop("blocks", None) or [values.pop("block")]
    weight = values.pop("lambda", None) or values.pop("coefficient")
    values |= values.pop("sara", {})
    if isinstance(values.get("tau"), dict):
        values["tau"] = read_tau(values["tau"])
    further = {key: f"{value}" for key, value in values.items() if key not in ("name", "kind", "loss", "own")}
    return {"lambda": f"{weight:g}", "blocks": "+".join(map(str, blocks)), **further}


def _row(name: str, formula: str, trainings: Sequence[Mapping[str, str]]) -> StudyTerm:
    values: dict[str, dict[str, None]] = {}
    for training in trainings:
        for key, value in training.items():
            values.setdefault(key, {})[value] = None
    words = {key: listed(sorted(those, key=lambda word: (len(word), word))) for key, those in values.items()}
    settings = "; ".join(f"{FORMULAS['symbols'].get(key, key)} {of}" for key, of in list(words.items())[2:])
    return StudyTerm(name, formula, words["lambda"], words["blocks"], settings, counted(len(trainings), "training"))
