"""Trainings: each is described once, with all that shows it, in the report or on pages of its own."""

from dataclasses import replace
from pathlib import Path

import pytest
from support import synthetic_study as synthetic
from support.synthetic_study import pivots_of

from harness.config.grid import Table
from harness.report.reading.collect import RunStatuses
from harness.report.rendering.trainings import A_PAGE, TrainingArticle, paginate, training_articles
from harness.store.store import Logs, Store


@pytest.fixture
def study(tmp_path: Path) -> tuple[Store, list[Table]]:
    store, tables = synthetic.new_store(tmp_path), [synthetic.table_of(name) for name in ("table3", "convergence")]
    synthetic.full_study(store, tables)
    return store, tables


def articles_of(store: Store, tables: list[Table]) -> list[TrainingArticle]:
    return training_articles(RunStatuses(store), pivots_of(store, tables), Logs(store))


def test_a_training_is_described_once_with_each_measurement_and_each_cell_that_shows_it(
    study: tuple[Store, list[Table]],
) -> None:
    store, tables = study
    articles = articles_of(store, tables)
    runs = [run for table in tables for cell in table.cells for run in cell.runs]
    assert [article.run.train_id for article in articles] == list(dict.fromkeys(run.train_id for run in runs))
    assert sum(len(article.uses) for article in articles) == len(runs)
    measured = [measurement.run.eval_id for article in articles for measurement in article.measurements]
    assert sorted(measured) == sorted({run.eval_id for run in runs})
    for article in articles:
        steps = [measurement.run.evaluation.step for measurement in article.measurements]
        assert steps == sorted(steps)
        assert f"seeds={article.run.seed}" in article.command
        assert ("FID", f"{article.run.value:.2f}") in article.measurements[0].numbers or len(steps) > 1


def test_a_training_that_failed_somewhere_says_so_with_its_traceback(study: tuple[Store, list[Table]]) -> None:
    store, tables = study
    run = tables[0].runs[0]
    store.eval_path(run.train_id, run.eval_id).unlink()
    synthetic.write_error(store, run, "error", "out of memory", "Traceback: here")
    article = next(article for article in articles_of(store, tables) if article.run.train_id == run.train_id)
    assert (article.run.state, article.traceback) == ("failed", "Traceback: here")
    assert article.uses[0][3].state == "failed"


def test_heavy_trainings_have_pages_and_light_ones_stand_in_the_report(
    study: tuple[Store, list[Table]], tmp_path: Path
) -> None:
    store, tables = study
    articles = articles_of(store, tables)[:5]
    light = paginate("study", articles)
    assert set(light.places.values()) == {""}
    assert len(light.articles()) == 5
    heavy = paginate("study", [replace(article, spec="x" * (A_PAGE * 2 // 3)) for article in articles])
    assert list(heavy.places.values()) == [f"runs/{page}.html" for page in range(1, 6)]
    assert heavy.articles() == []
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "9.html").touch()
    heavy.write(tmp_path)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [f"{page}.html" for page in range(1, 6)]
    assert "../index.html#runs-" in (tmp_path / "runs" / "1.html").read_text(encoding="utf-8")
