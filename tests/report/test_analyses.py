"""Guidance, response surfaces and early ranking on synthetic runs whose answers are known."""

import json
from pathlib import Path

import pytest
from support import synthetic_study as synthetic
from support.synthetic_study import pivot_of

from harness.config.grid import Run, Table
from harness.report.analysis.arms import families
from harness.report.analysis.early_ranking import pruning
from harness.report.analysis.guidance_sweep import Effect, sweeps, verdict
from harness.report.analysis.pivot import Pivot
from harness.report.analysis.statistics import Interval
from harness.report.analysis.surfaces import best_of, edge_warning, plateau, settings_of, surfaces, varied
from harness.report.rendering.page import make_report
from harness.store.store import Store
from harness.store.training_log import Logs

SEEDS = "seeds=[0,1,2,3,4]"
NOISE = {0: 0.011, 1: -0.013, 2: 0.004, 3: 0.009, 4: -0.01}  # of a seed, the same for all arms


def jitter(run: Run, place: int) -> float:
    """Noise of a run alone, small and known."""
    return 0.002 * ((7 * place + 3 * run.seed) % 5 - 2)


# Guidance


def guided(folder: Path, loss_costs: float, shared: float) -> tuple[Store, Table]:
    """A sweep whose recall falls by 0.1 with each unit of guidance, and by `loss_costs` with the loss.

    shared: how much less guidance costs the dispersive arm. FID is best at guidance 2, where the gain of 10 % halves.
    """
    store, table = synthetic.new_store(folder), synthetic.table_of("guidance", "digits", SEEDS)
    for place, cell in enumerate(table.cells):
        scale, disperses = cell.settings.sampler.guidance, cell.settings.regularizer.loss != "none"
        gain = (0.9 if scale < 2 else 0.95) if disperses else 1.0
        for run in cell.runs:
            noise = NOISE[run.seed] + jitter(run, place)
            recall = 0.8 - 0.1 * (scale - 1) - disperses * (loss_costs - shared * (scale - 1)) + noise
            fid = gain * (4 + (scale - 2) ** 2) * (1 + noise)
            synthetic.write_measurement(store, run, fid, further={"recall": recall})
    return store, table


@pytest.mark.parametrize(
    ("loss_costs", "shared", "words"),
    [
        (0.05, 0.05, "together less than the sum of the two: they spend the same diversity"),
        (0.05, 0.0, "these seeds neither show that they spend the same diversity nor exclude it"),
        (-0.05, 0.0, "The loss adds recall where guidance spends it"),
        (0.0, 0.0, "the loss is not seen to"),
    ],
)
def test_whose_diversity_is_spent_follows_the_numbers(
    tmp_path: Path, loss_costs: float, shared: float, words: str
) -> None:
    (sweep,) = sweeps([pivot_of(*guided(tmp_path, loss_costs, shared))])
    said = " ".join(sweep.sentences)
    assert words in said
    assert said.count("is best at guidance 2 ") == 2
    assert "Coverage is not stored for both arms at 1 and 4" in said


def test_the_gain_is_compared_without_guidance_and_at_the_best_scale(tmp_path: Path) -> None:
    (sweep,) = sweeps([pivot_of(*guided(tmp_path, 0.0, 0.0))])
    moved = next(sentence for sentence in sweep.sentences if sentence.startswith("Its change"))
    assert "−10." in moved or "−9." in moved
    assert moved.endswith("points, upwards.")
    assert "recall" in sweep.picture.svg


def test_what_the_seeds_cannot_tell_has_no_verdict() -> None:
    sure, unsure = Effect(-0.1, Interval(-0.2, -0.05)), Effect(-0.1, Interval(-0.3, 0.1))
    assert "not seen to cost recall" in verdict("recall", sure, unsure, unsure)
    assert "not seen to" in verdict("recall", unsure, sure, unsure)
    assert "neither show" in verdict("recall", sure, sure, unsure)
    assert "more than the sum" in verdict("recall", sure, sure, sure)
    assert verdict("recall", Effect(-0.1, None), Effect(-0.1, None), Effect(0, None)).startswith("With one seed")


def test_the_sweep_trains_nothing_of_its_own() -> None:
    """Not even at the paper's own scale: its trainings are those of Table 2."""
    for scale in ("smoke", "digits", "cifar10", "imagenet256"):
        trained = {run.train_id for run in synthetic.table_of("table2", scale).runs}
        assert {run.train_id for run in synthetic.table_of("guidance", scale).runs} <= trained


# Surfaces


def surface_of(folder: Path, best: tuple[str, str], near: tuple[str, str], level: float = 4.0) -> Pivot:
    """Table 4 where one setting is best, one within 1 % of it, and the others 5 % and more away; the baseline has 5."""
    store, table = synthetic.new_store(folder), synthetic.table_of("table4", "digits", SEEDS)
    for place, cell in enumerate(table.cells):
        at = (cell.label("λ"), cell.label("τ"))
        value = 5.0 if cell.aside else level * {best: 1.0, near: 1.005}.get(at, 1.05 + 0.01 * place)
        for run in cell.runs:
            synthetic.write_measurement(store, run, value * (1 + NOISE[run.seed] + jitter(run, place) / 10))
    return pivot_of(store, table)


