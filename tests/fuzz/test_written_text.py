"""Text and pictures of somebody else in what the report writes: shown, and never more than that."""

import csv
import re
import string
import unicodedata
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from support import synthetic_study as synthetic
from support.fuzzing import spliced

from harness.report.analysis.text import is_number, on_one_line
from harness.report.reading.samples import read_strip
from harness.report.rendering.data_files import csv_of
from harness.report.rendering.latex import escaped as latex_escaped
from harness.report.rendering.markdown import escaped as markdown_escaped
from harness.store.status import run_result

pytestmark = pytest.mark.fuzz
SIGNS = "=+-@＝＋－＠﹦;,'\"\t\r\n\v\x85\u2028\ufeff\u200b \u3000\\{}[]()#$%^&_~*`|<>!.:/1a\x00\u202e"
TEXTS = st.text(st.sampled_from(SIGNS) | st.characters(exclude_categories=["Cs"]), max_size=20)
# Each of these commands is compiled in tests/report/test_latex.py, and prints a character.
COMMAND = re.compile(r"\\([a-zA-Z]+|.)")
PRINTING = {name for code in range(0x20, 0x2700) for name in COMMAND.findall(latex_escaped(chr(code)))}


def test_no_text_begins_a_formula_in_a_csv(explore: Callable[..., None]) -> None:
    def check(text: str) -> None:
        lines = csv_of(pd.DataFrame({"table": ["a"], text: ["b"], "name": [text]})).splitlines()
        assert len(lines) == 2
        for line in lines:
            for separator in ",;":
                for cell in next(csv.reader([line], delimiter=separator)):
                    bare = unicodedata.normalize("NFKC", cell).strip("\ufeff\u200b" + string.whitespace)
                    assert is_number(cell) or not bare.startswith(("=", "+", "-", "@")), line

    explore(check, TEXTS, examples=2000)


def test_any_text_is_one_paragraph_in_markdown(explore: Callable[..., None]) -> None:
    def check(text: str) -> None:
        html = MarkdownIt("gfm-like", {"linkify": False}).render(f"a {markdown_escaped(text)} z\n")
        body = re.fullmatch("<p>a(.*) z</p>\n", html, re.DOTALL)
        assert body, html
        assert "<" not in body[1]
        assert unescape(body[1]).split() == on_one_line(text).split()

    explore(check, TEXTS, examples=2000)


def test_any_text_is_printed_by_tex(explore: Callable[..., None]) -> None:
    def check(text: str) -> None:
        printed = latex_escaped(text)
        bare = COMMAND.sub("", printed)
        assert set(COMMAND.findall(printed)) <= PRINTING - {
            "input",
            "write",
            "immediate",
            "openin",
            "csname",
            "catcode",
        }
        assert bare.count("{") == bare.count("}")
        assert not re.search("[%#&]|\\^\\^|[\\x00-\\x1f\\x7f]", bare)

    explore(check, TEXTS, examples=2000)


def test_a_spoiled_picture_is_shown_or_said_to_be_unreadable(explore: Callable[..., None], tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    run = table.runs[0]
    path = store.eval_path(run.train_id, run.eval_id).with_suffix(".png")
    measurement = run_result(store, run).measurement

    def check(content: bytes) -> None:
        path.write_bytes(content)
        strip = read_strip(store, run, measurement, "an arm")
        assert bool(strip.sheet) != bool(strip.missing)
        if strip.sheet:
            assert strip.sheet.uri.startswith("data:image/")
            assert strip.sheet.image.size == (strip.sheet.width, strip.sheet.height)

    explore(check, spliced(path.read_bytes()), examples=1000)
