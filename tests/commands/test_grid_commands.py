"""What would run and what it costs; where it runs, what is checked first, and what the study remembers."""

import os
import re
import shutil
import time
from pathlib import Path

import pytest
from support.plugin_files import write_process_grid
from support.programs import answer
from support.synthetic_study import write_error, write_measurement

from harness import plugins
from harness.commands.grid_commands import request, run_grids
from harness.config.grid import load_table
from harness.files import read_json, read_jsonl
from harness.jobs.preemption import NEVER, Deadline
from harness.store.store import Store
from harness.store.study import study_tables


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_plan_prints_the_papers_runs(project, harness):
    before = files(project)
    code, out, _ = harness("plan", "grids/table2.yaml", "--scale", "imagenet256")
    assert code == 0
    assert "13 cells × 1 seed = 13 runs of SiT-B/2, 400,000 steps of 256; 13 trainings" in re.sub(r"\s+", " ", out)
    assert out.count("to run") == 13
    assert files(project) == before


def test_plan_says_which_table_shares_a_run(project, harness):
    _, out, _ = harness("plan", "grids/table2.yaml", "grids/table3.yaml", "--scale", "imagenet256")
    shared = [line.split("to run")[1].strip() for line in out.splitlines() if "to run" in line]
    assert sorted(name for name in shared if name) == ["table2", "table2", "table3", "table3"]  # baseline and default


def planned(out: str) -> set[tuple[str, str]]:
    rows = [line.split("\t") for line in out.splitlines() if "\t" in line][1:]
    return {(row[0], row[1]) for row in rows if re.fullmatch("[0-9a-f]{12}", row[5])}


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
    code, out, err = harness("plan", "tabel2.yaml", "--scale", "smoke")
    assert (code, out, err) == (2, "", "tabel2.yaml: no such grid file; did you mean 'grids/table2.yaml'?\n")
    named = harness("plan", "table2", "--scale", "smoke")
    assert named == harness("plan", "grids/table2.yaml", "--scale", "smoke")
    shutil.rmtree(project / "grids")
    assert harness("plan", "table2", "--scale", "smoke") == named


def test_rows_are_taken_with_their_baselines(project, harness):
    def planned(*words):
        code, out, err = harness("plan", "table2", "table3", "--scale", "smoke", *words)
        assert code == 0, err
        return [row.split("\t")[1] for row in out.splitlines() if re.match("table[23]\t.*\tto run", row)]

    hinge = [row for row in planned("--table", "2") if row.startswith("Hinge · ")]
    assert len(hinge) == 3
    assert planned("--rows", "loss=Hinge") == ["none · baseline", *hinge]
    either = planned("--rows", "arm=dispersive", "--rows", "loss=Hinge", "--rows", "loss = Covariance")
    assert either == ["none · baseline", "Hinge · dispersive", "Covariance · dispersive"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["Hinge"], "--rows Hinge: AXIS=LABEL is expected; axes: loss, arm"),
        (["lose=Hinge"], "--rows lose=Hinge: no axis 'lose'; did you mean 'loss'?"),
        (["loss=Hing"], "--rows loss=Hing: axis 'loss' has no label 'Hing'; did you mean 'Hinge'?"),
        (["loss=none", "arm=dispersive"], "--rows loss=none --rows arm=dispersive: no row has these labels together"),
    ],
)
def test_rows_that_there_are_not(project, harness, rows, words):
    chosen = [word for row in rows for word in ("--rows", row)]
    assert harness("run", "table2", "--scale", "smoke", *chosen) == (2, "", words + "\n")
    assert not (project / "results").exists()


def test_the_command_prices_refuses_and_proposes(project, harness):
    words = ["plan", "grids/table2.yaml", "grids/table3.yaml", "--scale", "imagenet256", "--gpu", "A100"]
    start = time.process_time()
    code, out, err = harness(*words, "--fit", "600", "--max-gpu-hours", "100", "--gpu-hour-price", "2")
    assert time.process_time() - start < 5
    assert code == 2
    assert "--max-gpu-hours 100: about" in err
    assert "\nall\t17\t" in out
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


@pytest.mark.parametrize("name", ["scales/smoke.yaml", "presets/paper.yaml", "table3.yaml"])
def test_a_pipe_in_place_of_a_file_is_refused_and_nobody_waits_for_its_writer(project, harness, name):
    path = project / "grids" / name
    path.unlink()
    os.mkfifo(path)
    code, _, err = harness("plan", "grids/table3.yaml", "--scale", "smoke")
    assert (code, err.count("\n")) == (2, 1)
    assert re.match(rf"(GRIDS )?grids/{name}: (cannot be read: not a plain file|is a device or a pipe)", err)


