"""Whatever a text holds, a terminal shows it: no escape sequence, no markup; also where the output has another encoding
or 20 columns, a reader goes, or there is no room."""

import io
import json
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len
from support.jobs import submission
from support.synthetic_study import new_store, table_of, write_error
from support.terminal import on_terminal

from harness.commands.terminal import MANY, Screen, TextTable, say
from harness.launchers.queue_status import output_path
from harness.plain_text import escape_controls
from harness.store.store import Store

PLAN = (sys.executable, "-m", "harness.cli", "plan", "grids/table2.yaml", "--scale", "smoke")
# OSC 0 sets the window's title, OSC 52 the clipboard; CSI as two bytes and as one; right to left; a line separator; a
# byte of a file's name that is not UTF-8; markup of rich's that ends what nothing began; an emoji's code.
HOSTILE = "\x1b]0;mine\x07\x1b]52;c;eA==\x07\x1b[2J\x9b2J\u202e\u2028caf\udce9[/lib/x.so][bold red]OK[/] :joy:"
SHOWN = (
    r"\u001b]0;mine\u0007\u001b]52;c;eA==\u0007\u001b[2J\u009b2J\u202e\u2028caf\udce9[/lib/x.so][bold red]OK[/] :joy:"
)
STYLE = re.compile(r"\x1b\[[0-9;]*m")  # what rich itself writes: colours and bold


def shown(*rows: dict[str, str], title: str = "", width: int = 4000) -> str:
    file = io.StringIO()
    Screen(file=file, force_terminal=True, width=width).print(TextTable(title, rows))
    return STYLE.sub("", file.getvalue())


def test_a_text_is_shown_and_not_obeyed(capsys):
    say(HOSTILE)
    assert capsys.readouterr().out == f"{SHOWN}\n"
    screen = Screen(file=io.StringIO(), force_terminal=True, width=4000)
    screen.print(HOSTILE)
    assert STYLE.sub("", screen.file.getvalue()) == f"{SHOWN}\n"


@pytest.mark.parametrize("rows", [1, MANY + 1])
def test_titles_headings_and_cells_are_text(rows):
    output = shown(*[{"training": "1a2b3c4d5e6f", "words": HOSTILE, HOSTILE: "x\ny"}] * rows, title=HOSTILE)
    assert output.count(SHOWN) == rows + 2
    assert output.count(r"x\ny") == rows


def test_a_text_that_is_json_stays_the_same_json():
    content = {"a\x7f": [HOSTILE, "ä漢\U000e0001\n"]}
    assert json.loads(escape_controls(json.dumps(content, indent=1, ensure_ascii=False), "\n")) == content
    assert escape_controls("naïve 漢字 █ ✓ − £") == "naïve 漢字 █ ✓ − £"


def test_a_narrow_terminal_gets_a_list_in_which_nothing_is_missing():
    row = {"training": "1a2b3c4d5e6f", "what": "SiT-B/2 none", "state": "done", "left": ""}
    lines = shown(row, width=20).splitlines()
    assert [line.rstrip() for line in lines if line.strip()] == [
        "training:", "1a2b3c4d5e6f", "what: SiT-B/2 none", "state: done",
    ]  # fmt: skip
    assert shown(row, width=60).splitlines()[0].split() == ["training", "what", "state", "left"]


@pytest.fixture
def failed(tmp_path, project):
    """A study of which one training has failed, and tells of it in hostile words."""
    table, store = table_of("table3", "smoke"), new_store(tmp_path)
    store.record_grid("table3", project / "grids" / "table3.yaml", "smoke", [])
    run = table.runs[0]
    write_error(store, run, "bug", HOSTILE)
    submission(3, "7_3").write(store.scratch_folder(run.train_id))
    path = output_path(store, "7_3")
    path.parent.mkdir(parents=True)
    path.write_text(f"first\n{HOSTILE}\n", errors="surrogateescape")
    return store, run


