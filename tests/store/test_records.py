"""Each file of a run has one schema: what is committed is read by it, older files by its rules, newer ones never."""

import json
import os
from datetime import UTC, datetime

import pytest
from support.places import ROOT
from support.synthetic_study import new_store, table_of

from harness.config.spec import canonical, eval_id, train_id
from harness.errors import UserError
from harness.files import read_json, write_json
from harness.store.records import (
    LOG,
    LONGEST_TEXT,
    SCHEMA_VERSION,
    TAIL,
    DamagedRecord,
    EncoderRecord,
    Environment,
    Failure,
    GridRecord,
    Heartbeat,
    Measurement,
    ModelFacts,
    NewerRecord,
    Probe,
    SpecFile,
    Submission,
    SubmitOptions,
    UnreadableRecord,
    last_speeds,
    measurement_paths,
    read_log,
    read_spec,
    write_spec,
)
from harness.store.status import run_result, run_status

FOLDERS = sorted((ROOT / "results" / "digits").glob("[0-9a-f]*/"))
HEARTBEAT = {"phase": "training", "step": 7, "total": 9, "time": 0.0, "host": "elsewhere", "pid": 1}
FACTS = {"parameters": 12, "projector_parameters": None, "encoder": None}
PROTOCOL = {"features": "f", "generated": 10, "reference": "r", "reference_count": 20}
MEASUREMENT = {"train_id": "0" * 12, "eval_id": "1" * 12, "metrics": {"fid": 1.5}, "protocol": PROTOCOL, "nfe": 2}
WHOLE = {
    SpecFile: {"process": "flow"},
    Environment: {"attempts": [{"start": "2026-11-21T05:00:00+00:00", "host": "h", "device": "Some CPU"}]},
    Heartbeat: HEARTBEAT,
    Failure: {"class": "bug", "message": "no", "traceback": "", "step": None, "time": 0.0},
    ModelFacts: FACTS,
    Measurement: MEASUREMENT,
    Probe: {"protocol": {"encoder": None}, "levels": [{"noise": 0.1, "blocks": []}]},
    GridRecord: {"grid": "grids/table2.yaml", "scale": "digits", "set": []},
    Submission: {
        "token": "study-0",
        "index": 3,
        "evaluations": ["1" * 12],
        "time": 0.0,
        "job": None,
        "cancelled": False,
    },
    SubmitOptions: {"profile": "ours", "data": "data"},
}


def place_of(kind, folder):
    return folder if kind.FILE else folder / "record.json"


def write(kind, folder, content):
    write_json(place_of(kind, folder) / kind.FILE, content)
    return place_of(kind, folder)


def stored(kind, folder):
    """Return the files of a committed run that a model reads, with what it reads of them."""
    if kind in (Measurement, Probe):
        paths = measurement_paths(folder) if kind is Measurement else folder.glob("probe-*.json")
        return {path: kind.load(path) for path in paths}
    path = folder / kind.FILE
    return {path: kind.load(folder)} if path.is_file() else {}


@pytest.mark.parametrize("kind", [SpecFile, Environment, ModelFacts, Measurement, Probe])
def test_every_committed_file_is_read_and_written_with_all_that_it_holds(kind, tmp_path):
    files = {path: record for folder in FOLDERS for path, record in stored(kind, folder).items()}
    assert len(files) >= 100
    for path, record in files.items():
        record.write(place_of(kind, tmp_path))
        written = read_json(place_of(kind, tmp_path) / kind.FILE)
        assert written == {"schema_version": SCHEMA_VERSION} | read_json(path), path


def test_committed_specs_are_those_of_their_places():
    for folder in FOLDERS:
        train = read_spec(folder)
        assert train_id(train) == folder.name
        for path in measurement_paths(folder):
            assert eval_id(train_id(train), Measurement.load(path).evaluation) == path.stem


