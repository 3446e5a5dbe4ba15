"""Tables as LaTeX: nothing of a name is read by TeX as its own, and a plain TeX sets all of it."""

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.printed_tables import NAMES

from harness.config.grid_file import PublishedFigure
from harness.report.analysis.table_result import TableResult
from harness.report.rendering.data_files import write_tables
from harness.report.rendering.latex import escaped, latex_document, latex_table
from harness.report.rendering.sheet import TableLayout, table_layout
from harness.report.rendering.study_summary import study_summary


def test_latex_has_a_cell_for_every_column_and_balanced_braces(
    full_layouts: list[TableLayout], hostile_layout: TableLayout
) -> None:
    for layout in (*full_layouts, hostile_layout):
        text = latex_table(layout)
        bare = re.sub(r"\\[{}&\\]", "", text)
        assert bare.count("{") == bare.count("}")
        body = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0]
        lines = [line for line in body.splitlines() if line != "\\midrule"]
        rows = (*layout.body, *layout.foot)
        assert len(lines) == len(rows)
        for line, row in zip(lines, rows, strict=True):
            assert len(re.findall(r"(?<!\\)&", line)) == (1 if row.across else len(layout.columns))


def test_what_tex_would_read_as_its_own_is_escaped() -> None:
    assert escaped("a_b 5% \\x{y} $1 #2 ~^") == (
        r"a\_b 5\% {\textbackslash}x\{y\} \$1 \#2 {\textasciitilde}{\textasciicircum}"
    )
    assert escaped("--scale λ ± ℓ₂ 中\n[x]") == (
        r"-{}-scale \ensuremath{\lambda} \ensuremath{\pm} \ensuremath{\ell}\ensuremath{_2} \texttt{U+4E2D} {[}x{]}"
    )


def test_figures_published_elsewhere_stand_beneath_by_their_protocol(full_layouts: list[TableLayout]) -> None:
    table = latex_table(full_layouts[NAMES.index("figure4")])
    ddpm = (
        "Elsewhere (DDPM, 250 steps, no guidance, 400K steps): DiT-S/2 68.40 (M, public), DiT-B/2 43.47 (M, public), "
    )
    assert ddpm in table
    assert table.index("bottomrule") < table.index(ddpm) < table.index("Elsewhere (SDE, 250 steps, no guidance, 400K")


@pytest.mark.integration
def test_all_tables_compile_with_a_plain_tex(
    full_layouts: list[TableLayout], hostile_layout: TableLayout, needs: Callable[..., None], tmp_path: Path
) -> None:
    needs("pdflatex")
    for index, layouts in enumerate((full_layouts, [hostile_layout])):
        folder = tmp_path / str(index)
        write_tables(study_summary("study", [layout.result.pivot for layout in layouts]), layouts, folder)
        words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
        done = subprocess.run(words, cwd=folder / "tables", capture_output=True, check=False)
        log = done.stdout.decode(errors="replace")
        assert done.returncode == 0, log[-2000:]
        assert (folder / "tables" / "all.pdf").read_bytes().startswith(b"%PDF")
        assert f"({len(layouts) + 1} pages" in log
        if layouts is full_layouts:
            assert "Overfull" not in log
            assert "Float too large" not in log


HOSTILE_NAME = "x}^^5cimmediate^^5cwrite18{touch^^20ran}^^5cinput{secret^^2etxt"
COMMANDS = (
    r"\immediate\write18{touch ran}", r"}\input{secret.txt}", r"^^5cinput{secret.txt}", "%\n\\input{secret.txt}\n\n",
    r"\pdffiledump length 9 {secret.txt}", "\\end{tabular}\r\\input|'touch ran'\r", r"$\input secret.txt $",
    r"\openin5=secret.txt", "\u2028\\input{secret.txt}", "\x85}\\write18{touch ran}", "＼input｛secret.txt｝",
    "\x7f\0\x1b]0;",
)  # fmt: skip


