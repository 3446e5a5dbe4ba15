"""What is built from the checkout, used where there is none; and what the package says of itself."""

import email
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from support.distributions import sdist_and_wheel, second_package
from support.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Prints what `import harness` loads, and then what the losses load beside torch, from the first folder of sys.path.
IMPORTS = """
import json, sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import harness
light = set(sys.modules) - before
import torch
before = set(sys.modules)
from harness import *
with tap(DispersiveLoss(), "") as features:
    more = {name for name in set(sys.modules) - before if not name.startswith(("torch.", "harness."))}
    loss = DispersiveLoss()(torch.ones(2, 3))
print(json.dumps([harness.__file__, sorted(light), sorted(more), float(loss), dir(harness)]))
"""


def outside(*command: str, folder: Path, **variables: str) -> str:
    """Return what a command prints in a folder where there is no checkout."""
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"} | variables
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    return sdist_and_wheel(tmp_path_factory.mktemp("distributions"))


@pytest.mark.slow
def test_the_wheel_of_the_sdist_is_whole_and_the_losses_in_it_need_torch_alone(tmp_path, distributions):
    sdist, wheel = distributions
    empty, site = tmp_path / "empty", tmp_path / "site"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    files = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    ours = [path for path in (ROOT / "harness").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {str(path.relative_to(ROOT)) for path in ours} <= files
    assert {
        "harness/py.typed",
        "harness/shipped/grids/table2.yaml",
        "harness/shipped/grids/presets/paper.yaml",
    } <= files
    assert not [name for name in files if not name.startswith(("harness/", "dispersive_harness-"))]
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"docs/library.md", "docs/examples/plain_loop.py", "CITATION.cff", "LICENSE", "README.md"} <= names
    assert not [name for name in names if name.startswith(("tests/", "results", "reports"))]
    where, light, more, loss, public = json.loads(outside(sys.executable, "-c", IMPORTS, str(site), folder=empty))
    assert Path(where) == site / "harness" / "__init__.py"
    assert {name.partition(".")[0] for name in light} <= sys.stdlib_module_names | {"harness"}
    assert more == []
    assert loss == 0
    assert {"ContrastiveLoss", "DispersiveLoss", "tap"} <= set(public)
    (facts,) = site.glob("*.dist-info")
    metadata = email.message_from_string((facts / "METADATA").read_text("utf-8"))
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["License-Expression"] == "MIT"
    assert (facts / "licenses" / "LICENSE").is_file()
    for header in ("Author", "Keywords", "Classifier", "Project-URL", "Requires-Python"):
        assert metadata.get_all(header), header
    version = f"import sys; sys.path.insert(0, {str(site)!r}); from harness.cli import main; main()"
    assert outside(sys.executable, "-c", version, "--version", folder=empty).strip() == PROJECT["version"]


def test_the_citation_is_of_this_version_and_of_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what the format demands
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    assert [reference["url"] for reference in citation["references"]] == [PROJECT["urls"]["Paper"]]


@pytest.mark.slow
def test_a_second_package_brings_a_term_a_data_set_a_metric_and_a_grid(tmp_path, distributions):
    """In an empty folder, beside the wheel: its rows have numbers with intervals, and are its version's."""
    empty, site = tmp_path / "empty", tmp_path / "site"
    empty.mkdir()
    for wheel in (distributions[1], second_package(tmp_path)):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)

    def harness(*words: str) -> str:
        return outside(sys.executable, "-m", "harness.cli", *words, folder=empty, PYTHONPATH=str(site))

    def identities() -> list[str]:
        return re.findall(r"\b[0-9a-f]{12}\b", harness("plan", *grid))

    def release(package: str, version: str) -> None:
        (facts,) = site.glob(f"{package}-*.dist-info/METADATA")
        lines = facts.read_text("utf-8").splitlines()
        facts.write_text("\n".join(f"Version: {version}" if line.startswith("Version:") else line for line in lines))

    grid = str(site / "second_method" / "grids" / "blobs.yaml"), "--scale", "blobs"
    harness("run", *grid, "--jobs", "2")
    harness("report", "blobs")
    report = json.loads((empty / "reports" / "blobs" / "report.json").read_text("utf-8"))
    (cells,) = (table["cells"] for table in report["tables"])
    (row,) = (cell for cell in cells if cell["at"] == {"method": "Centred"})
    assert len(row["ours"]["seeds"]) == 2
    assert row["change"]["interval"]["low"] < row["change"]["percent"] < row["change"]["interval"]["high"]
    page = (empty / "reports" / "blobs" / "index.html").read_text("utf-8")
    assert "brightness gap" in page
    assert "Runs &lt;of&gt; each row" in page
    assert "Counted by the second package." in page
    before = identities()
    release("dispersive_harness", "99.0")
    assert identities() == before
    release("second_method", "1.1")
    assert len(before) == 8
    assert not set(before) & set(identities())
    # The study is that of version 1.0, and opens without the package.
    for path in site.glob("second_method*/*.*"):
        if path.suffix != ".yaml":
            path.unlink()
    harness("report", "blobs")
    assert "This section is of a plug-in that is not here" in (empty / "reports/blobs/index.html").read_text("utf-8")
    again = json.loads((empty / "reports" / "blobs" / "report.json").read_text("utf-8"))
    assert again["tables"] == report["tables"]