def test_committed_grids_are_read():
    for path in (ROOT / "results" / "digits" / "grids").glob("*.json"):
        record = GridRecord.load(path)
        assert record.grid.endswith(f"{path.stem}.yaml")
        assert record.content == {"schema_version": SCHEMA_VERSION} | read_json(path)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_says_its_version_and_a_newer_one_is_refused_in_one_line(kind, tmp_path):
    place = write(kind, tmp_path, WHOLE[kind])
    record = kind.load(place)
    record.write(place)
    assert read_json(place / kind.FILE) == {"schema_version": SCHEMA_VERSION} | WHOLE[kind]
    assert kind.load(place) == record  # of before there were versions, and of the first: the same
    for content in (WHOLE[kind], {}):  # whatever else it holds
        write(kind, tmp_path, content | {"schema_version": SCHEMA_VERSION + 1})
        for read in (kind.load, kind.read):
            with pytest.raises(NewerRecord, match=r"json: schema version 2 is of a newer harness; this one reads 1$"):
                read(place)


@pytest.mark.parametrize("kind", [kind for kind in WHOLE if kind not in (SpecFile, SubmitOptions)])
@pytest.mark.parametrize("torn", ['{"attem', "[]", '{"attempts": 3, "time": "late", "class": [], "grid": 1}'])
def test_a_file_that_is_torn_or_holds_something_else_is_damaged(kind, torn, tmp_path):
    place = place_of(kind, tmp_path)
    assert kind.load(place) is None
    (place / kind.FILE).write_text(torn)
    assert kind.read(place) is None
    with pytest.raises(DamagedRecord, match=r"^\S+/\S+\.json(: | is broken$)") as refused:
        kind.load(place)
    assert "\n" not in str(refused.value)


def test_a_spec_is_what_was_written_also_where_its_fields_are_none(tmp_path):
    for run in (*table_of("table2").runs, *table_of("table7a").runs):
        write_spec(tmp_path, run.train)
        assert read_spec(tmp_path) == run.train
        assert canonical(read_spec(tmp_path)) == canonical(run.train)
    (tmp_path / SpecFile.FILE).write_text('{"process": "flow"}')
    assert read_spec(tmp_path) is read_spec(tmp_path / "nowhere") is None


def test_a_measurement_of_a_newer_harness_is_neither_shown_nor_measured_again(tmp_path):
    store, run = new_store(tmp_path), table_of("table2").runs[0]
    path = store.eval_path(run.train_id, run.eval_id)
    write_json(path, {"schema_version": SCHEMA_VERSION + 1})
    for status in (run_status(store, run.train_id, run.eval_id), run_result(store, run)):
        assert status.state == "unreadable"
        assert status.reason == f"evals/{path.name}: schema version 2 is of a newer harness; this one reads 1"
    with pytest.raises(UserError, match="of a newer harness"):
        store.measured(run.train_id, run.eval_id)


# The log as series of numbers, and its last lines alone.


def log_lines(count: int) -> str:
    return "".join(
        json.dumps({"step": k, "loss": 1 / k, "images_per_second": float(k)}) + "\n" for k in range(1, count)
    )


def test_only_whole_and_finite_numbers_are_in_a_series(tmp_path):
    log = tmp_path / LOG
    log.write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": NaN}\n{"step": 1, "loss": 4}\n[]\n{"step": 3, "lo')
    assert read_log(log)["loss"] == ((1, 4.0),)
    assert read_log(log)["denoising"] == ()
    assert read_log(tmp_path / "none") == {key: () for key in read_log(log)}


@pytest.mark.parametrize("count", [2, 1000])
def test_the_last_speeds_are_those_of_the_last_whole_lines(tmp_path, count):
    log = tmp_path / LOG
    log.write_text(log_lines(count) + '{"step": 5000, "images_per')
    speeds = last_speeds(log)
    assert speeds == [float(k) for k in range(count - len(speeds), count)]
    assert len(speeds) == 1 or TAIL / 100 < len(speeds) < TAIL / 40
    assert last_speeds(tmp_path / "none") == []


# What older files lack.


def environment(*attempts):
    return Environment.model_validate_json(json.dumps({"attempts": attempts}))


