"""Text and names of others: what may stand in them, and how a message shows what may not."""

import re
import unicodedata

import pytest
import regex

from harness.errors import UserError
from harness.plain_text import UNSEEN, check_name, check_text, escape_controls, shown

BIDIRECTIONAL = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # Unicode's UAX 9: embeddings, isolates


def test_unicodes_controls_are_refused_and_shown_written_out_and_letters_are_not():
    for code in range(0x30000):
        character = chr(code)
        controls = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        if controls or unicodedata.bidirectional(character) in BIDIRECTIONAL:
            with pytest.raises(ValueError, match="control character"):
                check_text(f"gpu{character}x")
            assert escape_controls(character).isascii()
            assert escape_controls(character).isprintable()
        elif unicodedata.category(character)[0] in "LNPSM" or character == " ":
            assert check_text(character) == escape_controls(character) == character


def test_what_may_stay_is_said():
    assert check_text("a\nb\tc", "\n\t") == "a\nb\tc"
    assert escape_controls("a\nb\x1b[31m\udcff", "\n") == "a\nb\\u001b[31m\\udcff"
    with pytest.raises(ValueError, match=r"the control character \\u001b$"):
        check_text("a\n\x1b", "\n")


def test_what_is_not_seen_is_what_unicode_says():
    """Another library knows Unicode's property; beside it are the anchors of annotations, which nothing shows."""
    everything = "".join(map(chr, range(0x110000)))
    expected = regex.findall(r"[\p{Default_Ignorable_Code_Point}\ufff9-\ufffb]", everything)
    assert re.findall(f"[{UNSEEN}]", everything) == expected


def test_a_value_is_shown_in_one_short_line():
    assert shown(["a\nb", 1]) == r"['a\nb', 1]"
    assert len(shown("x" * 10**6)) < 200


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-rf",
        "a/b",
        "../a",
        "/a",
        "a b",
        "a\n",
        "größe",
        "a\x00",
        "x}^^5c",
        "a" * 101,
        "~",
        "１",
    ],
)
def test_what_is_no_name_is_refused_in_one_printable_line(name):
    with pytest.raises(UserError, match="a name is at most 100 letters, digits") as caught:
        check_name("--scale", name)
    assert str(caught.value).isprintable()


def test_names_are_names_and_a_path_is_answered_with_the_name_it_means():
    for name in ("table2", "SiT-XL_2.ema", "_mine", "2", "a" * 100):
        check_name("--scale", name)
    with pytest.raises(UserError, match=r"^--scale grids/scales/x\.yaml: .* never a path; did you mean 'x'\?$"):
        check_name("--scale", "grids/scales/x.yaml")
