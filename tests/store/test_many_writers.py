"""Many jobs write one store while somebody collects it."""

import multiprocessing
import time

import pytest
from support.synthetic_study import new_store, table_of, write_measurement

from harness.config.grid import Run
from harness.files import write_json
from harness.report.reading.collect import collect
from harness.report.reading.tidy import tidy_table
from harness.store.store import Store

WRITERS = 20


def write_for(store: Store, runs: list[Run], writer: int, seconds: float) -> None:
    end, written = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for run in runs:
            write_measurement(store, run, fid=writer + written / 1000)
            write_json(store.run_folder(run.train_id) / "heartbeat.json", {"step": written, "filler": [writer] * 2000})
        written += 1


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.long)])
def test_twenty_writers_and_a_collector_never_meet(tmp_path, seconds):
    store, table = new_store(tmp_path), table_of("figure4", "digits", "seeds=[0, 1]")
    by_training: dict[str, list[Run]] = {}
    for run in table.runs:
        by_training.setdefault(run.train_id, []).append(run)
    shares = [runs for _, runs in zip(range(WRITERS), by_training.values(), strict=False)]
    assert len(shares) == WRITERS
    for runs in shares:
        for run in runs:
            write_measurement(store, run, fid=0.0)
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=write_for, args=(store, runs, n, seconds)) for n, runs in enumerate(shares)]
    for writer in writers:
        writer.start()
    ours, reads, seen = {run.eval_id for runs in shares for run in runs}, 0, set()
    while any(writer.is_alive() for writer in writers):
        frame = tidy_table(collect(store, [table]))
        mine = frame[frame.eval_id.isin(ours) & (frame.metric == "fid")]
        assert set(mine.state) == {"done"}, mine[mine.state != "done"]
        assert len(mine) == len(ours)
        seen |= set(mine.value)
        reads += 1
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    assert reads > 3
    assert len(seen) > 2 * WRITERS