@pytest.mark.parametrize(
    ("attempt", "devices", "unit"),
    [
        ({"device": "Intel(R) Xeon(R) Processor", "threads": 4}, 4, "core"),
        ({"device": "AMD EPYC 9454", "threads": 4, "processes": 2}, 8, "core"),
        ({"device": "NVIDIA H100", "threads": 4, "processes": 2}, 2, "GPU"),
        ({"device": "Tesla V100-SXM2", "threads": 4}, 1, "GPU"),
        ({"device": "AMD Instinct MI300X", "threads": 4}, 1, "GPU"),
        ({"device": "NVIDIA H100", "threads": 4, "processes": 2, "gpus": 0}, 8, "core"),
        ({"device": "Some Accelerator", "threads": 4, "processes": 2, "gpus": 2}, 2, "GPU"),
    ],
)
def test_devices_are_counted_by_what_was_recorded_and_else_by_their_name(attempt, devices, unit):
    last = environment({}, attempt).last
    assert (last.devices, last.unit) == (devices, unit)


def test_failures_of_before_their_classes_are_bugs_or_divergence(tmp_path):
    for content, kind in (({"class": "error"}, "bug"), ({}, "bug"), ({"class": "diverged"}, "diverged")):
        assert Failure.load(write(Failure, tmp_path, content | {"message": "m"})).kind == kind


def test_an_encoder_that_says_no_more_is_our_own_of_before():
    record = EncoderRecord(name="own-vit", parameters=1, sha256="ab")
    assert (record.published, record.images_seen, record.images) == (False, 0, 1)


START = "2026-11-21T05:00:00+00:00"


def at(hour, minute=0):
    return datetime(2026, 11, 21, hour, minute, tzinfo=UTC)


def hours_spent(*attempts, last_sign=None):
    return environment(*attempts).hours(last_sign)


def test_hours_of_attempts_by_hand():
    ended = {"start": START, "end": at(6).isoformat(), "device": "Intel", "threads": 2}  # before `processes` was kept
    killed = {"start": START, "end": None, "last_sign": at(5, 30).isoformat(), "device": "NVIDIA A100", "processes": 4}
    unknown = {"start": START, "end": None, "device": "Intel", "threads": 1}
    assert hours_spent(ended) == 2.0
    assert hours_spent(ended, killed) == 2.0 + 2.0
    assert hours_spent(killed | {"sharing": 4}) == 0.5  # of the GPUs' hours each of four trainings has a quarter
    assert hours_spent(unknown, ended) == 2.0
    assert hours_spent(ended, unknown, last_sign=at(5, 15).timestamp()) == 2.25


ODD = [
    (Heartbeat, {"pid": 2**70}), (Heartbeat, {"pid": 0}), (Heartbeat, {"pid": -1}), (Heartbeat, {"step": 2**70}),
    (Heartbeat, {"time": float("nan")}), (Heartbeat, {"time": 1e300}), (Heartbeat, {"step": -5}),
    (Failure, {"time": float("inf")}), (ModelFacts, {"parameters": 2**70}), (Measurement, {"nfe": 0}),
    (Measurement, {"protocol": PROTOCOL | {"generated": 10**30}}), (Measurement, {"seconds": {"sample": float("nan")}}),
    (Measurement, {"metrics": {str(index): 1 for index in range(2000)}}), 
    (Measurement, {"thumbnails": {"rows": 0, "columns": 1}}),
    (Measurement, {"protocol": PROTOCOL | {str(index): 1 for index in range(200)}}),
    (Environment, {"attempts": [{"processes": 0}]}), (Environment, {"attempts": [{"threads": 2**80}]}),
    (GridRecord, {"set": 5}), (GridRecord, {"grid": 7}), (GridRecord, {"set": [[]]}),
    (Submission, {"job": "1,2 --format=x"}), (Submission, {"job": "../../x"}), (Submission, {"job": "12_3\n"}),
    (Submission, {"evaluations": ["../x"]}), (Submission, {"index": -1}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "odd"), ODD)
def test_a_number_or_word_that_no_program_takes_is_damage(kind, odd, tmp_path):
    place = place_of(kind, tmp_path)
    (place / kind.FILE).write_text(json.dumps(WHOLE[kind] | odd))
    assert kind.read(place) is kind.peek(place) is None
    with pytest.raises(DamagedRecord) as refused:
        kind.load(place)
    assert str(refused.value).isprintable()