def test_a_new_study_is_not_called_as_a_bundle_and_an_old_one_is_told_from_it(project, harness):
    words = ("run", "grids/table3.yaml", "--scale", "smoke", "--study", "x.zip")
    code, _, err = harness(*words)
    assert (code, err) == (2, "--study x.zip: what ends in .zip is a bundle; did you mean 'x'?\n")
    shutil.copy("grids/scales/smoke.yaml", "grids/scales/y.zip.yaml")
    assert harness("plan", "grids/table3.yaml", "--scale", "y.zip")[2].startswith("--study y.zip: what ends in .zip")
    store = Store(Path("results"), Path("scratch"), "x.zip")
    store.record_grid("table3", Path("grids/table3.yaml"), "smoke", [])
    assert harness("report", "x.zip")[0] == 0  # a study of before
    Path("x.zip").touch()
    code, _, err = harness("report", "x.zip")
    assert code == 2
    assert "write ./x.zip for the bundle, or rename the study's folder" in err
    assert "x.zip: cannot be read as a bundle" in harness("report", "./x.zip")[2]


# The end of a given time.


def bits(folder: Path) -> dict[str, object]:
    """Return every number that a study of a command's holds: measurements, logs and weights."""
    evals = {str(path.relative_to(folder)): read_json(path)["metrics"] for path in folder.rglob("evals/*.json")}
    logs = {
        str(path.relative_to(folder)): [line | {"images_per_second": 0} for line in read_jsonl(path)]
        for path in folder.rglob("train.jsonl")
    }
    weights = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("weights-*.safetensors")}
    assert all((evals, logs, weights))
    return evals | logs | weights


