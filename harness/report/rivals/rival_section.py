"""What the page says of rivals and sums: sentences, a plot of all changes, what each costs, and the tests."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.report.analysis.answer import StudyAnswer, size_words
from harness.report.analysis.pivot import Pivot, PivotCell, kind_of
from harness.report.analysis.statistics import Change
from harness.report.analysis.text import number, sentences
from harness.report.figures.forest import Forest, forest_of
from harness.report.figures.picture import Picture
from harness.report.figures.style import ArmStyles
from harness.report.rivals.contrasts import Contrast, Contrasts, contrasts, spread_changes
from harness.report.rivals.cost_chart import cost_chart, extra_operations
from harness.store.store import Store

REST = "Against the baseline"  # the heading of rows of no block


@dataclass(frozen=True)
class RivalSection:
    """One table's; spreads are changes of the distance between representations, by the name of the row."""

    compared: Contrasts
    findings: Sequence[str]
    forest: Forest
    cost: Picture | None
    spreads: Mapping[str, Change]


def rivals_record(found: Sequence[RivalSection]) -> list[dict[str, Any]]:
    """Return all that is compared as data."""
    return [
        {
            "table": section.compared.pivot.table.name,
            "row": contrast.cell.name,
            "against": contrast.against.name,
            "change": asdict(contrast.change),
            "extra_operations_percent": extra_operations(contrast),
            "spread": asdict(spread) if (spread := section.spreads.get(contrast.cell.name)) else None,
        }
        for section in found
        for contrast in section.compared.family
    ]


def rival_sections(store: Store, pivots: Sequence[Pivot], styles: ArmStyles) -> list[RivalSection]:
    """Return the section of each table with sums; none at a scale whose numbers mean nothing."""
    found = [compared for pivot in pivots if (compared := contrasts(pivot))]
    return [_section(compared, spread_changes(store, compared), styles) for compared in found]


def rivals_answer(given: StudyAnswer, section: RivalSection) -> StudyAnswer:
    """Return the answer of a study of this table alone: its question, what helps and adds, and then what was given."""
    helps, *further = section.findings
    adds = further[: bool(section.compared.added)]
    question = section.compared.pivot.table.file.question
    return replace(given, question=question, verdict=helps, further=[*adds, given.verdict, *given.further])


def _section(compared: Contrasts, spreads: Mapping[str, Change], styles: ArmStyles) -> RivalSection:
    groups = [(compared.pivot, heading, cells) for heading, cells in _groups(compared)]
    findings = _findings(compared, spreads)
    return RivalSection(compared, findings, forest_of(groups), cost_chart(compared, styles), spreads)


def _groups(compared: Contrasts) -> Iterator[tuple[str, list[PivotCell]]]:
    """Yield the rows of each block, the best first, and the sums against their better parts."""
    blocks = compared.pivot.table.file.block_of
    by_block: dict[str, list[Contrast]] = {}
    for contrast in (*compared.alone, *compared.sums):
        label = contrast.cell.source.label(compared.pivot.table.file.rows)
        by_block.setdefault(blocks.get(label, REST), []).append(contrast)
    for heading in dict.fromkeys([REST, *blocks.values()]):
        if heading in by_block:
            yield heading, [contrast.cell for contrast in _sorted(compared.pivot, by_block[heading])]
    if compared.added:
        added = _sorted(compared.pivot, compared.added)
        yield "Sums against the better of their parts", [_beside_part(contrast) for contrast in added]


def _sorted(pivot: Pivot, block: Sequence[Contrast]) -> list[Contrast]:
    return sorted(block, key=lambda contrast: pivot.badness(contrast.change.percent))


def _beside_part(contrast: Contrast) -> PivotCell:
    """The sum as a cell whose baseline is its better part."""
    name = f"{contrast.cell.name} against {contrast.against.name}"
    return replace(contrast.cell, name=name, baseline=contrast.against, change=contrast.change)


def _findings(compared: Contrasts, spreads: Mapping[str, Change]) -> list[str]:
    pivot = compared.pivot
    alone, added = (_sorted(pivot, family) for family in (compared.alone, compared.added))
    costs = {contrast.cell.name: extra_operations(contrast) for contrast in compared.alone}
    known = {name: cost for name, cost in costs.items() if cost is not None}
    return sentences(
        "rivals.j2",
        metric=pivot.metric.title,
        alone=_kinds(pivot, alone),
        best=_told(pivot, alone, "better", 0),
        worst=_told(pivot, alone, "worse", -1),
        added=_kinds(pivot, added),
        best_sum=_told(pivot, added, "better", 0),
        worst_sum=_told(pivot, added, "worse", -1),
        family=len({c.key for c in compared.family if c.change.p is not None}),
        surviving=len({c.key for c in compared.family if c.change.survives}),
        dearest=max(known.items(), key=lambda item: item[1], default=None),
        best_cost=known.get(alone[0].cell.name) if alone else None,
        first=alone[0] if alone else None,
        spread=_spread_counts(compared, spreads),
        probed=len(spreads),
        cost_words=_cost_words,
    )


def _kinds(pivot: Pivot, family: Sequence[Contrast]) -> Counter[str]:
    """How many are better and worse beyond their interval, and of how many the seeds cannot tell ("same")."""
    return Counter(kind_of(pivot, contrast.change) for contrast in family)


def _told(pivot: Pivot, family: Sequence[Contrast], kind: str, place: int) -> str:
    """Return "The best is “REPA”, better by 25 % (95 % interval 19 to 31)." of the first or last of a kind, or ""."""
    found = [contrast for contrast in family if kind_of(pivot, contrast.change) == kind]
    if not found:
        return ""
    contrast = found[place]
    against = "" if contrast.cell.baseline is contrast.against else f" than “{contrast.against.name}”"
    what = "worst" if kind == "worse" else "best"
    return f"The {what} is “{contrast.cell.name}”, {kind}{against} by {size_words(contrast.change)}."


def _spread_counts(compared: Contrasts, spreads: Mapping[str, Change]) -> Counter[str]:
    """Whether representations are further apart, and FID better: how many of the rows of which both are told."""
    rows = [(c, spreads[c.cell.name]) for c in (*compared.alone, *compared.sums) if c.cell.name in spreads]
    return Counter(
        f"{'further' if spread.percent > 0 else 'closer'} {kind_of(compared.pivot, contrast.change)}"
        for contrast, spread in rows
        if spread.beyond
    )


def _cost_words(percent: float) -> str:
    return "no more operations" if percent < 0.01 else f"{number(percent, 0 if percent >= 10 else 1)} % more operations"
