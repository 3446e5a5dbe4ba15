"""The log of a training as series of numbers, and its last lines alone."""

import json

import pytest
from support.synthetic_study import new_store, table_of, write_text

from harness.errors import UserError
from harness.store.records import LOG, Environment
from harness.store.training_log import TAIL, Logs, last_speeds, read_log


def lines(count: int) -> str:
    return "".join(
        json.dumps({"step": k, "loss": 1 / k, "images_per_second": float(k)}) + "\n" for k in range(1, count)
    )


def test_only_whole_and_finite_numbers_are_in_a_series(tmp_path):
    log = tmp_path / LOG
    log.write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": NaN}\n{"step": 1, "loss": 4}\n[]\n{"step": 3, "lo')
    assert read_log(log).of("loss") == ((1, 4.0),)
    assert read_log(log).of("denoising") == ()
    assert read_log(tmp_path / "none").series == {key: () for key in read_log(log).series}


@pytest.mark.parametrize("count", [2, 1000])
def test_the_last_speeds_are_those_of_the_last_whole_lines(tmp_path, count):
    log = tmp_path / LOG
    log.write_text(lines(count) + '{"step": 5000, "images_per')
    speeds = last_speeds(log)
    assert speeds == [float(k) for k in range(count - len(speeds), count)]
    assert len(speeds) == 1 or TAIL / 100 < len(speeds) < TAIL / 40
    assert last_speeds(tmp_path / "none") == []


def test_what_a_study_logged_is_read_once(tmp_path):
    run, store = table_of("table2").runs[0], new_store(tmp_path)
    folder, logs = store.run_folder(run.train_id), Logs(store)
    write_text(folder / LOG, lines(3))
    Environment(attempts=[]).write(folder)
    first = logs.of(run.train_id), logs.environment(run.train_id)
    write_text(folder / LOG, lines(9))
    write_text(folder / Environment.FILE, "torn")
    assert (logs.of(run.train_id), logs.environment(run.train_id)) == first
    with pytest.raises(UserError, match=r"env\.json is broken"):
        Logs(store).environment(run.train_id)
