"""README and docs: short where they should be, every link leads somewhere, every command is one, and numbers are the
report's."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support.command_line import leaves
from support.places import ROOT

from harness import cli

README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = leaves(cli.cli)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the harness's commands in a page's blocks of shell, a continued line as one, without what follows them."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for command in " ".join(shlex.split(line, comments=True, posix=False)).split("&&"):
                words = shlex.split(command)
                if words and words[0] == "harness":
                    yield words[1:]


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
