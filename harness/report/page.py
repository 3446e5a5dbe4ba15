"""The report: one self-contained HTML file for each study, the same bytes whenever it is made from the same results."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files import write_bytes
from harness.grid import CONFIDENCE, SOURCES, Table
from harness.launch.plan import study_tables
from harness.report.collect import collect, write, write_csv
from harness.store import Store

if TYPE_CHECKING:
    from harness.report.tables import Pivot

TEMPLATES = Path(__file__).parent / "templates"


def report(store: Store, reports: Path) -> Path:
    """Make the report of a study from what the study's folder holds, and return its path.

    Raises:
        UserError: there is no such study, or one of its grid files cannot be read any more.
    """
    return make_report(store, study_tables(store), reports / store.study)


def collect_study(store: Store, reports: Path) -> Path:
    """Write a study's results as one tidy CSV (and Parquet where pyarrow is installed), and return the CSV's path.

    Raises:
        UserError: as `report`.
    """
    path = reports / store.study / "results.csv"
    write(collect(store, study_tables(store)), path)
    return path


def make_report(store: Store, tables: Sequence[Table], target: Path) -> Path:
    """Write `target/index.html` with `results.csv` and the files of `write_takeaway` beside it; return its path."""
    from harness.report.export import write_takeaway
    from harness.report.tables import pivot

    frame = collect(store, tables)
    write_csv(frame, target / "results.csv")
    pivots = [pivot(table, frame) for table in tables]
    write_takeaway(store.study, pivots, target)
    path = target / "index.html"
    write_bytes(path, render(content(store, pivots)).encode())
    return path


def content(store: Store, pivots: Sequence["Pivot"]) -> dict[str, Any]:
    """Gather everything that the template prints."""
    from harness.report import claims, findings, labels, readings, runs, study, taps, words
    from harness.report.figures import picture
    from harness.report.gain import gain_picture
    from harness.report.samples import sample_strips

    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    asked = [run for pivot in pivots for run in pivot.table.runs]
    return {
        "study": store.study,
        "scales": study.scales([pivot.table for pivot in pivots]),
        "facts": study.facts(pivots),
        "tables": [
            {"pivot": p, "heading": study.heading(p.table),
             "short_heading": p.table.name_in_words, "picture": picture(p), "gain": gain_picture(p),
             "strips": sample_strips(store, p),
             "findings": findings.findings(p), "claims": claims.table_claims(p),
             "command": study.command(store, p.table)}
            for p in pivots
        ],
        "readings": readings.readings(asked),
        "fixed_readings": readings.fixed_readings(asked),
        "summary": claims.summary_sentences(pivots),
        "verdicts": claims.VERDICTS,
        "verdicts_used": claims.verdicts_used(pivots),
        "index": runs.index(pivots),
        "trainings": runs.trainings(store, pivots),
        "states": words.STATES,
        "confidence": CONFIDENCE,
        "sources": SOURCES,
        "labels": labels,
        "runs": runs,
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "taps": taps,
        "words": words,
    }  # fmt: skip


def render(values: dict[str, Any], template: str = "page.html.j2") -> str:
    """Fill a template; every value is escaped, so that a name or a traceback with HTML in it is shown as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values)
