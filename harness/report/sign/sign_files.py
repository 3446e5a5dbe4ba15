"""The CSVs beside the page: every number of it, and the values by seed that each is made of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from harness.config.grid_file import place_words
from harness.files import read_yaml
from harness.report import TEMPLATES
from harness.report.analysis.factors import METRICS, sharpness
from harness.report.analysis.stated_claims import StatedClaims, claims_record
from harness.report.reading.tidy import tidy_table
from harness.report.rendering.data_files import COLUMNS, csv_of, nested_csv
from harness.report.sign.study_view import GAP, StudyView

OF_FILES: Mapping[str, Mapping[str, str]] = read_yaml(TEMPLATES / "sign_columns.yaml")
VALUES = ("study", "table", "cell", "model", "epochs", "step", "seed", "train_id", "eval_id", "metric", "value")


def sign_files(views: Sequence[StudyView], families: Sequence[StatedClaims]) -> dict[str, str]:
    """Return the CSVs by name; families: the claims of each study, corrected beside those of all."""
    records = {
        "effects": [row for view in views for row in _effects(view)],
        "claims": [
            row | {"study": view.study, "cell": place_words(r.claim.cell.at), "other": place_words(r.claim.against.at)}
            for view, claims in zip(views, families, strict=True)
            for row, r in zip(claims_record(claims).get("stated_claims", ()), claims.results, strict=True)
        ],
        "costs": [{"study": view.study, **asdict(view.cost), "words": view.cost.machine_words} for view in views],
        "starts": [asdict(start) for view in views for start in view.starts],
        "gaps": [asdict(gap) for view in views for gap in view.gaps],
    }
    files = {f"{name}.csv": nested_csv(rows, _columns(name)) for name, rows in records.items()}
    return files | {"values.csv": csv_of(_values(views, families))}


def _columns(name: str) -> dict[str, str]:
    change = {column: path for column, path in COLUMNS["change"].items() if column != "p_holm"}
    return {**OF_FILES[name], **(change if name in ("effects", "claims") else {})}


def _values(views: Sequence[StudyView], families: Sequence[StatedClaims]) -> pd.DataFrame:
    """Return a row for each value by seed of the metrics that the page speaks of."""
    metrics = {*METRICS, GAP, *(result.claim.metric for claims in families for result in claims.results)}
    frames = []
    for view in views:
        frame = tidy_table(view.results).assign(study=view.study)
        frames.append(frame.loc[frame["metric"].isin(metrics) & frame["value"].notna(), list(VALUES)])
    return pd.concat(frames, ignore_index=True)


def _effects(view: StudyView) -> Iterator[dict[str, Any]]:
    for trend in view.trends:
        for effect, metric in ((effect, metric) for effect in trend.effects for metric in trend.pivots):
            if change := effect.change(metric):
                cell = effect.cells[metric]
                yield {
                    "study": view.study, "table": trend.table.name, "factor": trend.factor.name, "axis": trend.axis,
                    "level": effect.level, "where": trend.where, "arm": effect.arm, "metric": metric,
                    "cell": place_words(cell.source.at),
                    "baseline": place_words(cell.baseline.source.at) if cell.baseline else "",
                    "change": asdict(change), "sharpness": sharpness(change), "narrowing": effect.narrowing,
                }  # fmt: skip
