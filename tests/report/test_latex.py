"""Tables as LaTeX: nothing of a name is read by TeX as its own, and a plain TeX sets all of it."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.report.rendering.data_files import write_tables
from harness.report.rendering.latex import escaped, latex_document, latex_table
from harness.report.rendering.sheet import TableLayout
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


@pytest.mark.integration
def test_every_character_that_is_set_by_a_command_compiles(needs: Callable[..., None], tmp_path: Path) -> None:
    needs("pdflatex")
    characters = [chr(code) for code in range(0x20, 0x2700) if not 0x7F <= code < 0xA0]
    body = "\n\n".join(map(escaped, characters))
    content = latex_document([]).replace("\\end{document}", body + "\n\\end{document}")
    (tmp_path / "all.tex").write_text(content, encoding="utf-8")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