def test_the_plateau_is_what_is_within_one_percent_of_the_best(tmp_path: Path) -> None:
    laid_out = surface_of(tmp_path, ("0.5", "1.0"), ("0.5", "0.5"))
    cells = settings_of(laid_out)
    assert varied(cells) == ["lambda_", "tau"]
    assert best_of(laid_out, cells).name == "λ 0.5 · τ 1.0"
    assert [cell.name for cell in plateau(laid_out, cells)] == ["λ 0.5 · τ 0.5", "λ 0.5 · τ 1.0"]
    (surface,) = surfaces([laid_out])
    assert surface.warning == ""
    assert surface.sentences[-1] == "Rule of thumb: keep the paper’s setting, “λ 0.5 · τ 0.5”; it is on the plateau."


def test_a_best_setting_on_the_edge_of_the_grid_is_warned_of(tmp_path: Path) -> None:
    laid_out = surface_of(tmp_path, ("1.0", "0.5"), ("1.0", "1.0"))
    cells = settings_of(laid_out)
    assert edge_warning(laid_out, cells, varied(cells)).startswith(
        "The best lies on the edge of the grid (λ = 1, the largest tried)"
    )
    assert "Rule of thumb: take “λ 1.0 · τ 0.5”" in surfaces([laid_out])[0].sentences[-1]


def test_where_no_setting_gains_the_rule_is_to_leave_it_out(tmp_path: Path) -> None:
    (surface,) = surfaces([surface_of(tmp_path, ("0.5", "1.0"), ("0.5", "0.5"), level=6.0)])
    assert "leave it out; “λ 0.5 · τ 1.0” costs least (+20." in surface.sentences[-1]


def test_only_tables_of_the_loss_s_own_settings_are_surfaces(tmp_path: Path) -> None:
    store, names = synthetic.new_store(tmp_path), ("table2", "table3", "table4", "figure4")
    tables = [synthetic.table_of(name) for name in names]
    synthetic.full_study(store, tables)
    found = [varied(settings_of(pivot_of(store, table))) for table in tables]
    assert found == [[], ["blocks"], ["lambda_", "tau"], []]


# Early ranking


def with_logs(folder: Path, sign: int) -> tuple[Store, list[Table]]:
    """Table 2 with logs whose denoising loss is, from the first line to the last, FID itself or its negative."""
    store, table = synthetic.new_store(folder), synthetic.table_of("table2", "digits", "seeds=[0,1,2]")
    for place, cell in enumerate(table.cells):
        for run in cell.runs:
            fid = 4 + 0.5 * ((5 * place) % 13)
            synthetic.write_measurement(store, run, fid + 0.01 * run.seed)
            lines = [{"step": step, "denoising": sign * fid + 0.1 * run.seed} for step in range(20, 641, 20)]
            log = "".join(f"{json.dumps(line)}\n" for line in lines)
            synthetic.write_text(store.run_folder(run.train_id) / "train.jsonl", log)
    return store, [table]


@pytest.mark.parametrize(("sign", "tau", "kept"), [(1, 1.0, 3), (-1, -1.0, 0)])
def test_an_early_loss_that_orders_the_arms_is_found(tmp_path: Path, sign: int, tau: float, kept: int) -> None:
    store, tables = with_logs(tmp_path, sign)
    pivots = [pivot_of(store, table) for table in tables]
    (family,) = families(pivots)
    assert (family.steps, len(family.arms)) == (640, 13)
    (found,) = pruning(store, pivots, Logs(store))
    first = found.rankings[0]
    assert (first.name, first.share, first.arms, first.kept, first.seeds) == ("denoising loss", 0.125, 13, kept, 3)
    assert (first.tau, first.rho) == (pytest.approx(tau), pytest.approx(tau))
    safe = "with every seed is the denoising loss after an eighth of the training" in " ".join(found.sentences)
    assert safe == (kept == 3)


def test_fid_of_fewer_images_is_ranked_where_measurements_kept_it(tmp_path: Path) -> None:
    store, tables = with_logs(tmp_path, 1)
    for run in tables[0].runs:
        path = store.eval_path(run.train_id, run.eval_id)
        content = json.loads(path.read_text(encoding="utf-8"))
        by_count = {"500": -content["metrics"]["fid"], "1000": content["metrics"]["fid"]}
        path.write_text(json.dumps(content | {"details": {"fid_by_count": by_count}}), encoding="utf-8")
    (found,) = pruning(store, [pivot_of(store, tables[0])], Logs(store))
    assert found.rankings[-1].name == "FID of 500 images"
    assert found.rankings[-1].tau == pytest.approx(-1.0)


def test_trainings_of_another_kind_are_another_family(tmp_path: Path) -> None:
    store, tables = with_logs(tmp_path, 1)
    more = [synthetic.table_of(name) for name in ("figure4", "table3")]
    synthetic.full_study(store, more)
    found = families([pivot_of(store, table) for table in (*tables, *more)])
    assert [family.title for family in found] == ["SiT-B/2, 640 steps, 17 arms"]


def test_the_page_has_all_three(tmp_path: Path) -> None:
    store, table = guided(tmp_path, 0.05, 0.0)
    surface_of(tmp_path, ("1.0", "0.5"), ("1.0", "1.0"))
    tables = [table, synthetic.table_of("table4", "digits", SEEDS)]
    for run in tables[1].runs:
        line = json.dumps(
            {"step": 20, "denoising": float(run.train.regularizer.tau or 1)} if run.train.regularizer else {}
        )
        synthetic.write_text(store.run_folder(run.train_id) / "train.jsonl", f"{line}\n")
    page = make_report(store, tables, tmp_path / "page").read_text(encoding="utf-8")
    for words in (
        '<section id="guidance">',
        '<section id="surfaces">',
        '<section id="pruning">',
        "on the edge of the grid",
    ):
        assert words in page
    assert page == make_report(store, tables, tmp_path / "again").read_text(encoding="utf-8")
