"""Files are never half written, and one that is torn stops no reader."""

import json
import multiprocessing
import os
import stat
import time

import pytest

from harness import files
from harness.errors import UserError
from harness.files import (
    LARGEST_JSON,
    UnfitFile,
    check_no_links,
    check_open,
    check_writable,
    locked,
    read_file,
    read_json,
    read_jsonl,
    replace,
    sha256_of,
    share_with_group,
    tail,
    write_json,
)


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


UNFIT = {
    "a pipe": lambda path: os.mkfifo(path),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "too large": lambda path: path.write_bytes(b"0" * (LARGEST_JSON + 1)),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_no_reader_waits_for_a_pipe_or_takes_in_what_is_no_file_of_ours(tmp_path, kind):
    path = tmp_path / "x.json"
    UNFIT[kind](path)
    with pytest.raises(UnfitFile):
        read_file(path)
    assert read_json(path) is None
    if kind != "too large":
        with pytest.raises(UnfitFile):
            sha256_of(path)
        assert tail(path) == ""
        with pytest.raises(UnfitFile):
            read_jsonl(path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 1000 + "1" + "}" * 1000, "1" * 5000, '"\\ud800"', '"\xff"', ""]
)
def test_json_that_no_writer_of_ours_leaves_is_none(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    assert read_json(tmp_path / "x.json") is None


def test_of_a_log_only_what_is_asked_for_is_taken_in(tmp_path):
    path, many = tmp_path / "train.jsonl", "".join(f', "{key:x}": 1' for key in range(10_000))
    path.write_text(f'{{"step": 1, "loss": 2, "x": 3}}\n{{"step": 2, "loss": 3{many}}}\n{{"step": 3, "loss": 4}}\n')
    assert read_jsonl(path, ("step", "loss"), most=3) == [{"step": 1, "loss": 2}, {"step": 3, "loss": 4}]
    with pytest.raises(UnfitFile, match="more than 2 lines"):
        read_jsonl(path, most=2)


def test_a_step_that_is_no_whole_number_is_no_line_of_a_log(tmp_path):
    lines = ['{"step": true}', '{"step": 1.5}', '{"step": "1"}', "[" * 1000, '{"step": 2}', '{"step": NaN}']
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    assert read_jsonl(tmp_path / "train.jsonl") == [{"step": 2}]


def test_who_waits_for_a_lock_says_so_and_does_not_wait_for_ever(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(files, "LONG_WAIT", 0.1)
    monkeypatch.setattr(files, "LONGEST_WAIT", 0.3)
    path = tmp_path / "lock"
    with locked(path), pytest.raises(UserError, match=r"has had this lock .*end it, and run again"), locked(path):
        pass
    assert "another process has this lock, which is waited for" in capsys.readouterr().err
    with locked(path):  # it was let go
        assert path.stat().st_mode & 0o007 == 0  # others of the machine cannot hold it
    assert capsys.readouterr().err == ""


def test_who_is_of_another_group_can_hold_no_lock_against_us(tmp_path):
    before = os.umask(0)
    try:
        with locked(tmp_path / ".lock"):
            assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o660
    finally:
        os.umask(before)


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


@pytest.fixture
def closing_umask():
    """A umask that closes what is written to all others."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("closing_umask")
@pytest.mark.parametrize(
    ("mode", "file", "folder"), [(0o2770, 0o660, 0o2770), (0o0770, 0o600, 0o700), (0o2750, 0o600, 0o2700)]
)
def test_what_is_written_in_a_folder_of_a_group_is_the_groups_and_elsewhere_as_the_umask_says(
    tmp_path, mode, file, folder
):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    share_with_group(shared / "results", shared)
    write_json(shared / "results" / "x.json", {})
    assert stat.S_IMODE((shared / "results").stat().st_mode) == folder
    assert stat.S_IMODE((shared / "results" / "x.json").stat().st_mode) == file


def test_a_checkpoint_has_the_mode_of_any_other_file(tmp_path):
    torch = pytest.importorskip("torch")
    from harness.networks.checkpoint import save_tensors

    save_tensors(tmp_path / "a", {"x": torch.zeros(1)})
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts for another account")
def test_what_another_closed_is_refused_with_the_command_that_mends_it(tmp_path):
    folder = tmp_path / "begun"
    folder.mkdir()
    (folder / "train.jsonl").touch()
    closed = {path: path.stat().st_mode for path in tmp_path.parents if not path.stat().st_mode & 0o001}
    for path in (*closed, tmp_path, folder, folder / "train.jsonl"):
        path.chmod(path.stat().st_mode | 0o077)
    os.setresuid(65534, 65534, 0)
    try:
        check_open(folder)
        check_open(folder / "missing")
        os.setresuid(0, 0, 0)
        (folder / "train.jsonl").chmod(0o644)
        os.setresuid(65534, 65534, 0)
        check_open(folder, os.R_OK)
        with pytest.raises(UserError, match=rf"train.jsonl: belongs to root and is closed to you; .*g\+rwX {folder}$"):
            check_open(folder)
        os.setresuid(0, 0, 0)
        tmp_path.chmod(0o700)
        os.setresuid(65534, 65534, 0)
        with pytest.raises(UserError, match=rf"^{tmp_path}: belongs to root and is closed to you; .*g\+x {tmp_path}$"):
            check_open(folder)
    finally:
        os.setresuid(0, 0, 0)
        for path, mode in closed.items():
            path.chmod(mode)
