"""Early ranking on synthetic runs whose answers are known."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau
from support import synthetic_study as synthetic
from support.synthetic_study import pivot_of

from harness.config.grid import Table
from harness.report.analysis.arms import arm_groups
from harness.report.analysis.early_ranking import contests, early_rankings
from harness.store.store import Logs, Store


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


@pytest.mark.parametrize(("sign", "tau", "hits"), [(1, 1.0, 3), (-1, -1.0, 0)])
def test_an_early_loss_that_orders_the_arms_is_found(tmp_path: Path, sign: int, tau: float, hits: int) -> None:
    store, tables = with_logs(tmp_path, sign)
    pivots = [pivot_of(store, table) for table in tables]
    (contest,) = contests(arm_groups(pivots))
    assert (contest.steps, len(contest.arms)) == (640, 13)
    (ranking,) = early_rankings(store, pivots, Logs(store))
    first = ranking.rankings[0]
    assert (first.name, first.share, first.arms, first.hits, first.seeds) == ("denoising loss", 0.125, 13, hits, 3)
    assert (first.tau, first.rho) == (pytest.approx(tau), pytest.approx(tau))
    safe = "with every seed is the denoising loss after an eighth of the training" in " ".join(ranking.sentences)
    assert safe == (hits == 3)


def test_fid_of_fewer_images_is_ranked_where_measurements_kept_it(tmp_path: Path) -> None:
    store, tables = with_logs(tmp_path, 1)
    for run in tables[0].runs:
        path = store.eval_path(run.train_id, run.eval_id)
        content = json.loads(path.read_text(encoding="utf-8"))
        by_count = {"500": 1000 - content["metrics"]["fid"], "1000": content["metrics"]["fid"]}
        path.write_text(json.dumps(content | {"details": {"fid_by_count": by_count}}), encoding="utf-8")
    (ranking,) = early_rankings(store, [pivot_of(store, tables[0])], Logs(store))
    assert ranking.rankings[-1].name == "FID of 500 images"
    assert ranking.rankings[-1].tau == pytest.approx(-1.0)


def test_a_seeds_own_value_is_no_part_of_what_it_is_ranked_against(tmp_path: Path) -> None:
    """Arms that differ by chance alone: a final value has τ 0.48 with a mean that contains it, 0.20 without."""
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2", "digits", "seeds=[0,1,2]")
    final = np.random.default_rng(0).normal(4, 1, (13, 3))
    for values, cell in zip(final, table.cells, strict=True):
        for run in cell.runs:
            synthetic.write_measurement(store, run, values[run.seed])
            log = json.dumps({"step": 80, "denoising": values[run.seed]})
            synthetic.write_text(store.run_folder(run.train_id) / "train.jsonl", f"{log}\n")
    (ranking,) = early_rankings(store, [pivot_of(store, table)], Logs(store))
    taus = [kendalltau(final[:, s], final[:, [o for o in range(3) if o != s]].mean(1)).statistic for s in range(3)]
    assert np.mean(taus) == pytest.approx(0.20, abs=0.005)
    assert [row.tau for row in ranking.rankings] == pytest.approx([np.mean(taus)] * 5, rel=1e-12)


def test_one_seed_ranks_nothing(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2", "digits", "seeds=[1]")
    synthetic.full_study(store, [table])
    assert early_rankings(store, [pivot_of(store, table)], Logs(store)) == []


def test_trainings_of_another_kind_are_another_group(tmp_path: Path) -> None:
    store, tables = with_logs(tmp_path, 1)
    more = [synthetic.table_of(name) for name in ("figure4", "table3")]
    synthetic.full_study(store, more)
    groups = arm_groups([pivot_of(store, table) for table in (*tables, *more)])
    assert [contest.title for contest in contests(groups)] == ["SiT-B/2, 640 steps, 17 arms"]
