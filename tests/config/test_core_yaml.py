"""YAML 1.2's core schema, its limits, and text that becomes commands: refused where it enters, with its line."""

import math
import re
import subprocess
import sys

import pytest
from support.edits import edit
from support.places import GRIDS, ROOT

from harness.config.cluster_profile import load_profile, minutes
from harness.config.core_yaml import Refusal, parse_yaml
from harness.config.grid import load_table
from harness.config.yaml_document import parse_overrides, read_document
from harness.errors import UserError

# From the examples of https://yaml.org/spec/1.2.2, chapter 10, and what only YAML 1.1 reads otherwise.
CORE = {
    "~": None, "null": None, "": None, "true": True, "False": False, "0": 0, "-19": -19, "+12": 12, "0o7": 7,
    "0x3A": 58, "0.": 0.0, "-0.0": 0.0, ".5": 0.5, "+12e03": 12000.0, "-2E+05": -200000.0, "1e3": 1000.0, "1e-4": 1e-4,
    ".inf": math.inf, "-.Inf": -math.inf, "!!int 3": 3, "!!str 3": "3", "'3'": "3", "<<": "<<",
}  # fmt: skip
TEXT = (
    "12:00:00", "1:30.5", "010", "-012", "1_000", "1_0.5", "0b11", "0o18", "yes", "no", "on", "off", "Y", "tRUE",
    "2026-01-01", "2026-01-01T12:00:00Z", "nan", "inf", "½", "１２", "1e", "1,000", "=",
)  # fmt: skip


@pytest.mark.parametrize("text", CORE)
def test_the_core_schema_is_read(text):
    assert repr(parse_yaml(f"a: {text}")[0]["a"]) == repr(CORE[text]) or text == "-0.0"


@pytest.mark.parametrize("text", TEXT)
def test_what_yaml_1_1_alone_reads_is_text_and_no_number_and_no_flag(text):
    assert parse_yaml(f"a: {text}")[0] == {"a": text}
    for key in ("batch", "ema", "optimizer.learning_rate", "seeds", "sampler.guidance", "resources.compile"):
        with pytest.raises(UserError, match=re.escape(f"found {text!r}")):
            load_table(GRIDS / "table3.yaml", "smoke", [f"{key}={text}"])


def test_a_number_is_the_same_number_in_a_file_a_profile_and_behind_set(grids):
    edit(grids / "scales" / "smoke.yaml", "settings:", "settings:\n  label_drop: 1e-1")
    run = load_table(grids / "table3.yaml", "smoke", ["batch=1.6e3", "optimizer.learning_rate=1E-3"]).runs[0]
    assert (run.train.label_drop, run.train.batch, run.train.optimizer.learning_rate) == (0.1, 1600, 0.001)
    edit(grids / "scales" / "smoke.yaml", "  label_drop: 1e-1", "  label_drop: 0:0.1")
    with pytest.raises(UserError, match=r"smoke\.yaml:\d+: label_drop: a number is expected, found '0:0.1'"):
        load_table(grids / "table3.yaml", "smoke")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12:00:00", 720), ("1-00:00:00", 1440), ("2-12:30:00", 3630), ("1-12", 2160), ("0-1:30", 90), 
        ("100:00:30", 6000),        ("12", 720), ("0.5", 30), ("1e1", 600), ("00:00:10", 1),
    ],
)  # fmt: skip
def test_hours_are_a_number_or_a_time_as_slurm_writes_it(tmp_path, text, expected):
    resources = load_table(GRIDS / "table3.yaml", "smoke", [f"resources.hours={text}"]).runs[0].resources
    assert minutes(resources) == expected
    (tmp_path / "ours.yaml").write_text(
        f"executor: slurm\npartitions: {{a: {{hours: {text}}}}}\nresources: {{hours: {text}}}"
    )
    profile, _ = load_profile("ours", tmp_path)
    assert profile.partitions["a"].hours == profile.resources.hours == resources.hours


@pytest.mark.parametrize(
    "text", ["1:30", "12:60:00", "1-24:00:00", "-1:00:00", "0:00:00", "1:00:00:00", "'12'", "1e9", ".inf"]
)
def test_what_could_be_another_time_is_no_time(text):
    with pytest.raises(UserError, match=r"resources\.hours: "):
        load_table(GRIDS / "table3.yaml", "smoke", [f"resources.hours={text}"])


