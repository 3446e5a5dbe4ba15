"""What the acceptance keeps: rows of values by part, the limits that they are held to, and both as JSON and Markdown.

Files are written anew after each row, so that a run that is killed loses the row that it was at, and no more.
"""

import json
import math
import sys
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # numbers and words by what they are
LIMITS = Path(__file__).with_name("limits.toml")


@dataclass(frozen=True)
class Limit:
    """The least or the most that a value of each row that fits a pattern may be; see limits.toml."""

    row: str
    value: str
    at_least: float | None = None
    at_most: float | None = None
    tiny: float | None = None

    @property
    def words(self) -> str:
        """The limit as people read it."""
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"

    def rehearsed(self) -> "Limit":
        """Return the limit of the rehearsal on a CPU."""
        least, most = (self.tiny, None) if self.at_least is not None else (None, self.tiny)
        return Limit(self.row, self.value, least, most)

    def kept_by(self, number: float) -> bool:
        """Tell whether a number keeps it; what is not finite keeps none."""
        least, most = self.at_least, self.at_most
        return math.isfinite(number) and (least is None or number >= least) and (most is None or number <= most)


def attempt(make: Callable[[], Row]) -> Row:
    """Return a row, or the problem that kept it from being measured: other rows are measured all the same."""
    try:
        return make()
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return {"problem": problem(error)}


def problem(error: BaseException) -> str:
    """Return what an exception says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[-300:]}"


def read_limits(tiny: bool, path: Path = LIMITS) -> dict[str, list[Limit]]:
    """Return the limits by part: those of a card, or of the rehearsal."""
    content = {part: [Limit(**row) for row in rows] for part, rows in tomllib.loads(path.read_text("utf-8")).items()}
    if not tiny:
        return content
    return {part: [row.rehearsed() for row in rows if row.tiny is not None] for part, rows in content.items()}


@dataclass(frozen=True)
class Verdict:
    """One limit held against one row; number None: the row lacks the value, or there is no such row."""

    row: str
    value: str
    number: float | None
    limit: str
    kept: bool


def verdicts(rows: dict[str, Row], limits: list[Limit]) -> Iterator[Verdict]:
    """Hold a part's rows to its limits."""
    for limit in limits:
        fitting = [name for name in rows if fnmatchcase(name, limit.row)]
        for name in fitting or [limit.row]:
            number = rows.get(name, {}).get(limit.value)
            kept = isinstance(number, int | float) and limit.kept_by(number)
            yield Verdict(name, limit.value, number, limit.words, kept)


@dataclass
class PartRecord:
    """What one part gave. problems: what kept it, or one of its rows, from being measured."""

    rows: dict[str, Row] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    ended: bool = False

    @property
    def passed(self) -> bool:
        """Whether all of it was measured and every limit is kept."""
        return self.ended and not self.problems and all(verdict.kept for verdict in self.verdicts)


class Record:
    """The parts of one run, in their order, and the two files that they are written to."""

    def __init__(self, folder: Path, header: Row, limits: dict[str, list[Limit]]) -> None:
        self.folder, self.header, self.limits = folder, header, limits
        self.parts: dict[str, PartRecord] = {}
        self.began = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)

    def new(self, name: str) -> PartRecord:
        """Begin a part."""
        self.parts[name] = PartRecord()
        return self.parts[name]

    def end(self, name: str, seconds: float) -> PartRecord:
        """Hold what a part gave to its limits, and write it."""
        part = self.parts[name]
        part.problems += [f"{row}: {values['problem']}" for row, values in part.rows.items() if "problem" in values]
        part.verdicts, part.seconds, part.ended = list(verdicts(part.rows, self.limits.get(name, []))), seconds, True
        self.write()
        return part

    def write(self) -> None:
        """Replace both files."""
        content = self.header | {"seconds": round(time.monotonic() - self.began, 1)}
        parts = {name: {"passed": part.passed, **asdict(part)} for name, part in self.parts.items()}
        text = json.dumps(content | {"parts": parts}, indent=1, ensure_ascii=False, default=str)
        for name, written in (("gpu.json", text), ("gpu.md", self.markdown(content))):
            temporary = self.folder / f".{name}"
            temporary.write_text(written + "\n", "utf-8")
            temporary.replace(self.folder / name)

    def markdown(self, header: Row) -> str:
        """Return the same for people: the verdicts first, then every row."""
        title = "Rehearsal on a CPU: no figure means anything" if header["rehearsal"] else "Acceptance on a card"
        lines = [f"# {title}", "", *(f"- {name}: {shown(value)}" for name, value in header.items()), ""]
        lines += ["| part | row | value | measured | limit | |", "|---|---|---|--:|--:|---|"]
        for name, part in self.parts.items():
            for v in part.verdicts:
                mark = "kept" if v.kept else "**not kept**"
                lines.append(f"| {name} | {v.row} | {v.value} | {shown(v.number)} | {v.limit} | {mark} |")
            lines += [f"| {name} | | | | | **{problem}** |" for problem in part.problems]
        for name, part in self.parts.items():
            lines += ["", f"## {name}, {part.seconds:.0f} s{'' if part.ended else ', not ended'}", ""]
            for row, values in part.rows.items():
                lines.append(f"- {row}: {', '.join(f'{what} {shown(value)}' for what, value in values.items())}")
        return "\n".join(lines)


def shown(value: object) -> str:
    """Return a value as it stands in the Markdown."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "not measured" if value is None else str(value).replace("|", "/").replace("\n", " ")
