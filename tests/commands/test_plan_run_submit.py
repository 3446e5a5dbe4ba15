"""What would run and what it costs; where it runs, what is checked first, and what the study remembers."""

import re
import shutil
import time
from pathlib import Path

from support.programs import answer

from harness.store.store import Store
from harness.store.study import study_tables


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_plan_prints_the_papers_runs(project, harness):
    before = files(project)
    code, out, _ = harness("plan", "grids/table2.yaml", "--scale", "imagenet256")
    assert code == 0
    assert "13 cells × 1 seed(s) = 13 runs of SiT-B/2, 400,000 steps of 256; 13 trainings" in re.sub(r"\s+", " ", out)
    assert out.count("to run") == 13
    assert files(project) == before


def test_plan_says_which_table_shares_a_run(project, harness):
    _, out, _ = harness("plan", "grids/table2.yaml", "grids/table3.yaml", "--scale", "imagenet256")
    shared = [line.split("to run")[1].strip() for line in out.splitlines() if "to run" in line]
    assert sorted(name for name in shared if name) == ["table2", "table2", "table3", "table3"]  # baseline and default


def planned(out: str) -> set[tuple[str, str]]:
    rows = [line.split("\t") for line in out.splitlines() if "\t" in line][1:]
    return {(row[0], row[1]) for row in rows}


def test_filters_choose_tables_and_rows_and_their_price(project, harness):
    words = ("plan", "grids/table2.yaml", "grids/table3.yaml", "--scale", "smoke")
    _, everything, _ = harness(*words)
    _, out, _ = harness(*words, "--table", "2", "--arm", "HINGE")
    assert planned(out) == {
        (table, cell) for table, cell in planned(everything) if table == "table2" and "Hinge" in cell
    }
    assert "3 distinct trainings; 3 not run" in out
    assert "table3" not in out
    assert planned(harness(*words, "--failed")[1]) == set()
    code, out, err = harness(*words, "--table", "table4")
    assert (code, out) == (2, "")
    assert err.startswith("--table table4: no such table; did you mean 'table")
    code, out, err = harness(*words, "--arm", "hinges")
    assert (code, out, err) == (2, "", "--arm hinges: no label of a row holds these words\n")


def test_a_grid_may_be_meant_by_its_name(project, harness):
    for name in ("table2", "tabel2.yaml"):
        code, out, err = harness("plan", name, "--scale", "smoke")
        assert (code, out, err) == (2, "", f"{name}: no such grid file; did you mean 'grids/table2.yaml'?\n")


def test_the_command_prices_refuses_and_proposes(project, harness):
    words = ["plan", "grids/table2.yaml", "grids/table3.yaml", "--scale", "imagenet256", "--gpu", "A100"]
    start = time.process_time()
    code, out, err = harness(*words, "--fit", "600", "--max-gpu-hours", "100", "--gpu-hour-price", "2")
    assert time.process_time() - start < 5
    assert code == 2
    assert "--max-gpu-hours 100: about" in err
    assert re.search(r"all, each training once +17 ", out)
    assert re.search(r"\d+ of 17 rows fit: \d+ of 600 GPU-hours", out)
    assert "at 2 an hour, what is left costs" in out
    assert not (project / "results").exists()


def test_submit_without_slurm_writes_nothing(project, harness, monkeypatch):
    monkeypatch.setenv("PATH", str(project))
    before = files(project)
    code, _, err = harness("submit", "grids/table2.yaml", "--scale", "smoke")
    assert (code, files(project)) == (2, before)
    assert "no SLURM here" in err


def test_two_grids_of_one_name_are_refused(project, harness):
    shutil.copytree("grids", "mine")
    before = files(project)
    code, _, err = harness("run", "grids/table2.yaml", "mine/table2.yaml", "--scale", "smoke")
    assert (code, files(project)) == (2, before)
    assert err.startswith("mine/table2.yaml: grids/table2.yaml has the same name")
    assert harness("plan", "grids/table3.yaml", "grids/table3.yaml", "--scale", "smoke")[0] == 0


def test_a_study_keeps_the_seeds_that_it_had(project, harness, monkeypatch, tmp_path_factory):
    programs = tmp_path_factory.mktemp("bin")
    answer(programs, monkeypatch, srun="", squeue="", scontrol="", sbatch="Submitted batch job 7")
    words = ("submit", "grids/table2.yaml", "--scale", "smoke", "--set", "optimizer.learning_rate=0.001")
    for overrides, seeds in (([], ""), (["seeds=[2,1]"], "[0, 1, 2]"), ([], "[0, 1, 2]"), (["seeds=[0,1,2,3]"], "")):
        code, _, err = harness(*words, *(f"--set={word}" for word in overrides))
        assert code == 0
        assert (f"table2 keeps the seeds it had; they are {seeds} now" in err) == bool(seeds)
    (table,) = study_tables(Store(Path("results"), Path("scratch"), "smoke"))
    assert table.seeds == (0, 1, 2, 3)


def test_a_path_where_a_name_is_wanted_is_answered_with_the_option_and_the_name(project, harness):
    words = ("plan", "grids/table2.yaml", "--scale")
    for scale in ("grids/scales/smoke.yaml", "../smoke"):
        code, _, err = harness(*words, scale)
        assert (code, err.count("\n")) == (2, 1)
        assert err.startswith(f"--scale {scale}: a name is ")
        assert err.endswith("did you mean 'smoke'?\n")
    code, _, err = harness("submit", "grids/table2.yaml", "--scale", "smoke", "--profile", "../../evil/p", "--dry-run")
    assert code == 2
    assert "--profile ../../evil/p: a name is " in err


def test_a_limit_that_is_no_number_is_no_limit_and_refused(project, harness):
    for option in ("--max-gpu-hours", "--fit", "--gpu-hour-price", "--utilisation"):
        code, _, err = harness("plan", "grids/table2.yaml", "--scale", "smoke", option, "nan")
        assert code == 2
        assert f"'{option}': nan is not a finite number" in err


def test_a_grid_writes_no_line_of_shell_into_what_is_sent(project, harness):
    grid = project / "grids" / "table3.yaml"
    for value in ('"gpu\\ntouch PWNED\\n#"', '"gpu\\u2028x"', '"gpu\\x85x"'):
        grid.write_text(grid.read_text().replace("base:", f"base:\n  resources.partition: {value}", 1))
        code, out, err = harness("submit", "grids/table3.yaml", "--scale", "smoke", "--dry-run")
        assert (code, out) == (2, "")
        assert err.startswith("grids/table3.yaml:")
        assert "base.resources.partition: text may not hold the control character \\" in err
        grid.write_text(grid.read_text().replace(f"\n  resources.partition: {value}", ""))
