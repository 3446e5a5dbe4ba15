"""Registries: what plug-ins bring is found by its name and known by its code, and what is wrong is told in a line."""

import importlib.metadata
from importlib.metadata import EntryPoint

import pytest

from harness import plugins
from harness.errors import UserError
from harness.plugins import Registry

INSTALLED = plugins._installed.__wrapped__


@pytest.fixture(autouse=True)
def _no_plugins(monkeypatch):
    monkeypatch.setattr(plugins, "_FILES", {})
    monkeypatch.setattr(plugins, "_installed", lambda group: [])


def written(folder, text, name="mine.py"):
    (folder / name).write_text(text)
    return folder / name


def test_an_entry_is_built_in_or_of_a_file_and_only_the_files_has_an_origin(tmp_path):
    registry = Registry("terms", "term", {"ours": 1, "lazy": "math:pi"})
    plugins.load_file(written(tmp_path, "TERMS = {'mine': 2}"), "--plugin")
    assert (registry["ours"], registry["lazy"], registry["mine"]) == (1, 3.141592653589793, 2)
    assert list(registry) == ["ours", "lazy", "mine"]
    assert registry.origin("ours") is None
    assert registry.origin("mine") == "sha256:dc69adb5a2e48788"  # as sha256sum says of that text
    with pytest.raises(UserError, match="no term 'mime'; did you mean 'mine'"):
        registry["mime"]


def test_a_package_is_imported_when_its_entry_is_asked_for(monkeypatch):
    points = [EntryPoint("pi", "math:pi", "harness.terms"), EntryPoint("gone", "no_such_module:x", "harness.terms")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    monkeypatch.setattr(plugins, "_installed", INSTALLED)
    registry = Registry("terms", "term", {})
    assert list(registry) == ["pi", "gone"]
    assert registry["pi"] == 3.141592653589793
    with pytest.raises(UserError, match=r"plug-in gone of .*: no_such_module:x cannot be imported"):
        registry["gone"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "brings nothing; a plug-in has one of the dictionaries TERMS"),
        ("TERMS = ['a']", "TERMS is no dictionary of names"),
        ("\nimport no_such_module", r"mine.py:2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("\n\ndef f(:", "mine.py:3: SyntaxError"),
    ],
)
def test_a_file_that_is_no_plugin_is_refused_with_its_line(tmp_path, text, words):
    with pytest.raises(UserError, match=words) as raised:
        plugins.load_file(written(tmp_path, text), "--plugin")
    assert "\n" not in str(raised.value)


def test_a_name_means_one_thing(tmp_path):
    for name in ("a.py", "b.py"):
        plugins.load_file(written(tmp_path, f"TERMS = {{'mine': 1, 'ours': 1}}  # {name}", name), "--plugin")
    with pytest.raises(UserError, match=r"two plug-ins bring 'mine': sha256:.* and sha256:"):
        Registry("terms", "term", {})["mine"]
    with pytest.raises(UserError, match="the term 'ours' is built in"):
        Registry("terms", "term", {"ours": 0})["ours"]


def test_other_code_than_that_of_a_run_is_refused(tmp_path):
    plugins.load_file(written(tmp_path, "TERMS = {'mine': 1}"), "--plugin")
    now = plugins.origin("terms", "mine")
    plugins.check([f"terms/mine {now}"])
    with pytest.raises(UserError, match=f"plug-in terms/mine: the run is of sha256:0, and here it is {now}; name its"):
        plugins.check(["terms/mine sha256:0"])
    with pytest.raises(UserError, match=r"the run is of package 1\.0, and it is not here; install that version"):
        plugins.check(["terms/theirs package 1.0"])
    plugins.check(["terms/mine sha256:0"], groups=["datasets"])