def test_a_job_of_slurm_is_named_by_its_numbers(tmp_path):
    for job in ("12", "12_3"):
        (tmp_path / Submission.FILE).write_text(json.dumps(WHOLE[Submission] | {"job": job}))
        assert Submission.load(tmp_path).job == job


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("spoil", [os.mkfifo, lambda path: path.mkdir(), lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_told_and_never_waited_for(kind, spoil, tmp_path):
    place = place_of(kind, tmp_path)
    spoil(place / kind.FILE)
    assert kind.peek(place) is None
    with pytest.raises(UnreadableRecord, match=r"not a plain file|Is a directory|larger than"):
        kind.load(place)


def test_texts_of_a_record_are_plain_and_without_secrets(tmp_path):
    token = "hf_" + "a1B2c3D4e5" * 3
    message = f"\x1b[31mred\x1b]0;title\x07 \x9b2J \u202egnp.exe\rover {token}"
    for ascii_only in (True, False):
        (tmp_path / Failure.FILE).write_text(
            json.dumps({"message": message, "traceback": "one\n\ttwo\n"}, ensure_ascii=ascii_only)
        )
        failure = Failure.load(tmp_path)
        assert failure.message.isprintable()
        assert token not in failure.message
        assert "\\u001b[31mred" in failure.message
        assert failure.traceback == "one\n\ttwo\n"
    (tmp_path / Failure.FILE).write_text(json.dumps({"message": f"over {token}", "traceback": "a token, and plain"}))
    assert Failure.load(tmp_path).message == "over [secret left out]"
    (tmp_path / Failure.FILE).write_text(r'{"message": "from https:\/\/me:hunter22@host"}')
    assert "hunter22" not in Failure.load(tmp_path).message
    (tmp_path / "x.json").write_text(json.dumps(MEASUREMENT | {"metrics": {"f\x1bid": 1.0}}))
    assert list(Measurement.load(tmp_path / "x.json").metrics) == ["f\\u001bid"]


def test_a_file_of_more_values_than_any_of_ours_is_damaged(tmp_path):
    for items, kept in ((99_000, True), (101_000, False)):
        (tmp_path / SubmitOptions.FILE).write_text(json.dumps({"profile": "p", "x": [0] * items}))
        assert (SubmitOptions.read(tmp_path) is not None) == kept


def test_a_long_text_is_read_without_its_middle_and_a_name_has_a_length(tmp_path):
    quoted = 'x"' * 1_000_000
    for message in ("m" * 2_000_000, quoted, "é" * 2_000_000):
        (tmp_path / Failure.FILE).write_text(json.dumps({"message": f"begin {message} end"}, ensure_ascii=False))
        read = Failure.load(tmp_path).message
        assert len(read) == LONGEST_TEXT + 1
        assert (read[:6], read[-4:]) == ("begin ", " end")
    for change in ({"metrics": {"m" * 300: 1.0}}, {"protocol": MEASUREMENT["protocol"] | {"features": "f" * 300}},
                   {"protocol": MEASUREMENT["protocol"] | {"k" * 300: 1}}):  # fmt: skip
        (tmp_path / "x.json").write_text(json.dumps(MEASUREMENT | change))
        with pytest.raises(DamagedRecord, match="200 characters"):
            Measurement.load(tmp_path / "x.json")


@pytest.mark.parametrize(
    "kept", [[1], "x", {"a": 1.0}, {"100": "x", "200": float("nan"), "300": True, "400": 5.5}, None]
)
def test_only_numbers_are_fids_of_fewer_images(kept, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(MEASUREMENT | {"details": {"fid_by_count": kept}}))
    by_count = Measurement.load(tmp_path / "x.json").fid_by_count
    assert by_count == ({400: 5.5} if isinstance(kept, dict) and "400" in kept else {})


def test_only_finite_numbers_of_a_log_are_shown(tmp_path):
    values = ["NaN", "Infinity", "1e999", "1" * 400, "true", '"3"', "[]", "null", "2.5"]
    log = "".join(f'{{"step": {step}, "loss": {value}}}\n' for step, value in enumerate(values))
    (tmp_path / LOG).write_text(log)
    assert read_log(tmp_path / LOG)["loss"] == ((8, 2.5),)
    (tmp_path / LOG).write_text(log.replace("loss", "images_per_second"))
    assert last_speeds(tmp_path / LOG) == [2.5]
