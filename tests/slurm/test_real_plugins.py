"""Plug-ins through a real SLURM: a file travels with the code, a package is that of the node."""

import json
import shutil

import pytest
from support.places import ROOT
from support.plugin_files import documented_term
from support.real_slurm import harness, queued_jobs, wait_for, write_profile

pytestmark = [pytest.mark.integration, pytest.mark.slow]
PACKAGE = ROOT / "tests" / "support" / "second_package"


def install(folder, version):
    """Put the second package where both this machine and the nodes see it, as an installer would."""
    if not folder.exists():
        shutil.copytree(PACKAGE / "src", folder)
    facts = folder / "second_method.dist-info"
    facts.mkdir(exist_ok=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: second-method\nVersion: {version}\n")
    points = (PACKAGE / "pyproject.toml").read_text().split('[project.entry-points."')[1:]
    lines = "".join(f"[{part.partition('[tool')[0]}".replace('"]', "]").replace('"', "") for part in points)
    (facts / "entry_points.txt").write_text(lines)


def test_rows_of_plugins_are_made_on_the_nodes_by_the_code_that_was_sent(study, tmp_path):
    site, grid = tmp_path / "site", tmp_path / "mine.yaml"
    install(site, "1.0")
    (tmp_path / "near_times.py").write_text(documented_term())
    text = (PACKAGE / "src" / "second_method" / "grids" / "blobs.yaml").read_text()
    text = text.replace("[none, Centred]", "[none, Centred, Near times]").replace(
        "vary:", "    Near times: {terms: {near: {kind: near-times, lambda: 0.5}}}\nvary:"
    )
    grid.write_text("plugins: [near_times.py]\n" + text)
    shutil.copytree(PACKAGE / "src" / "second_method" / "grids" / "scales", tmp_path / "scales")
    path = f"{ROOT}:{site}"
    profile = write_profile(tmp_path, "mine", setup=[f"export PYTHONPATH={site}"])
    harness(tmp_path, "submit", "mine.yaml", "--scale", "blobs", "--study", study, *profile, PYTHONPATH=path)
    (tmp_path / "near_times.py").write_text("raise SystemExit('edited while it waited')")
    wait_for(lambda: not queued_jobs(study))
    harness(tmp_path, "report", study)
    report = json.loads((tmp_path / "reports" / study / "report.json").read_text())
    rows = {cell["at"]["method"]: cell["ours"] for cell in report["tables"][0]["cells"]}
    assert {name: len(ours["seeds"]) for name, ours in rows.items()} == {"none": 2, "Centred": 2, "Near times": 2}
