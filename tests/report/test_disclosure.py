"""What a bundle tells of its makers is said, left out where that is wanted, and secrets stop it."""

import json
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import synthetic_study as synthetic

from harness.cli import cli
from harness.errors import UserError
from harness.files import write_json
from harness.report.bundle import bundle
from harness.report.disclosure import gives_away
from harness.store.store import Store

TOKEN = "hf_" + "a1B2c3D4e5" * 3
TRACE = 'Traceback (most recent call last):\n  File "/home/alice/harness/x.py", line 3, in f\nOSError: no\n'
GIVEN_AWAY = ("alice", "node17", "/home/", "gpu-rack", "Traceback", "diff --git", "4242")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A study in whose project the test stands, one run of which failed on somebody's node with uncommitted changes."""
    project = tmp_path / "here"
    (project / "grids" / "scales").mkdir(parents=True)
    for name in ("table3.yaml", "scales/smoke.yaml"):
        (project / "grids" / name).write_bytes((synthetic.GRIDS / name).read_bytes())
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "paper.yaml").write_bytes((synthetic.GRIDS / "presets" / "paper.yaml").read_bytes())
    (tmp_path / "private" / "config.yaml").write_text("secret-of-a-cluster")
    (project / "grids" / "presets").symlink_to(tmp_path / "private")
    monkeypatch.chdir(project)
    store, table = Store(Path("results"), Path("scratch"), "one"), synthetic.table_of("table3", "smoke")
    synthetic.full_study(store, [table])
    failed = table.runs[-1]
    store.eval_path(failed.train_id, failed.eval_id).unlink()
    synthetic.write_error(store, failed, "bug", "OSError: /home/alice/data on node17 is full", TRACE)
    folder = store.run_folder(failed.train_id)
    attempt = {"start": "2026-11-21T09:23:55+00:00", "host": "node17", "device": "CPU", "slurm_job_id": "4242",
               "slurm": {"nodes": "gpu-rack[1-2]"}, "diff": "diff-0123456789ab.patch"}  # fmt: skip
    write_json(folder / "env.json", {"attempts": [attempt]})
    (folder / "diff-0123456789ab.patch").write_text("diff --git a/x b/x\n+alice\n")
    (folder / ".env").write_text("WANDB_API_KEY=" + TOKEN)
    (folder / "evals").mkdir(exist_ok=True)
    (folder / "evals" / ("0" * 12 + ".png")).symlink_to(tmp_path / "private" / "config.yaml")
    return store


def packed(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode(errors="replace") for name in archive.namelist()}


