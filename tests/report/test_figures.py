"""The pictures beneath the tables: what they draw against numbers worked out by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import synthetic_study as synthetic
from support.synthetic_study import pivot_of

from harness.config.grid import Run
from harness.report.figures.lengths import courses, length_chart
from harness.report.figures.loss_curves import chosen, loss_chart
from harness.report.figures.sample_pairs import best_arm, pair_chart, pairs
from harness.report.figures.scatters import cost, precision_recall, scatter_chart
from harness.report.reading.collect import read_outcome
from harness.report.reading.samples import Sheet, read_strip
from harness.store.store import Store
from harness.store.training_log import Log, Logs


def write_log(store: Store, run: Run, speed: float, denoising: float = 1.0) -> None:
    lines = [
        {"step": step, "denoising": denoising / step, "regularizer": -1.0, "loss": 0.0, "images_per_second": speed}
        for step in (20, 40, run.evaluation.step)
    ]
    synthetic.write_text(
        store.run_folder(run.train_id) / "train.jsonl", "".join(f"{json.dumps(one)}\n" for one in lines)
    )


def write_environment(store: Store, run: Run, **said: Any) -> None:
    attempt = {"start": "2026-01-01", "host": "h", "device": "Some CPU", "threads": 2, "versions": {}} | said
    synthetic.write_text(store.run_folder(run.train_id) / "env.json", {"attempts": [attempt]})


def test_hours_are_steps_times_batch_over_speed_and_end_at_the_measured_step() -> None:
    log = Log({"images_per_second": ((100, 50.0), (200, 25.0))})
    assert log.hours(32, 200) == pytest.approx((100 * 32 / 50 + 100 * 32 / 25) / 3600)
    assert log.hours(32, 150) == pytest.approx((100 * 32 / 50 + 50 * 32 / 25) / 3600)
    assert log.hours(32, 201) is None  # the log does not reach it
    assert log.hours(32, 0) is None


def test_cost_is_in_the_unit_of_the_device_and_never_of_two(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    for run in table.runs:
        write_log(store, run, speed=1000.0)
        write_environment(store, run, processes=3)
    run = table.runs[0]
    minutes = run.evaluation.step * run.train.batch / 1000 / 60
    found = cost(pivot_of(store, table), Logs(store))
    assert found.x == "core-minutes"
    assert [x for x, _ in found.points.values()] == pytest.approx([2 * 3 * minutes] * 6)
    for run in table.runs:
        write_log(store, run, speed=10.0)
        write_environment(store, run, device="NVIDIA H100", processes=8)
    found = cost(pivot_of(store, table), Logs(store))
    assert found.x == "GPU-hours"  # more than half an hour
    assert [x for x, _ in found.points.values()] == pytest.approx([100 * 8 * minutes / 60] * 6)
    write_environment(store, table.runs[0])
    write_environment(store, table.runs[1])
    assert cost(pivot_of(store, table), Logs(store)).points == {}


def test_precision_and_recall_are_means_over_seeds(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    synthetic.write_measurement(store, table.runs[1], 5.0, further={"recall": 0.75})
    found = precision_recall(pivot_of(store, table))
    assert (found.x, found.y) == ("recall", "precision")
    assert next(iter(found.points.values())) == (0.5, 0.5)  # recall (0.25 + 0.75) / 2
    shown = scatter_chart(pivot_of(store, table), Logs(store))
    assert shown
    assert shown.picture
    assert shown.title == "Precision and recall"  # nothing was timed
    assert shown.picture.alt.startswith("Recall and precision of each cell: none 0.500, 0.500; ")


def test_losses_are_those_of_the_baseline_and_the_best_arms(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2")
    synthetic.full_study(store, [table])
    laid_out = pivot_of(store, table)
    arms = chosen(laid_out)
    assert arms[0].is_baseline
    means = [cell.ours.mean for cell in arms[1:] if cell.ours]
    others = sorted(cell.ours.mean for cell in laid_out.cells if cell.ours and not cell.is_baseline)
    assert means == others[:5]
    assert loss_chart(laid_out, Logs(store)) is None
    for cell in arms:
        for seed, run in enumerate(cell.source.runs):
            write_log(store, run, 100.0, denoising=10.0 + 20 * seed)
    shown = loss_chart(laid_out, Logs(store))
    assert shown
    assert shown.picture
    last = table.runs[0].evaluation.step
    # the mean of 10 and 30, over steps 20 … last
    assert f"baseline 1 to {20 / last:.4g}, regulariser -1; " in shown.picture.alt
    assert "the best of the table’s 13 cells" in shown.caption


def test_lengths_join_the_cells_of_one_training(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("convergence")
    synthetic.full_study(store, [table])
    laid_out = pivot_of(store, table)
    assert [(course.label, len(course.cells)) for course in courses(laid_out)] == [
        ("baseline", 4), ("dispersive, InfoNCE ℓ2", 4),
    ]  # fmt: skip
    for course in courses(laid_out):
        assert len({cell.runs[0].train_id for cell in course.cells}) == 1
        steps = [cell.source.runs[0].evaluation.step for cell in course.cells]
        assert steps == sorted(set(steps))
    assert length_chart(laid_out)
    table = synthetic.table_of("table2")
    synthetic.full_study(store, [table])
    assert length_chart(pivot_of(store, table)) is None


def sheet_of(store: Store, run: Run, tiles: list[int]) -> Sheet:
    picture = np.repeat(np.array(tiles, np.uint8).reshape(2, 10), 8, axis=1).repeat(8, axis=0)
    synthetic.write_measurement(store, run, 4.0, picture=picture)
    sheet = read_strip(store, run, read_outcome(store, run).measurement, "it").sheet
    assert sheet
    return sheet


def test_pairs_are_ordered_by_how_much_they_changed(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    changes = [(7 * place) % 20 for place in range(20)]  # every difference from 0 to 19 once
    without = sheet_of(store, table.runs[0], [100] * 20)
    with_loss = sheet_of(store, table.runs[1], [100 - change for change in changes])
    found = pairs(without, with_loss)
    assert found
    assert found.apart == tuple(float(change) for change in changes)
    first, most, least = (places for _, places in found.rows())
    assert first == [0, 1, 2, 3, 4, 5]
    assert [changes[place] for place in most] == [19, 18, 17, 16, 15, 14]
    assert [changes[place] for place in least] == [0, 1, 2, 3, 4, 5]
    assert pairs(without, Sheet(with_loss.path, 1, 2, 5, 80, 16, "")) is None


def test_pairs_show_the_best_arm_and_say_so(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    for run in synthetic.cell_of(table, "all").runs:
        synthetic.write_measurement(store, run, 1.0, picture=synthetic.noise_picture(99))
    laid_out = pivot_of(store, table)
    best, shown = best_arm(laid_out), pair_chart(store, laid_out)
    assert best
    assert shown
    assert best.name == "block all"
    assert shown.images.count("<img") == 3
    assert "left without the loss, right with block all" in shown.images
    assert "(block all, seed 0)" in shown.caption
