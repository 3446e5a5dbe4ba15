"""Files are never half written, and one that is torn stops no reader."""

import json
import multiprocessing
import os
import time

import pytest

from harness.errors import UserError
from harness.files import check_no_links, check_writable, read_json, read_jsonl, replace, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def die(temporary):
        temporary.write_text('{"a"')
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace(path, die)
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def _write_for(path, seconds, number):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        write_json(path, {"writer": number, "filler": [number] * 5000})


def test_no_reader_sees_half_a_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"writer": 0, "filler": [0] * 5000})
    writers = [multiprocessing.Process(target=_write_for, args=(path, 1.0, n)) for n in range(3)]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        content = json.loads(path.read_text())
        assert set(content["filler"]) == {content["writer"]}
        reads += 1
    assert reads > 20
    assert list(tmp_path.iterdir()) == [path]


def test_a_torn_log_is_read_up_to_the_tear(tmp_path):
    log = tmp_path / "train.jsonl"
    log.write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\n{"step": 2, "loss": 5}\n{"step": 3, "lo')
    assert read_jsonl(log) == [{"step": 1, "loss": 3}, {"step": 2, "loss": 5}]
    assert read_jsonl(tmp_path / "absent.jsonl") == []


def test_an_unwritable_folder_is_told_and_nothing_is_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match=r"--results .*cannot write"):
        check_writable("--results", blocked / "results")
    check_writable("--results", tmp_path / "new" / "results")
    assert sorted(tmp_path.iterdir()) == [blocked]


@pytest.mark.parametrize("place", ["report", "report/tables", "report/runs/a", "report/dangling"])
def test_a_folder_that_leads_elsewhere_is_refused_with_the_link_s_name(tmp_path, place):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).symlink_to(tmp_path / ("nowhere" if place.endswith("dangling") else "elsewhere"))
    with pytest.raises(UserError, match=rf"{place}: a link to .*where, .* remove the link, or .*--reports"):
        check_no_links(tmp_path / "report")


def test_a_link_to_a_file_and_a_link_above_are_no_obstacle(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "reports").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "real" / "index.html").symlink_to(tmp_path / "file")
    check_no_links(tmp_path / "reports" / "one")
    check_no_links(tmp_path / "real")
    replace(tmp_path / "real" / "index.html", lambda path: path.write_text("page"))
    assert (tmp_path / "file").read_text() == "mine"


def test_json_of_a_name_that_is_not_utf8_is_read_by_all(tmp_path):
    write_json(tmp_path / "a.json", {"name": os.fsdecode(b"caf\xe9")})
    assert json.loads((tmp_path / "a.json").read_bytes().decode("utf-8")) == {"name": r"caf\udce9"}