def test_merge_keys_may_be_overridden_and_real_duplicates_may_not(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: &b {x: 3, z: 4}\nc: {<<: *a, x: 5}\nd: {<<: [*a, *b]}\ne: {x: 6, <<: *b}\n")
    content = read_document(path).content
    assert (content["c"], content["d"], content["e"]) == ({"x": 5, "y": 2}, {"x": 1, "y": 2, "z": 4}, {"x": 6, "z": 4})
    for twice in (
        "c: 1\nc: 2",
        "c: {x: 1, x: 2}",
        "c:\n  1: a\n  0x1: b",
        "c: {'1': a, 1: b}",
        "c: {1: a, 1.0: b}",
        "c: {100: a, 1e2: b}",
        "c: {1: a, true: b}",
        "c: {<<: {x: 1}, <<: {x: 2}}",
    ):
        path.write_text(f"a: 1\nb: 2\n{twice}\n")
        with pytest.raises(UserError, match=r"a\.yaml:[345]: .*this key is said twice$"):
            read_document(path)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 10)
)
MERGED_LAUGHS = "a0: &a0 {x: 1}\n" + "".join(
    f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}\n" for k in range(1, 10)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}]\n" for k in range(1, 400))
HOSTILE = {
    "brackets": "[" * 3000, "braces": "{a: " * 3000, "a hundred thousand": "[" * 100_000, "blocks": "- " * 3000 + "x",
    "keys": "? " * 3000 + "x", "aliases": LAUGHS, "merged": MERGED_LAUGHS, "deep aliases": CHAIN,
    "large": "a" * (2 << 20),
    "many": "a: [" + "1, " * 150_000 + "1]", "itself": "a: &a {<<: *a}", "a key of lists": "? [a]\n: b",
    "long number": "a: " + "9" * 10_000 + "\nb: !!int " + "9" * 10_000,
}  # fmt: skip


