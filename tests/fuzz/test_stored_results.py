"""Stored results and bundles of somebody else: each spoiled file costs its own cell, or the command one line."""

import csv
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from support import synthetic_study as synthetic
from support.fuzzing import SCALARS, Content, command, mutated, spliced
from support.places import GRIDS

from harness.store.records import KEYS

pytestmark = pytest.mark.fuzz
STUDY = "synthetic"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small study: measured, one failed, one training; and its bundle."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(GRIDS, folder / "grids")
    store, table = synthetic.new_store(folder, STUDY), synthetic.table_of("table3", "smoke")
    synthetic.full_study(store, [table])
    failed, training = table.runs[-1], table.runs[-2]
    for run in (failed, training):
        store.eval_path(run.train_id, run.eval_id).unlink()
    synthetic.write_error(store, failed, "RuntimeError", "no", "Traceback (most recent call last):\n")
    synthetic.write_heartbeat(store, training)
    command(folder, "bundle", STUDY)
    return folder


def files_of(folder: Path) -> list[Path]:
    return sorted(p for place in ("results", "scratch") for p in (folder / place).rglob("*") if p.is_file())


def mutations(path: Path) -> st.SearchStrategy[bytes]:
    """Return what may become of a file's bytes."""
    text = path.read_bytes()
    try:
        trees = mutated(json.loads(text)).map(lambda tree: json.dumps(tree, ensure_ascii=True).encode())
    except ValueError:
        return spliced(text)
    return trees | spliced(text)


def check_numbers(folder: Path) -> None:
    """What `collect` writes is what the files hold, read without the harness."""
    outcome = command(folder, "collect", STUDY)
    if outcome.code:
        return
    with (folder / f"reports/{STUDY}/results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row.get("metric") == "fid" and row["value"]:
            path = folder / f"results/{STUDY}/{row['train_id']}/evals/{row['eval_id']}.json"
            assert float(row["value"]) == json.loads(path.read_bytes())["metrics"]["fid"]


def test_a_spoiled_file_is_told_and_changes_no_other_number(whole: Path, tmp_path: Path, explore: Any) -> None:
    files = [path.relative_to(whole) for path in files_of(whole)]
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)

    def check(drawn: tuple[Path, bytes]) -> None:
        path, content = drawn
        (folder / path).write_bytes(content)
        try:
            command(folder, "status", STUDY)
            command(folder, "status", STUDY, "--json")
            command(folder, "report", STUDY)
            check_numbers(folder)
        finally:
            shutil.copyfile(whole / path, folder / path)

    spoiled = st.sampled_from(files).flatmap(lambda path: st.tuples(st.just(path), mutations(whole / path)))
    explore(check, spoiled, 40)


def many_lines() -> str:
    numbers = ",".join(f'"{key}":{0.1 + index}' for index, key in enumerate(KEYS))
    return "".join(f'{{"step":{step},{numbers}}}\n' for step in range(30_000))


def of_an_evaluation(**changes: Any) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | changes)


# What may stand in each file of a kind, as heavy as it is still read or just not.
HEAVY: dict[str, tuple[str, Callable[[str], str]]] = {
    "a log of many lines": ("train.jsonl", lambda _: many_lines()),
    "a log of one line": ("train.jsonl", lambda _: '{"step":1' + "".join(f',"{k:x}":1' for k in range(900_000)) + "}"),
    "a mapping of mappings": ("evals/", of_an_evaluation(spec={f"k{k}": {"a": k} for k in range(30_000)})),
    "metrics with long names": ("evals/", of_an_evaluation(metrics={f"{k}{'m' * 190}": 1.5 for k in range(990)})),
    "a long message": ("error.json", of_an_evaluation(message="m." * 3_900_000)),
}


@pytest.mark.parametrize("kind", HEAVY)
def test_a_heavy_bundle_takes_no_more_memory_than_any_other(whole: Path, tmp_path: Path, kind: str) -> None:
    place, heavy = HEAVY[kind]
    with zipfile.ZipFile(whole / f"{STUDY}.zip") as packed:
        members = {name: packed.read(name).decode() for name in packed.namelist() if not name.endswith(".png")}
    runs = sorted({name.rpartition("/evals/")[0] for name in members if "/evals/" in name})
    members |= {f"{run}/train.jsonl": "" for run in runs[:2]}
    members |= {
        name: heavy(text) for name, text in members.items() if place in name and name.endswith(("json", "jsonl"))
    }
    with zipfile.ZipFile(tmp_path / "given.zip", "w") as packed:
        for name, text in members.items():
            packed.writestr(name, text)
    command(tmp_path, "report", "given.zip")


@st.composite
def bundles(draw: st.DrawFn, archive: bytes) -> bytes:
    """Draw a bundle of which the archive, a member's content or a member's name is another."""
    if draw(st.booleans()):
        return draw(spliced(archive))
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    name = draw(st.sampled_from(sorted(members)))
    kind = draw(st.sampled_from(("content", "name", "remove", "bomb")))
    if kind == "content" and name.endswith(".json"):
        tree = draw(mutated(json.loads(members[name])))
        members[name] = json.dumps(tree).encode()
    elif kind == "bomb":
        members[name] = b"[" * draw(st.sampled_from((10_000, 50_000_000)))
    elif kind == "name":
        names = [str(scalar) for scalar in SCALARS if isinstance(scalar, str) and scalar and "\udcff" not in scalar]
        place = Path(name).parent / "x"
        members[draw(st.sampled_from([*names, *(f"{place.parent}/{n}.json" for n in names)]))] = members.pop(name)
    else:
        del members[name]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return Content(file.getvalue())


def test_a_bundle_is_opened_or_refused_and_writes_nothing_outside(whole: Path, tmp_path: Path, explore: Any) -> None:
    archive = (whole / f"{STUDY}.zip").read_bytes()

    def check(content: bytes) -> None:
        shutil.rmtree(tmp_path, ignore_errors=True)
        inside = tmp_path / "a" / "b"
        inside.mkdir(parents=True)
        (inside / "given.zip").write_bytes(content)
        command(inside, "report", "given.zip")
        assert [path.name for path in (*tmp_path.iterdir(), *inside.parent.iterdir())] == ["a", "b"]
        assert {path.name for path in inside.iterdir()} <= {"given.zip", "reports", "given"}

    explore(check, bundles(archive), 40)