def options(store: Store) -> tuple[str, ...]:
    return "--results", str(store.results), "--scratch", str(store.scratch)


@pytest.mark.parametrize(
    "words", ["status STUDY", "status STUDY --json", "logs --failed STUDY", "logs RUN", "show RUN"]
)
def test_a_hostile_message_of_a_failure_is_shown_by_every_command_that_tells_it(failed, harness, monkeypatch, words):
    store, run = failed
    monkeypatch.setenv("COLUMNS", "150")
    code, out, err = harness(*words.replace("STUDY", store.study).replace("RUN", run.train_id).split(), *options(store))
    assert (code, err) == (0, "")
    assert escape_controls(out, "\n\t") == out
    assert "[/lib/x.so]" in "".join(out.split())


def test_a_hostile_label_is_shown_by_the_plan(project, harness):
    path = project / "grids" / "table3.yaml"
    path.write_text(path.read_text().replace("title: ", "title: '[/x]' #", 1))
    code, out, err = harness("plan", str(path), "--scale", "smoke", "--set", "seeds=[0]")
    assert (code, err) == (0, "")
    assert "Cost in" in out


def test_a_hostile_word_in_a_refusal_is_one_line(project, harness):
    code, out, err = harness("plan", f"x\n{HOSTILE}", "--scale", "smoke")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(rf"GRIDS x\n{SHOWN}: ")


def test_each_mistake_of_a_file_has_a_line(project, harness):
    (project / "grids" / "x.yaml").write_text("table: x\nfoo: 1\nbar: 2\n")
    code, out, err = harness("plan", "grids/x.yaml", "--scale", "smoke")
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) > 2
    assert all(line.startswith("grids/x.yaml:") for line in lines)
    assert "\\u000a" not in err


# The output itself.


def plan(*shell: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-c", f'"$@" {" ".join(shell)}', "bash", *PLAN]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), **settings}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    "settings",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["ascii", "C"],
)
def test_an_output_that_is_not_utf8_gets_all_words(project, settings):
    done, utf8 = plan(**settings), plan(PYTHONIOENCODING="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == utf8.stdout.encode("ascii", "backslashreplace").decode()


def test_a_terminal_of_20_columns_is_enough(project):
    lines = on_terminal(20, *PLAN[3:])
    assert max(map(cell_len, lines)) <= 20
    assert {"edf5050a40db", "b0c31d327beb"} <= set(" ".join(lines).split())


@pytest.mark.parametrize("columns", [80, 200])
def test_a_run_is_a_line_of_a_terminal(project, columns):
    lines = on_terminal(columns, *PLAN[3:], "--arm", "dispersive")
    runs = [line for line in lines if "to run" in line]
    assert len(runs) == 4
    assert max(map(cell_len, lines)) <= columns
    assert all(("InfoNCE" in line or "Hinge" in line or "Covariance" in line) and " 0 " in line for line in runs)
    assert any("measurement" in line.split() for line in lines[:6]) == (columns == 200)


def test_a_run_is_a_line_with_tabs_in_a_file(project):
    title, runs, *_ = re.split(r"^# .*$", plan().stdout, flags=re.MULTILINE)
    heading, *rows = [line.split("\t") for line in runs.strip("\n").splitlines()]
    assert title == ""
    assert heading == ["table", "cell", "seed", "model", "steps", "training", "measurement", "why", "shared with"]
    assert len(rows) == 13
    assert {len(row) for row in rows} == {9}
    assert rows[0][:2] == ["table2", "none · baseline"]


@pytest.mark.parametrize(
    ("shell", "code", "message"),
    [
        ("| true; exit ${PIPESTATUS[0]}", 1, ""),
        ("> /dev/full", 2, "the output or a file cannot be written or read: No space left on device\n"),
        (">&-", 0, ""),
    ],
)
def test_an_output_that_is_not_taken_is_no_traceback(project, shell, code, message):
    done = plan(shell)
    assert (done.returncode, done.stderr) == (code, message)
