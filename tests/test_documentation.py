"""README and docs: short where they should be, every link leads somewhere, every command is one, and numbers are the
report's."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pytest
from support.command_line import leaves
from support.places import ROOT

from harness import cli

README = (ROOT / "README.md").read_text("utf-8")
FOUND = " ".join((ROOT / "docs" / "found.md").read_text("utf-8").split())
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = leaves(cli.cli)


def blocks(page: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Yield each block of shell: its commands, and the beginnings of those that tests leave out, with their reasons."""
    left_out = r"(?:^<!-- Tests leave these out\.\n(.*?)^-->\n)?"
    for reasons, block in re.findall(f"{left_out}^```sh\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        lines = [" ".join(shlex.split(line, True, False)) for line in block.replace("\\\n", " ").splitlines()]
        words = [command.strip() for line in lines for command in line.split("&&")]
        yield [w for w in words if w], dict(reason.split(": ", 1) for reason in reasons.splitlines())


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the harness's commands in a page's blocks of shell, a continued line as one, without what follows them."""
    for words in (shlex.split(command) for block, _ in blocks(page) for command in block):
        if words[0] == "harness":
            yield words[1:]


def is_left_out(command: str, beginnings: Iterable[str]) -> bool:
    """Tell whether a command begins so; what is a dry run never is."""
    return "--dry-run" not in command and any(f"{command} ".startswith(f"{words} ") for words in beginnings)


def test_the_readme_is_short_and_leads_to_every_page():
    assert len(README.split()) <= 900
    for page in PAGES[1:]:
        assert f"]({page.relative_to(ROOT)})" in README, page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_commands_are_understood(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link
    for words in commands(page):
        path = next(path for path in COMMANDS if tuple(words[: len(path)]) == path)
        _, left, _ = COMMANDS[path].make_parser(click.Context(COMMANDS[path])).parse_args(words[len(path) :])
        assert not [word for word in left or () if word.startswith("--")], words


def test_the_readme_says_what_the_report_found():
    report = json.loads((ROOT / "reports" / "digits" / "report.json").read_text("utf-8"))
    (table,) = (table for table in report["tables"] if table["name"] == "table2")
    (cell,) = (cell for cell in table["cells"] if cell["at"] == {"loss": "InfoNCE, ℓ2", "arm": "dispersive"})
    change, interval = cell["change"]["percent"], cell["change"]["interval"]
    ours = f"FID worse by {change:.0f} % (95 % interval {interval['low']:.0f} to {interval['high']:.0f}"
    assert change > 0
    assert len(cell["ours"]["seeds"]) == 5
    words = " ".join(README.split())
    assert f"{ours}, five seeds)" in words
    assert f"better by {-cell['paper']['percent']:.0f} %" in words


@pytest.mark.parametrize(
    ("study", "table", "cell", "words"),
    [
        ("rivals", "table8", "SRA 2", "SRA 2 makes it better by {size:.0f} % ({least:.0f} to {most:.0f})"),
        ("rivals", "table8", "REPA", "REPA by {size:.0f} % ({least:.0f} to {most:.0f})"),
        (
            "overfitting",
            "overfitting-5000",
            "τ 0.5, 1442",
            "{change:+.1f} % ({low:+.1f} to {high:+.1f})",
        ),
        ("overfitting", "overfitting-5000", "τ 0.5, 200", "{change:+.1f} % ({low:+.1f} to {high:+.1f})"),
    ],
)
def test_what_was_found_is_what_the_reports_say(study, table, cell, words):
    report = json.loads((ROOT / "reports" / study / "report.json").read_text("utf-8"))
    (found,) = (
        c for t in report["tables"] if t["name"] == table for c in t["cells"] if ", ".join(c["at"].values()) == cell
    )
    change, interval = found["change"]["percent"], found["change"]["interval"]
    least, most = sorted(abs(end) for end in interval.values())
    numbers = {"size": abs(change), "least": least, "most": most, "change": change, **interval}
    assert words.format(**numbers).replace("-", "−") in FOUND


def test_what_was_found_of_the_held_out_loss_is_what_the_report_says():
    report = json.loads((ROOT / "reports" / "overfitting" / "report.json").read_text("utf-8"))
    claims = {claim["says"]: claim["change"] for claim in report["stated_claims"]}
    for arm, words in (
        ("τ 0.5", "by {:.1f} % ({:.1f} to {:.1f});"),
        ("weight decay", "by {:.1f} % ({:.1f} to {:.1f}) with"),
    ):
        change = claims[f"With 200 images {arm} lowers the held-out loss after 400 epochs."]
        ends = sorted(-end for end in change["interval"].values())
        assert words.format(-change["percent"], *ends) in FOUND


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A copy of what a clone of the project has beside its code, few programs, no SLURM, and the digits' classifier."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "bin").mkdir()
    (folder / "scratch").mkdir()
    (folder / "scratch" / ".cache").symlink_to(cache)
    for program in ("bash", "cp", "git"):
        (folder / "bin" / program).symlink_to(shutil.which(program) or program)
    for name in ("grids", "clusters", "results"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=lambda page: page.name)
def test_commands_do_what_they_should_in_their_order(page, clone, monkeypatch, capfd):
    """Those that need no cluster, GPU, download or long training; of the others the page's source says why not."""
    monkeypatch.chdir(clone)
    monkeypatch.setenv("PATH", str(clone / "bin"))
    for block, reasons in blocks(page):
        for beginning in reasons:
            assert any(is_left_out(command, [beginning]) for command in block), beginning
        for command in block:
            if not is_left_out(command, reasons):
                assert run(command, monkeypatch) == 0, (command, capfd.readouterr())
    (clone / "clusters" / "ours.yaml").unlink(missing_ok=True)


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command as a shell would, the harness's in this process, and return its exit code."""
    if not command.startswith("harness "):
        return subprocess.run(["bash", "-c", command], check=False).returncode
    words = [word for pattern in shlex.split(command) for word in (sorted(map(str, Path().glob(pattern))) or [pattern])]
    monkeypatch.setattr(sys, "argv", words)
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
