"""YAML files: read safely, flattened to settings that know their lines, and nested again."""

import pytest
from support.edits import edit
from support.places import GRIDS

from harness.config.grid import load_table
from harness.config.yaml_document import Leaf, nest, parse_overrides, read_document, where_written
from harness.errors import UserError


def test_a_yaml_tag_cannot_run_code(grids):
    edit(grids / "table2.yaml", "rows: loss", "rows: !!python/object/apply:os.getcwd []")
    with pytest.raises(UserError, match="not YAML"):
        load_table(grids / "table2.yaml", "smoke")


def test_unknown_scale_and_file():
    with pytest.raises(UserError, match="did you mean 'digits'"):
        load_table(GRIDS / "table2.yaml", "digit")
    with pytest.raises(UserError, match=r"table22\.yaml: cannot be read: .*did you mean 'table2\.yaml'"):
        load_table(GRIDS / "table22.yaml", "digits")


def test_dotted_and_nested_keys_are_the_same_setting_and_know_their_lines(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("regularizer:\n  tau: 1\nregularizer.lambda: 2\n")
    document = read_document(path)
    layer = document.layer(document.content)
    assert layer == {"regularizer.tau": Leaf(1, f"{path}:2"), "regularizer.lambda": Leaf(2, f"{path}:3")}
    assert nest(layer) == {"regularizer": {"tau": 1, "lambda": 2}}
    path.write_text("regularizer:\n  tau: 1\nregularizer.tau: 2\n")
    document = read_document(path)
    with pytest.raises(UserError, match=rf"{path}:3: 'regularizer\.tau' is said twice, also at {path}:2"):
        document.layer(document.content)


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_empty_file_says_nothing(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    assert read_document(tmp_path / "a.yaml").content == {}


def test_a_list_is_no_file_of_settings(tmp_path):
    (tmp_path / "a.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match=r"a\.yaml:1: a mapping of keys to values is expected, found list"):
        read_document(tmp_path / "a.yaml")


def test_a_mistake_is_placed_where_it_was_written_or_next_to_it():
    layer = {"a.b.c": Leaf(1, "below"), "d": Leaf(2, "above")} | parse_overrides(["e.f=3"])
    places = [where_written(name, layer, "nowhere") for name in ("a.b.c", "a.b", "d.x.y", "e.f", "g")]
    assert places == ["below", "below", "above", "--set e.f=3", "nowhere"]
