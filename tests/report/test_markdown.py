"""Tables as Markdown, read again by a Markdown parser."""

import re
from html import unescape
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from support import synthetic_study as synthetic
from support.printed_tables import HOSTILE, NAMES
from support.synthetic_study import pivot_of

from harness.report.analysis.text import estimate, percent_change
from harness.report.rendering.markdown import escaped as markdown_escaped
from harness.report.rendering.markdown import markdown_summary, markdown_table
from harness.report.rendering.page import make_report
from harness.report.rendering.sheet import TableLayout, plain
from harness.report.rendering.study_summary import study_summary


@pytest.mark.parametrize("name", NAMES)
def test_markdown_renders_to_the_words_of_the_table(full_layouts: list[TableLayout], name: str) -> None:
    layout = full_layouts[NAMES.index(name)]
    html = MarkdownIt("commonmark").enable("table").render(markdown_table(layout))
    words = [
        [plain(row.label), *("".join(map(plain, cell.lines.values())) for cell in row.cells)]
        for row in (*layout.body, *layout.foot, *layout.elsewhere)
    ]
    assert cells_of(html) == [row + [""] * (1 + len(layout.columns) - len(row)) for row in words]


def cells_of(html: str) -> list[list[str]]:
    rows = re.findall("<tr>(.*?)</tr>", html, re.DOTALL)[1:]
    return [[unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall("<td>(.*?)</td>", row)] for row in rows]


def test_markup_in_a_name_is_text_in_markdown(hostile_layout: TableLayout) -> None:
    summary = markdown_summary(study_summary("study", [hostile_layout.result.pivot]), [hostile_layout])
    html = MarkdownIt("gfm-like", {"linkify": False}).render(summary)
    assert html.count(HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")) == 2
    assert not re.findall("<(?!/?(h1|h2|p|table|thead|tbody|tr|th|td|ul|li|br|strong)>)", html)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\v", "\f", "\x85", "\u2028", "\u2029", "\n\n", "\x1e"])
def test_a_text_with_line_ends_begins_no_block_of_its_own(end: str) -> None:
    html = MarkdownIt("gfm-like", {"linkify": False}).render(f"- {markdown_escaped(f'a{end}# b{end}- c{end}    d')}\n")
    assert re.sub("<[^>]*>", "", html).split() == ["a", "#", "b", "-", "c", "d"]
    assert re.findall("<([a-z0-9]+)", html) == ["ul", "li"]
    assert len(markdown_escaped(f"a{end}b").splitlines()) == 1


def test_the_numbers_of_the_markdown_are_those_of_the_page(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2")
    synthetic.full_study(store, [table])
    page = make_report(store, [table], tmp_path / "page")
    html, text = page.read_text(encoding="utf-8"), (page.parent / "tables" / "table2.md").read_text(encoding="utf-8")
    for cell in pivot_of(store, table).cells:
        assert cell.ours
        assert estimate(cell.ours, 2) in html
        assert estimate(cell.ours, 2) in text
        if cell.change:
            assert percent_change(cell.change) in html
            assert markdown_escaped(percent_change(cell.change)) in text