def call(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def test_a_bundle_holds_what_is_named_and_says_what_it_tells(study: Store) -> None:
    done = call("bundle", "one")
    assert done.exit_code == 0, done.output
    files = packed(Path("one.zip"))
    assert {name for name in files if name.startswith("grids/")} == {
        "grids/table3.yaml", "grids/scales/smoke.yaml", "grids/presets/paper.yaml"
    }  # fmt: skip
    assert not any(".env" in name or "secret-of-a-cluster" in text for name, text in files.items())
    for words in ("names of hosts: 2", "node17", "alice", "/home/alice", "uncommitted changes: 1", "tracebacks: 1"):
        assert words in done.output
    assert "--anonymous" in done.output


def test_an_anonymous_bundle_tells_nothing_and_opens_to_the_same_numbers(study: Store, tmp_path: Path) -> None:
    whole = bundle(study, Path("reports"), tmp_path / "whole.zip")
    own = Path("reports/one/index.html").read_bytes()
    told = bundle(study, Path("reports"), tmp_path / "anonymous.zip", anonymous=True)
    assert whole.gives_away
    assert not told.gives_away
    assert Path("reports/one/index.html").read_bytes() == own
    files = packed(told.path)
    for name, text in files.items():
        assert not [words for words in GIVEN_AWAY if words in text], name
        assert not list(gives_away(name, text.encode())) or name.startswith("reports/"), name
    numbers = [packed(path)["reports/one/results.csv"].splitlines() for path in (whole.path, told.path)]
    same = [a == b for a, b in zip(*numbers, strict=True)]
    assert same.count(False) == 1  # that of the failure, whose message is another
    assert call("report", str(told.path)).exit_code == 0
    assert Path("reports/bundles/anonymous/results.csv").read_text().splitlines() == numbers[1]


PLACES = {
    "message": "error.json", "traceback": "error.json", "log": "train.jsonl", "changes": "diff-0123456789ab.patch"
}  # fmt: skip
WORDS = (
    f'wandb.login(key="{TOKEN[3:]}")', f"machine api.wandb.ai\nlogin user\npassword {TOKEN[3:]}",
    f"x --token={TOKEN[3:]}", f"WANDB_API_KEY is {TOKEN[3:]}",
)  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("words", WORDS)
def test_a_secret_of_any_form_stops_the_packing_wherever_it_is(
    study: Store, place: str, words: str, tmp_path: Path
) -> None:
    path = next(study.root.glob("*/error.json")).with_name(PLACES[place])
    if path.suffix == ".json":
        write_json(path, json.loads(path.read_text()) | {place: f'in "x":\n{words}\n'})
    elif place == "log":
        path.write_text(json.dumps({"step": 1, "note": words}) + "\n")
    else:
        path.write_text("diff --git a/x b/x\n" + "".join(f"+{line}\n" for line in words.split("\n")))
    with pytest.raises(UserError, match=rf"{path.name}:\d: looks like a .* was not packed") as refused:
        bundle(study, Path("reports"), tmp_path / "x.zip")
    assert TOKEN[3:] not in str(refused.value)


@pytest.mark.parametrize("kind", ["message", "changes", "grid"])
def test_a_secret_stops_the_packing_with_its_place(study: Store, kind: str, tmp_path: Path) -> None:
    folder = next(study.root.glob("*/error.json")).parent
    if kind == "message":
        content = {"class": "bug", "message": f"401 for {TOKEN}", "traceback": "", "step": None, "time": 0.0}
        write_json(folder / "error.json", content)
        place = r"error\.json:3"
    elif kind == "changes":
        (folder / "diff-0123456789ab.patch").write_text(f"diff --git a/x b/x\n+API_KEY='{TOKEN}'\n")
        place = r"patch:2"
    else:
        grid = Path("grids/table3.yaml")
        grid.write_text(f"# password=hunter22\n{grid.read_text()}")
        place = r"grids/table3\.yaml:1"
    with pytest.raises(UserError, match=f"{place}: looks like a .* was not packed") as refused:
        bundle(study, Path("reports"), tmp_path / "x.zip")
    assert TOKEN not in str(refused.value)
    assert not (tmp_path / "x.zip").exists()


def test_a_token_in_a_message_is_in_no_output_of_a_report(study: Store) -> None:
    folder = next(study.root.glob("*/error.json")).parent
    content = json.loads((folder / "error.json").read_text()) | {"message": f"401 for {TOKEN}", "traceback": TOKEN}
    write_json(folder / "error.json", content)
    for words in (("report", "one"), ("collect", "one"), ("status", "one"), ("status", "one", "--json")):
        done = call(*words)
        assert done.exit_code == 0
        assert TOKEN not in done.output
    written = [path.read_bytes() for path in Path("reports").rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in content for content in written)
    assert any(b"secret left out" in content for content in written)


def test_a_bundle_overwrites_no_report_of_ones_own(study: Store, tmp_path: Path) -> None:
    path = bundle(study, tmp_path / "theirs", tmp_path / "one.zip").path
    own = Path("reports/one/index.html")
    own.parent.mkdir(parents=True)
    own.write_text("MINE")
    done = call("report", str(path))
    assert done.exit_code == 0
    assert own.read_text() == "MINE"
    assert [path.name for path in own.parent.iterdir()] == ["index.html"]
    assert "reports/bundles/one/index.html" in done.output


def test_a_grid_that_tells_a_path_cannot_be_made_anonymous(study: Store, tmp_path: Path) -> None:
    grid = Path("grids/table3.yaml")
    grid.write_text(f"# from /home/alice/old.yaml\n{grid.read_text()}")
    with pytest.raises(UserError, match=r"grids/table3\.yaml:1: --anonymous: tells a path"):
        bundle(study, Path("reports"), tmp_path / "x.zip", anonymous=True)