LIMITED = """
import resource, sys
from harness.config.yaml_document import Path, UserError, read_document
resource.setrlimit(resource.RLIMIT_AS, (1 << 30,) * 2)  # bytes
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))  # seconds
try:
    read_document(Path(sys.argv[1]))
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_are_refused_at_once_in_one_line(tmp_path, name):
    path = tmp_path / "a.yaml"
    path.write_text(HOSTILE[name])
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.startswith(f"{path}:")
    assert done.stdout.count("\n") == 1
    assert len(done.stdout) < 400
    with pytest.raises(UserError, match=r"^--set "):
        load_table(GRIDS / "table3.yaml", "smoke", [f"batch={HOSTILE[name]}"])


def test_cells_and_runs_are_counted_before_they_are_made(grids):
    labels = "".join(f"  a{axis}: {{{', '.join(f'l{k}: {{}}' for k in range(10))}}}\n" for axis in range(8))
    product = ", ".join(f"a{axis}: [{', '.join(f'l{k}' for k in range(10))}]" for axis in range(8))
    head = "table: t\ntitle: t\nquestion: q\nrows: a0\nbase: {preset: paper, model: SiT-B/2, epochs: 80}\n"
    (grids / "many.yaml").write_text(f"{head}axes:\n{labels}vary: [{{product: {{{product}}}}}]\n")
    with pytest.raises(UserError, match=r"many\.yaml:15: vary: 100,000,000 cells; a grid has at most 5,000$"):
        load_table(grids / "many.yaml", "smoke")
    with pytest.raises(UserError, match=r"table3\.yaml: 6 cells with 20,000 seeds; a table has at most 100,000 runs$"):
        load_table(grids / "table3.yaml", "smoke", [f"seeds={list(range(20_000))}"])


# As YAML's double quotes write it, and as messages do.
CONTROLS = {
    "\\n": "\\n", "\\r": "\\r", "\\e": "\\u001b", "\\0": "\\u0000", "\\x7f": "\\u007f", "\\x9b": "\\u009b",
    "\\N": "\\u0085",
    "\\u202e": "\\u202e", "\\u2066": "\\u2066", "\\L": "\\u2028",
}  # fmt: skip


@pytest.mark.parametrize("written", CONTROLS)
def test_control_characters_are_refused_where_they_enter_with_line_and_key(tmp_path, written):
    path = tmp_path / "a.yaml"
    for text, key in (
        (f'a: 1\nb: {{c: "x{written}y"}}', "b.c"),
        (f'a: 1\nb: {{"x{written}y": 1}}', f"b.x{CONTROLS[written]}y"),
    ):
        path.write_text(text)
        with pytest.raises(UserError) as caught:
            read_document(path)
        assert str(caught.value).startswith(f"{path}:2: {key}: ")
        assert str(caught.value).isprintable()
        assert f"control character {CONTROLS[written]}" in str(caught.value)
    raw = CONTROLS[written].encode().decode("unicode_escape")
    for word in (f"resources.partition=gpu{raw}touch x", f"a{raw}b=1", f'resources.partition="gpu{written}x"'):
        with pytest.raises(UserError, match="control character") as caught:
            parse_overrides([word])
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("character", ["\x1b", "\x00", "\x9b", "\u202e", "\u2028"])
def test_raw_control_characters_are_told_with_their_line(tmp_path, character):
    (tmp_path / "a.yaml").write_text(f"a: 1\n# x{character}\n")
    with pytest.raises(UserError, match=r"a\.yaml:2: holds the control character \\"):
        read_document(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "key", ["account", "qos", "constraint", "gpu_kind", "exclude", "partitions", "environment", "resources"]
)
def test_only_the_setup_of_a_profile_may_hold_lines(tmp_path, key):
    evil = '"gpu\\ntouch PWNED\\n#"'
    value = {"exclude": f"[{evil}]", "partitions": f"{{{evil}: {{}}}}", "environment": f"{{A: {evil}}}"}.get(key, evil)
    value = f"{{partition: {evil}}}" if key == "resources" else value
    (tmp_path / "ours.yaml").write_text(f"executor: slurm\n{key}: {value}\n")
    with pytest.raises(UserError, match=r"ours\.yaml:2: .*control character \\n"):
        load_profile("ours", tmp_path)
    (tmp_path / "ours.yaml").write_text("executor: slurm\nsetup:\n  - |\n    module load cuda\n    export A=1\n")
    assert load_profile("ours", tmp_path)[0].setup == ("module load cuda\nexport A=1\n",)


def test_prose_of_several_lines_becomes_one(grids):
    edit(grids / "table3.yaml", "title: Block at which the dispersive loss is applied", 'title: "a\\tb\\n c"')
    assert load_table(grids / "table3.yaml", "smoke").file.title == "a b c"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("preset=[a]", "preset: a name is expected, found ['a']"),
        ("preset={a: 1}", "preset: a name is expected, found {'a': 1}"),
        ("preset=../presets/paper", "did you mean 'paper'?"),
        ("weights=../x", "weights: a name is at most"),
        ("data.name=../outside/ds", "data.name: a name is at most"),
        ("model=[a]", "model: "),
        ("data={}", "needs keys below it"),
        ("batch=100000000000000000", "batch: a number up to"),
        (f"{'a.' * 3000}b=1", "a key of 3001 words"),
        (f"ema.{'a.' * 3000}b=1", "a key of 3002 words"),
        ("alignment.encoder=hf-hub:evil/x", "alignment.encoder: a name is at most"),
    ],
)
def test_odd_values_are_refused_in_one_line(override, words):
    with pytest.raises(UserError) as caught:
        load_table(GRIDS / "table3.yaml", "smoke", [override])
    assert words in str(caught.value)
    assert str(caught.value).startswith("--set ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("executor", ["[a]", "{a: b}", "null", "1e3"])
def test_an_odd_executor_is_refused(tmp_path, executor):
    (tmp_path / "ours.yaml").write_text(f"executor: {executor}\n")
    with pytest.raises(UserError, match=r"ours\.yaml:1: executor: slurm or local is expected"):
        load_profile("ours", tmp_path)


def test_a_grids_file_has_a_name_that_tex_and_shells_may_see(grids):
    path = (grids / "table3.yaml").rename(grids / "x}^^5cinput{a.yaml")
    with pytest.raises(UserError, match=r"the file's name .*a name is at most"):
        load_table(path, "smoke")


@pytest.mark.parametrize("words", [("--profile", "../../evil/p"), ("--profile", "clusters/local.yaml")])
def test_a_profile_is_named_and_never_a_path(words):
    with pytest.raises(UserError, match="never a path; did you mean"):
        load_profile(words[1], ROOT / "clusters")


def test_a_line_is_known_within_a_refusal():
    with pytest.raises(Refusal) as caught:
        parse_yaml("a: 1\nb: [\n")
    assert caught.value.line >= 2


def test_a_byte_order_mark_begins_a_file_and_stands_nowhere_else(tmp_path):
    (tmp_path / "a.yaml").write_text("\ufeffa: 1\n")
    assert read_document(tmp_path / "a.yaml").content == {"a": 1}
    (tmp_path / "a.yaml").write_text("ti\ufefftle: 1\n")
    with pytest.raises(UserError, match=r"a\.yaml:1: holds the control character \\ufeff"):
        read_document(tmp_path / "a.yaml")
