"""Numbers and sentences of the report, every one of them made from data."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.files import read_yaml
from harness.plain_text import CONTROL
from harness.report import TEMPLATES
from harness.report.analysis.pivot import Estimate, Pivot, PivotCell
from harness.report.analysis.statistics import Change, Interval

NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
# What the states of runs, the verdicts and the measures of representations mean, as legends and sentences say it.
MEANINGS: Any = read_yaml(TEMPLATES / "meanings.yaml")
STATES: Mapping[str, str] = MEANINGS["states"]


def sentences(template: str, **values: Any) -> list[str]:
    """Fill a template and return what it says; each sentence, or several that belong together, begins with "- "."""
    parts = re.split("^- ", _templates().get_template(template).render(values), flags=re.MULTILINE)
    return [re.sub(" *\n *", " ", sentence.strip()) for sentence in parts if sentence.strip()]


@cache
def _templates() -> Environment:
    templates = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, auto_reload=False)  # noqa: S701
    templates.trim_blocks = templates.lstrip_blocks = True
    words = (counted, in_words, interval_words, listed, number, p_words, percent_change, share, signed, signed_percent)
    templates.filters |= {function.__name__: function for function in words}
    return templates


def number(value: float, decimals: int) -> str:
    """Return a number with a true minus sign."""
    return f"{value:.{decimals}f}".replace("-", "−")


def signed(value: float, decimals: int) -> str:
    """Return a number with its sign, "+0.4" or "−0.4"."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def estimate(value: Estimate, decimals: int) -> str:
    """Return "4.21 ± 0.12", or "4.21" where one seed leaves no spread."""
    mean = number(value.mean, decimals)
    return mean if value.spread is None else f"{mean}\u00a0±\u00a0{number(value.spread, decimals)}"


def signed_percent(value: float, decimals: int = 1) -> str:
    """Return "−11.4 %"; what prints as zero has no sign."""
    digits = number(0, decimals) if float(f"{value:.{decimals}f}") == 0 else signed(value, decimals)
    return f"{digits}\u202f%"  # a narrow space that does not break


def percent_change(change: Change) -> str:
    """Return "−11.4 % [−14.0, −8.8]*": the star says that it survives Holm's correction, no brackets that n is one.

    Where an interval says nothing, "+163.4 % (two seeds cannot tell)".
    """
    percent = signed_percent(change.percent)
    if change.silent:
        return f"{percent} ({in_words(len(change.seeds))} seeds cannot tell)"
    return f"{percent} {interval_words(change.interval)}{'*' * change.survives}" if change.interval else percent


def interval_words(interval: Interval, decimals: int | None = None) -> str:
    """Return "[−14.0, −8.8]", without a break inside; by default "[−68, +62]" where decimals would say nothing."""
    if decimals is None:
        wide = interval.high - interval.low >= 20 and min(abs(interval.low), abs(interval.high)) >= 1
        decimals = 0 if wide else 1
    return f"[{signed(interval.low, decimals)},\u00a0{signed(interval.high, decimals)}]"


def p_words(p: float | None) -> str:
    """Return "0.031", or "< 0.001"; "" where there is none."""
    if p is None:
        return ""
    return f"{p:.3f}" if p >= 0.001 else "<\u00a00.001"


def in_words(value: int) -> str:
    """Return a small number as a word."""
    return NUMBERS[value] if value < len(NUMBERS) else f"{value:,}"


def share(part: int, whole: int) -> str:
    """Return "none of four", "two of four", "all four", "both", "the one", "not the one"."""
    if whole == 1:
        return "the one" if part else "not the one"
    if part == whole == 2:
        return "both"
    return f"all {in_words(whole)}" if part == whole else f"{in_words(part)} of {in_words(whole)}"


def counted(value: int, noun: str) -> str:
    """Return "1 run", "2 runs"."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{value:,} {noun if value == 1 else plural}"


def listed(words: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def anchor(name: str) -> str:
    """Return the place of a table within the page."""
    return f"table-{slug(name)}"


def slug(name: str) -> str:
    """Return a name that may stand in a link."""
    return re.sub(r"\W+", "-", name)


def runs_anchor(pivot: Pivot, cell: PivotCell) -> str:
    """Return the name that a cell's runs have in links within the page."""
    place = next(index for index, other in enumerate(pivot.cells) if other.source is cell.source)
    return f"runs-{anchor(pivot.table.name)}-{place}"


def seed_anchor(pivot: Pivot, cell: PivotCell, seed: int) -> str:
    """Return the name that one run of a cell has in links within the page."""
    return f"{runs_anchor(pivot, cell)}-{seed}"


def seed_words(seeds: Sequence[str]) -> str:
    """Return "seed 0", "seeds 0 and 1"."""
    return f"seed{'s' if len(seeds) > 1 else ''} {listed(seeds)}"


def state_words(cell: PivotCell) -> str:
    """Say in a few words which runs of a cell give no value: "diverged", "seed 1 not run"; "" where all do."""
    states = Counter(run.state for run in cell.missing)
    if len(cell.missing) == len(cell.runs):
        return ", ".join(states)
    by_state = {state: [str(run.seed) for run in cell.missing if run.state == state] for state in states}
    return "; ".join(f"{seed_words(seeds)} {state}" for state, seeds in by_state.items())


def is_number(text: str) -> bool:
    """Tell whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def on_one_line(text: str) -> str:
    """Return text with a blank in the place of each line end and of each other control character."""
    return CONTROL.sub(" ", text.replace("\r\n", "\n"))