@pytest.mark.slow
@pytest.mark.long
def test_a_study_that_stops_again_and_again_for_want_of_time_ends_with_the_same_bits(
    project, cache, monkeypatch, harness
):
    """Time passes as the work asks for it: after so many questions it is up, and each command stops elsewhere."""
    for scratch in (project / "whole" / "scratch", project / "cut" / "scratch"):
        scratch.mkdir(parents=True)
        (scratch / ".cache").symlink_to(cache)
    words = ("run", "grids/convergence.yaml", "--scale", "smoke", "--study", "s", "--set", "seeds=[0]",
             "--set", "evaluation.samples=192")  # fmt: skip
    assert harness(*words, "--scratch", "whole/scratch", "--results", "whole/results")[0] == 0
    questions = [0]

    def passed(deadline: Deadline) -> bool:
        questions[0] -= 1
        return deadline != NEVER and questions[0] < 0

    monkeypatch.setattr(Deadline, "passed", property(passed))
    stopped, left = set(), []
    for turn in range(60):
        questions[0] = 9 + 4 * turn
        code, _, err = harness(*words, "--minutes", "1", "--scratch", "cut/scratch", "--results", "cut/results")
        if code == 0:
            break
        assert code == 75, err
        left.append([int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", err.split("up.")[1])])
        stopped.add(tuple(len(list((project / "cut").rglob(name))) for name in ("weights-*", "samples-*.json")))
    assert code == 0
    assert len(left) >= 6
    assert len(stopped) >= 3  # in training, among images, and between them and measuring
    assert left == sorted(left, reverse=True)
    assert bits(project / "cut") == bits(project / "whole")


def test_time_in_which_nothing_is_gained_is_too_short_and_said(project, monkeypatch, harness):
    monkeypatch.setattr(Deadline, "passed", property(lambda deadline: True))
    words = ("run", "grids/convergence.yaml", "--scale", "smoke", "--minutes", "1")
    code, _, err = harness(*words)
    assert (code, err.splitlines()[-1]) == (1, "--minutes: nothing was gained in this time; allow more of it")


def test_what_diverged_before_is_not_tried_again_and_not_called_done(project, harness):
    """Nobody has to read all lines to see it: the exit code is that of a failure, and the last line names it."""
    store, table = Store(Path("results"), Path("scratch"), "smoke"), load_table(Path("grids/table3.yaml"), "smoke")
    diverged, *others = table.runs
    write_error(store, diverged, "diverged", "the loss is not finite")
    for run in others:
        write_measurement(store, run, 3.0)
    code, out, err = harness("run", "grids/table3.yaml", "--scale", "smoke")
    assert (code, "everything else is done already" in out) == (1, True)
    assert "# Next: the same after 'harness run'" in harness("plan", "grids/table3.yaml", "--scale", "smoke")[1]
    assert err.splitlines()[0].startswith(f"{diverged.train_id} diverged before and is left out; delete ")
    assert err.splitlines()[-1].endswith(f"{diverged.train_id}; the reasons: harness status smoke")
    code, out, _ = harness("submit", "grids/table3.yaml", "--scale", "smoke", "--dry-run")
    assert (code, "everything is done already but what was left out" in out) == (1, True)


def test_a_measurement_that_cannot_be_read_costs_itself_and_nothing_is_written_over_it(project, harness, monkeypatch):
    table = load_table(Path("grids/table3.yaml"), "smoke")
    store = Store(Path("results"), Path("scratch"), "smoke")
    newer = store.eval_path(table.runs[0].train_id, table.runs[0].eval_id)
    newer.parent.mkdir(parents=True)
    newer.write_text('{"schema_version": 99}')
    ran = []
    monkeypatch.setattr(run_grids, "run_here", lambda todo, *_: ran.extend(todo))
    monkeypatch.setattr(request.preflight, "check", lambda *_: None)
    code, _, err = harness("run", "grids/table3.yaml", "--scale", "smoke")
    assert code == 1
    assert err == (
        f"{table.runs[0].train_id}: a measurement is left out: evals/{newer.name}: schema version 99 is of a newer "
        "harness; this one reads 1; mend or remove its file, and give the same command again\n"
        f"not done, for they diverged before or cannot be read: {table.runs[0].train_id}; "
        "the reasons: harness status smoke\n"
    )
    assert {job.train_id for job in ran} == {run.train_id for run in table.runs[1:]}
    code, out, err = harness("submit", "grids/table3.yaml", "--scale", "smoke", "--dry-run")
    assert (code, "is left out" in err, table.runs[0].train_id in out) == (1, True, False)
    code, out, _ = harness("plan", "grids/table3.yaml", "--scale", "smoke")
    assert (code, "schema version 99" in " ".join(out.split())) == (0, True)
    assert newer.read_text() == '{"schema_version": 99}'


@pytest.mark.slow
def test_a_second_phase_is_run_after_its_first_and_reported(project, cache, harness):
    (project / "scratch").mkdir()
    (project / "scratch" / ".cache").symlink_to(cache)
    row = "SoftREPA, a reading"
    code, out, err = harness("run", "table8", "--scale", "smoke", "--rows", f"method={row}")
    assert code == 0, err
    assert "soft tokens, seed 0: done: FID" in out
    assert harness("report", "smoke")[0] == 0
    summary = (project / "reports/smoke/summary.md").read_text(encoding="utf-8")
    assert re.search(rf"\| {row} \| .* \| 14.1K \| 4 \(whole network, in a second phase\) \|", summary)
    terms = (project / "reports/smoke/tables/table1.md").read_text(encoding="utf-8")
    assert re.search(rf"\| {row} \| .*exp\(-e_\{{ii\}}.* \| 1 \| 1 \| count 4; group 4; temperature 0.07;", terms)
    second = load_table(Path("grids/table8.yaml"), "smoke").runs[-1].train_id
    code, _, err = harness("weights", "export", f"smoke/{second}", "out.pt")
    assert (code, "no public layout has soft tokens; --step 0 is the network" in err) == (2, True)


@pytest.mark.slow
def test_a_table_with_a_process_of_ones_own_is_run_and_reported_without_the_code(tmp_path, harness, monkeypatch):
    monkeypatch.setattr(plugins, "_FILES", {})
    grid = write_process_grid(tmp_path, "{model: Trig-B/2, sampler.method: midpoint, sampler.intervals: 2}")
    monkeypatch.chdir(tmp_path)
    code, _, err = harness("run", "mine.yaml", "--scale", "smoke", "--study", "try")
    assert code == 0, err
    plugins._FILES.clear()
    grid.with_name("trig.py").unlink()
    assert harness("report", "try")[0] == 0
    page = (tmp_path / "reports/try/index.html").read_text(encoding="utf-8")
    assert "Trig: a trigonometric path; the network predicts the velocity along it" in page
    assert "midpoint sampler, 2 steps, 4 network evaluations" in page


def test_a_report_that_no_last_job_would_make_is_refused_before_anything_is_sent(harness, project):
    (project / "clusters").mkdir()
    (project / "clusters" / "here.yaml").write_text("executor: local\n")
    code, _, err = harness("submit", "convergence", "--scale", "smoke", "--profile", "here", "--report")
    assert (code, err) == (2, "--report: this machine has no last job; harness report makes it, also meanwhile\n")
    assert not (project / "scratch").exists()