def test_a_table_whose_name_is_a_command_is_not_asked_for_by_its_name() -> None:
    document = latex_document({"table2": "A", HOSTILE_NAME: "B", "a b": "C", "a.b": "D", "../a": "E"})
    lines = document.partition("\\begin{document}\n")[2].split("\n\\clearpage\n")
    assert lines[:-1] == [r"\input{table2}", "B", "C", "D", "E"]


@pytest.mark.integration
@pytest.mark.parametrize("shell", ["-shell-escape", "-no-shell-escape"])
def test_nothing_of_a_hostile_study_runs_in_tex_and_nothing_is_read(
    shell: str, full_layouts: list[TableLayout], needs: Callable[..., None], tmp_path: Path
) -> None:
    """The record that TeX keeps of the files it opened is the truth; a document without our escapes shows the trap."""
    needs("pdflatex", "pdftotext")
    (tmp_path / "secret.txt").write_text("SECRET", encoding="utf-8")
    words = "".join(COMMANDS)
    names = (HOSTILE_NAME, words[:40], "a b")
    hostile = [hostile_study(layout, name, words) for layout, name in zip(full_layouts[:3], names, strict=True)]
    write_tables(study_summary(words, [layout.result.pivot for layout in hostile]), hostile, tmp_path / "report")
    for path in (tmp_path / "report" / "tables").glob("*.tex"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    opened, printed = opened_by_tex(tmp_path, "all.tex", shell)
    assert opened <= {"all.tex", "table1.tex", "all.aux"}
    assert not (tmp_path / "ran").exists()
    assert "SECRET" not in printed
    trap = r"\documentclass{article}\begin{document}\immediate\write18{touch ran}\input{secret.txt}\end{document}"
    (tmp_path / "trap.tex").write_text(trap, encoding="utf-8")
    assert "secret.txt" in opened_by_tex(tmp_path, "trap.tex", shell)[0]
    assert (tmp_path / "ran").exists() == (shell == "-shell-escape")


def hostile_study(layout: TableLayout, name: str, words: str) -> TableLayout:
    """The table by another name, with words in the place of everything that a grid's author may say."""
    table = layout.result.pivot.table
    figure = PublishedFigure.model_construct(
        of=words, protocol=words, value=1.0, note=words, source="later", confidence="H"
    )
    said = dict.fromkeys(("title", "question", "paper_text", "table"), words)
    file = table.file.model_copy(update=said | {"references": (figure,)})
    pivot = replace(layout.result.pivot, table=replace(table, name=name, file=file))
    cells = [replace(cell, name=words) for cell in pivot.cells]
    return table_layout(TableResult(replace(pivot, cells=cells)))


def opened_by_tex(folder: Path, name: str, shell: str) -> tuple[set[str], str]:
    """Compile a document; return which files of its folder TeX opened to read, and what the PDF shows."""
    words = ["pdflatex", shell, "-recorder", "-interaction=nonstopmode", "-halt-on-error", name]
    done = subprocess.run(words, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    record = (folder / name).with_suffix(".fls").read_text(encoding="utf-8").splitlines()
    read = (Path(line.removeprefix("INPUT ")) for line in record if line.startswith("INPUT "))
    shown = subprocess.run(
        ["pdftotext", Path(name).with_suffix(".pdf"), "-"], cwd=folder, capture_output=True, check=True
    )
    return {path.name for path in read if (folder / path).parent == folder}, shown.stdout.decode()


@pytest.mark.integration
def test_every_character_that_is_set_by_a_command_compiles(needs: Callable[..., None], tmp_path: Path) -> None:
    needs("pdflatex")
    characters = [chr(code) for code in range(0x20, 0x2700) if not 0x7F <= code < 0xA0]
    body = "\n\n".join(map(escaped, characters))
    content = latex_document({}).replace("\\end{document}", body + "\n\\end{document}")
    (tmp_path / "all.tex").write_text(content, encoding="utf-8")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
