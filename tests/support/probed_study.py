"""A study whose runs have probes with values numbers."""

from pathlib import Path

from support.synthetic_study import full_study, new_store, table_of, write_measurement

from harness.files import write_json
from harness.report.analysis.pivot import pivot
from harness.report.analysis.representations import (
    MEASURES,
)
from harness.report.reading.collect import collect
from harness.store.store import Store

PROTOCOL = {"fit": "9 of digits/train", "held_out": "7 of digits/test", "encoder": "none: no such", "noise": [0.2, 0.6]}


def write_probe(store: Store, run, distance: float, **blocks: float) -> None:
    """A probe whose measures grow by the block, of a network of two blocks; block 0 must not count."""
    values = dict.fromkeys(MEASURES, 0.5) | {"distance": distance, "norm": 2.0} | blocks
    levels = [
        {
            "noise": noise,
            "blocks": [{"block": k} | {name: value * k for name, value in values.items()} for k in range(3)],
        }
        for noise in PROTOCOL["noise"]
    ]
    path = store.probe_path(run.train_id, run.evaluation.step)
    write_json(path, {"train_id": run.train_id, "step": run.evaluation.step, "protocol": PROTOCOL, "levels": levels})


def probed_study(folder: Path, distance) -> tuple[Store, list]:
    """Table 2 and its neighbour with a probe of every run; distance(index of the cell) → its distance."""
    store = new_store(folder)
    tables = [table_of("table2", "digits", "seeds=[0,1]"), table_of("table3", "digits", "seeds=[0,1]")]
    full_study(store, tables)
    for table in tables[::-1]:
        for index, cell in enumerate(table.cells):
            for run in cell.runs:
                fid = 5 + 0.1 * index
                write_measurement(store, run, fid)
                write_probe(store, run, distance(fid) if cell.settings.regularizer.loss != "none" else distance(5.0))
    return store, [pivot(table, collect(store, tables)) for table in tables]
