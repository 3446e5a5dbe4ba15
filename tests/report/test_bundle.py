"""A study in one archive: equal bytes from an equal study, the same report elsewhere, and no way out of its folder."""

import json
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import synthetic_study as synthetic

from harness.cli import cli
from harness.config import imported_weights as imported
from harness.errors import UserError
from harness.report import archive as opening
from harness.report import bundle as bundling
from harness.report.bundle import bundle, report_bundle, unpack
from harness.store.store import Store

NAMES = ("table2", "convergence")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A folder with grids and a study, in which the test stands."""
    shutil.copytree(synthetic.GRIDS, tmp_path / "here" / "grids")
    monkeypatch.chdir(tmp_path / "here")
    store = Store(Path("results"), Path("scratch"), "synthetic")
    synthetic.full_study(store, [synthetic.table_of(name) for name in NAMES])
    synthetic.write_heartbeat(store, synthetic.table_of("table2").runs[0])
    return store


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_opens_elsewhere_to_the_same_report(
    project: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "study.zip"
    bundle(project, Path("reports"), archive)
    first = archive.read_bytes()
    bundle(project, Path("reports"), archive)
    assert archive.read_bytes() == first
    made_here = files(Path("reports/synthetic"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    done = CliRunner().invoke(cli, ["report", str(archive)], catch_exceptions=False)
    assert done.exit_code == 0
    assert files(elsewhere / "reports" / "bundles" / "study") == made_here
    names = zipfile.ZipFile(archive).namelist()
    assert not [name for name in names if "heartbeat" in name]
    assert {name.partition("/")[0] for name in names} == {"grids", "results", "reports"}
    by_hand = tmp_path / "by hand"
    zipfile.ZipFile(archive).extractall(by_hand)
    monkeypatch.chdir(by_hand)
    shutil.rmtree("reports")
    assert CliRunner().invoke(cli, ["report", "synthetic"], catch_exceptions=False).exit_code == 0
    assert files(Path("reports/synthetic")) == made_here


@pytest.mark.parametrize("limit", ["MOST_ITEMS", "LARGEST_RECORDS", "MOST_ENTRIES"])
def test_what_could_not_be_opened_is_not_packed(
    limit: str, project: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, limit, 10)
    with pytest.raises(UserError, match=rf"^{tmp_path}/study.zip: .*at most"):
        bundle(project, Path("reports"), tmp_path / "study.zip")
    assert not (tmp_path / "study.zip").exists()


@pytest.mark.parametrize("link", ["bundles", "bundles/study", "bundles/study/tables"])
def test_a_bundle_is_not_opened_through_a_link(link: str, project: Store, tmp_path: Path) -> None:
    path = bundle(project, Path("reports"), tmp_path / "study.zip").path
    (tmp_path / "elsewhere").mkdir()
    place = tmp_path / "received" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=rf"{place}: a link to {tmp_path}/elsewhere"):
        report_bundle(path, tmp_path / "received")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_grids_from_any_folder_are_packed_and_open_to_the_same_report(project: Store, tmp_path: Path) -> None:
    Path("grids").rename(tmp_path / "kept elsewhere")
    for name in NAMES:
        project.record_grid(name, tmp_path / "kept elsewhere" / f"{name}.yaml", "digits", [])
    path = bundle(project, Path("reports"), tmp_path / "study.zip").path
    with zipfile.ZipFile(path) as archive:
        record = json.loads(archive.read("results/synthetic/grids/table2.json"))
        names = {f"kept elsewhere/{name}" for name in ("table2.yaml", "scales/digits.yaml", "presets/paper.yaml")}
        assert names < set(archive.namelist())
    assert record["grid"] == "kept elsewhere/table2.yaml"
    report_bundle(path, tmp_path / "reports")
    assert files(tmp_path / "reports" / "bundles" / "study") == files(Path("reports/synthetic"))


def test_a_bundle_is_opened_with_its_own_imported_weights(
    project: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folders = bundle(project, Path("reports"), tmp_path / "study.zip").path, []
    monkeypatch.setenv("HARNESS_WEIGHTS", "/nowhere")
    monkeypatch.setattr(bundling, "make_report", lambda *_: folders.append(imported.folder()))
    report_bundle(path, tmp_path / "reports")
    assert folders == [Path("weights")]
    assert imported.folder() == Path("/nowhere")


@pytest.mark.parametrize(
    "name",
    ["../out.txt", "results/../../out.txt", "/out.txt", "C:/out.txt", "a\\..\\out.txt", "a//b", "./a", "link"],
)
def test_a_name_that_leaves_the_folder_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    archive, folder = tmp_path / "bad.zip", tmp_path / "inner" / "folder"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("results/s/grids/t.json", "{}")
        entry = zipfile.ZipInfo("x")
        entry.filename = name
        if name == "link":
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(entry, "../../out.txt")
    with pytest.raises(UserError, match="would leave its folder"):
        unpack(archive, folder)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bad.zip"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"no zip", "cannot be read as a bundle"), ({}, "found 0"),
     ({"results/a/grids/t.json": "{}", "results/b/grids/t.json": "{}"}, "found 2")],
)  # fmt: skip
def test_what_is_no_bundle_is_told(tmp_path: Path, content: bytes | dict[str, str] | None, message: str) -> None:
    archive = tmp_path / "other.zip"
    if isinstance(content, bytes):
        archive.write_bytes(content)
    if isinstance(content, dict):
        with zipfile.ZipFile(archive, "w") as opened:
            for name, text in content.items():
                opened.writestr(name, text)
    with pytest.raises(UserError, match=message):
        unpack(archive, tmp_path / "folder")
