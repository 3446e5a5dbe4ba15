"""A run knows the code that made it, also where it was not committed."""

import subprocess

from harness.jobs.provenance import source


def test_uncommitted_changes_are_kept_beside_the_run(tmp_path):
    package = tmp_path / "clone" / "harness"
    package.mkdir(parents=True)
    (package / "cli.py").write_text("before\n")

    def git(*words):
        who = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *who, "-C", tmp_path / "clone", *words], check=True, capture_output=True).stdout

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "m")
    run = tmp_path / "run"
    clean = source(run, package)
    assert (clean["dirty"], clean["diff"]) == (False, None)
    assert clean["commit"] == git("rev-parse", "HEAD").decode().strip()
    (package / "cli.py").write_text("after\n")
    dirty = source(run, package)
    assert dirty["dirty"] is True
    git("checkout", "-q", ".")
    git("apply", str(run / dirty["diff"]))
    assert (package / "cli.py").read_text() == "after\n"
