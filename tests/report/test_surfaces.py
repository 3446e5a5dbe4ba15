"""Response surfaces on synthetic runs whose answers are known."""

from pathlib import Path

from support import synthetic_study as synthetic
from support.swept_studies import surface_of
from support.synthetic_study import pivot_of

from harness.report.analysis.surfaces import edge_warning, plateau, settings_of, surfaces, varied


def test_the_plateau_is_what_is_within_one_percent_of_the_best(tmp_path: Path) -> None:
    laid_out = surface_of(tmp_path, ("0.5", "1.0"), ("0.5", "0.5"))
    cells = settings_of(laid_out)
    assert varied(cells) == ["lambda_", "tau"]
    assert laid_out.ranked(cells)[0].name == "λ 0.5 · τ 1.0"
    assert [cell.name for cell in plateau(laid_out, cells)] == ["λ 0.5 · τ 0.5", "λ 0.5 · τ 1.0"]
    (surface,) = surfaces([laid_out])
    assert surface.warning == ""
    assert surface.sentences[0] == "Rule of thumb: keep the paper’s setting, “λ 0.5 · τ 0.5”; it is on the plateau."


def test_a_best_setting_on_the_edge_of_the_grid_is_warned_of(tmp_path: Path) -> None:
    laid_out = surface_of(tmp_path, ("1.0", "0.5"), ("1.0", "1.0"))
    cells = settings_of(laid_out)
    assert edge_warning(laid_out, cells, varied(cells)).startswith(
        "The best lies on the edge of the grid (λ = 1, the largest tried)"
    )
    assert "Rule of thumb: take “λ 1.0 · τ 0.5”" in surfaces([laid_out])[0].sentences[0]


def test_where_no_setting_gains_the_rule_is_to_leave_it_out(tmp_path: Path) -> None:
    (surface,) = surfaces([surface_of(tmp_path, ("0.5", "1.0"), ("0.5", "0.5"), level=6.0)])
    assert "leave the loss out; “λ 0.5 · τ 1.0” costs least (FID worse by 20." in surface.sentences[0]


def test_only_tables_of_the_loss_s_own_settings_are_surfaces(tmp_path: Path) -> None:
    store, names = synthetic.new_store(tmp_path), ("table2", "table3", "table4", "figure4")
    tables = [synthetic.table_of(name) for name in names]
    synthetic.full_study(store, tables)
    knobs = [varied(settings_of(pivot_of(store, table))) for table in tables]
    assert knobs == [[], ["blocks"], ["lambda_", "tau"], []]
