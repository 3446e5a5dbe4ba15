"""The pictures beneath the tables: what they draw against numbers worked out by hand."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from support import synthetic_study as synthetic
from support.printed_tables import NAMES
from support.synthetic_study import pivot_of, write_values

from harness.config.grid import Run
from harness.report.figures.over_training import best_arms, cells_by_length, length_chart, loss_chart, run_curves
from harness.report.figures.picture import DRAWN, page_look
from harness.report.figures.sample_pairs import best_arm, pair_chart, pairs, sample_strips
from harness.report.figures.scatters import cost, precision_recall, scatter_chart
from harness.report.figures.style import ArmStyles
from harness.report.figures.sweeps import cells_by_size
from harness.report.figures.table_figure import table_figure, value_axis
from harness.report.reading.samples import Sheet, read_strip
from harness.report.rendering.page import make_report
from harness.report.rendering.sheet import TableLayout
from harness.store.records import logged_hours, read_log
from harness.store.status import run_result
from harness.store.store import Logs, Store


def write_log(store: Store, run: Run, speed: float, denoising: float = 1.0) -> None:
    lines = [
        {"step": step, "denoising": denoising / step, "regularizer": -1.0, "loss": 0.0, "images_per_second": speed}
        for step in (20, 40, run.evaluation.step)
    ]
    synthetic.write_text(
        store.run_folder(run.train_id) / "train.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines)
    )


def write_environment(store: Store, run: Run, **changed: Any) -> None:
    attempt = {"start": "2026-01-01", "host": "h", "device": "Some CPU", "threads": 2, "versions": {}} | changed
    synthetic.write_text(store.run_folder(run.train_id) / "env.json", {"attempts": [attempt]})


def test_hours_are_steps_times_batch_over_speed_and_end_at_the_measured_step() -> None:
    log = {"images_per_second": ((100, 50.0), (200, 25.0))}
    assert logged_hours(log, 32, 200) == pytest.approx((100 * 32 / 50 + 100 * 32 / 25) / 3600)
    assert logged_hours(log, 32, 150) == pytest.approx((100 * 32 / 50 + 50 * 32 / 25) / 3600)
    assert logged_hours(log, 32, 201) is None  # the log does not reach it
    assert logged_hours(log, 32, 0) is None


def test_cost_is_in_the_unit_of_the_device_and_never_of_two(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    for run in table.runs:
        write_log(store, run, speed=1000.0)
        write_environment(store, run, processes=3)
    run = table.runs[0]
    minutes = run.evaluation.step * run.train.batch / 1000 / 60
    plane = cost(pivot_of(store, table), Logs(store))
    assert plane.x == "core-minutes"
    assert [x for x, _ in plane.points.values()] == pytest.approx([2 * 3 * minutes] * 6)
    for run in table.runs:
        write_log(store, run, speed=10.0)
        write_environment(store, run, device="NVIDIA H100", processes=8)
    plane = cost(pivot_of(store, table), Logs(store))
    assert plane.x == "GPU-hours"  # more than half an hour
    assert [x for x, _ in plane.points.values()] == pytest.approx([100 * 8 * minutes / 60] * 6)
    write_environment(store, table.runs[0])
    write_environment(store, table.runs[1])
    assert cost(pivot_of(store, table), Logs(store)).points == {}


def test_precision_and_recall_are_means_over_seeds(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    synthetic.write_measurement(store, table.runs[1], 5.0, further={"recall": 0.75})
    plane = precision_recall(pivot_of(store, table))
    assert (plane.x, plane.y) == ("recall", "precision")
    assert next(iter(plane.points.values())) == (0.5, 0.5)  # recall (0.25 + 0.75) / 2
    shown = scatter_chart(pivot_of(store, table), Logs(store), ArmStyles())
    assert shown
    assert shown.title == "Precision and recall"  # nothing was timed
    assert shown.alt.startswith("Recall and precision of each cell: none 0.500, 0.500; ")


def test_losses_are_those_of_the_baseline_and_the_best_arms(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2")
    synthetic.full_study(store, [table])
    laid_out = pivot_of(store, table)
    arms = best_arms(laid_out)
    assert arms[0].is_baseline
    means = [cell.ours.mean for cell in arms[1:] if cell.ours]
    others = sorted(cell.ours.mean for cell in laid_out.cells if cell.ours and not cell.is_baseline)
    assert means == others[:5]
    assert loss_chart(laid_out, Logs(store), ArmStyles()) is None
    for cell in arms:
        for seed, run in enumerate(cell.source.runs):
            write_log(store, run, 100.0, denoising=10.0 + 20 * seed)
    shown = loss_chart(laid_out, Logs(store), ArmStyles())
    assert shown
    last = table.runs[0].evaluation.step
    # the mean of 10 and 30, over steps 20 … last
    assert f"baseline 1 to {20 / last:.4g}, regulariser -1; " in shown.alt
    assert "the best of the table’s 13 cells" in shown.caption


def test_lengths_join_the_cells_of_one_training(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("convergence")
    synthetic.full_study(store, [table])
    laid_out = pivot_of(store, table)
    arms = cells_by_length(laid_out)
    assert {label: len(cells) for label, cells in arms.items()} == {"baseline": 4, "dispersive, InfoNCE ℓ2": 4}
    for cells in arms.values():
        assert len({cell.runs[0].train_id for cell in cells}) == 1
        steps = [cell.source.runs[0].evaluation.step for cell in cells]
        assert steps == sorted(set(steps))
    assert length_chart(laid_out, ArmStyles())
    table = synthetic.table_of("table2")
    synthetic.full_study(store, [table])
    assert length_chart(pivot_of(store, table), ArmStyles()) is None


def sheet_of(store: Store, run: Run, tiles: list[int]) -> Sheet:
    picture = np.repeat(np.array(tiles, np.uint8).reshape(2, 10), 8, axis=1).repeat(8, axis=0)
    synthetic.write_measurement(store, run, 4.0, picture=picture)
    sheet = read_strip(store, run, run_result(store, run).measurement, "it").sheet
    assert sheet
    return sheet


def test_pairs_are_ordered_by_how_much_they_changed(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    changes = [(7 * place) % 20 for place in range(20)]  # every difference from 0 to 19 once
    without = sheet_of(store, table.runs[0], [100] * 20)
    with_loss = sheet_of(store, table.runs[1], [100 - change for change in changes])
    compared = pairs("it", 0, without, with_loss)
    assert compared
    assert compared.apart == [float(change) for change in changes]
    first, most, least = compared.rows().values()
    assert first == [0, 1, 2, 3, 4, 5]
    assert [changes[place] for place in most] == [19, 18, 17, 16, 15, 14]
    assert [changes[place] for place in least] == [0, 1, 2, 3, 4, 5]
    assert pairs("it", 0, without, Sheet(with_loss.path, 1, 2, 5, 80, 16, "")) is None


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
    assert (shown.name, shown.seed) == ("block all", 0)
    page = make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8")
    assert page.count('<div class="pairs">') == 3
    assert page.count("in pairs: left without the loss, right with block all") == 3
    assert "(block all, seed 0)" in page


def _tile_colours(svg: str) -> set[str]:
    return set(re.findall(r'<path[^>]*style="fill: (#[0-9a-f]{6})', svg))


def test_tiny_changes_are_pale_in_the_heat_map(tmp_path: Path) -> None:
    """The lightness of the strongest tile, where the largest change is 0.01 % and where it is 20 %."""
    darkest = []
    for step in (0.0001, 0.2):
        store, table = synthetic.new_store(tmp_path / str(step)), synthetic.table_of("table4")
        for index, cell in enumerate(table.cells):
            for run in cell.runs:
                synthetic.write_measurement(store, run, 5.0 if cell.aside else 5.0 * (1 - step * (index % 2)))
        drawing = table_figure(pivot_of(store, table), ArmStyles())
        assert drawing
        assert drawing.kind == "heat"
        darkest.append(min(sum(bytes.fromhex(colour[1:])) for colour in _tile_colours(drawing.svg)) / 765)
    assert darkest[0] > 0.95
    assert darkest[1] < 0.6


@pytest.mark.parametrize("values", [(45.4966, 45.4994), (4.0, 4.7), (0.0010, 0.0012), (30.0, 95.0), (5.0, 5.0)])
def test_ticks_of_a_narrow_range_are_few_different_and_true(tmp_path: Path, values: tuple[float, float]) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3", "smoke")
    write_values(store, table, {"none": {0: values[0]}, "all": {0: values[1]}})
    axes = Figure().add_subplot()
    with page_look(DRAWN):
        value_axis(axes, pivot_of(store, table))
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    labels = axes.xaxis.get_major_formatter().format_ticks(ticks)
    assert 2 <= len(ticks) <= 6
    assert [float(label) for label in labels] == pytest.approx(ticks, rel=1e-9)
    assert max(map(len, labels)) <= 7
    assert high - low >= 0.0199 * values[1]


def test_the_heat_map_s_axis_names_stand_upright(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table4")
    synthetic.full_study(store, [table])
    drawing = table_figure(pivot_of(store, table), ArmStyles())
    assert drawing
    assert re.search(r"<text[^>]*>λ</text>", drawing.svg)
    assert "rotate(-90" not in drawing.svg


def test_strips_are_of_one_seed_and_say_what_is_missing(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2")
    synthetic.full_study(store, [table])
    hinge = synthetic.cell_of(table, "Hinge", "dispersive").runs
    for run in hinge:
        picture = store.eval_path(run.train_id, run.eval_id).with_suffix(".png")
        picture.write_bytes(picture.read_bytes()[:-300])
    samples = sample_strips(store, pivot_of(store, table))
    assert samples
    names = [strip.name for strip in samples.strips]
    losses = ("InfoNCE, ℓ2", "InfoNCE, cosine", "Hinge", "Covariance")
    assert names == ["baseline", *(f"{loss} · dispersive" for loss in losses)]
    sheets = [strip.sheet for strip in samples.strips]
    assert [bool(sheet) for sheet in sheets] == [True, True, True, False, True]
    assert samples.strips[3].missing == "the picture of its samples is unreadable"
    first = sheets[0]
    assert first
    assert first.alt == "20 samples of baseline, seed 0, in 2 rows of 10"
    assert (first.width, first.height, first.pixelated) == (80, 16, True)
    with Image.open(io.BytesIO(base64.b64decode(first.uri.partition(",")[2]))) as image:
        assert image.tobytes() == synthetic.noise_picture(0).tobytes()


def test_gains_are_ordered_by_size_for_each_family(full_layouts: list[TableLayout]) -> None:
    full = [layout.result.pivot for layout in full_layouts]
    arms = cells_by_size(full[-1])
    sizes = ("S", "B", "L", "XL")
    assert {label: [cell.source.settings.model for cell in cells] for label, cells in arms.items()} == {
        f"{family} · {guidance}": [f"{family}-{size}/2" for size in sizes]
        for family in ("DiT", "SiT")
        for guidance in ("without guidance", "CFG 1.5")
    }
    assert [cells_by_size(laid_out) for laid_out in full[:-1]] == [{}] * (len(NAMES) - 1)


def test_curves_outlive_torn_lines_and_repeated_steps(tmp_path: Path) -> None:
    log = tmp_path / "train.jsonl"
    records = [{"step": step, "denoising": 9.0 - step, "loss": 9.0 - step} for step in (1, 2, 3, 2)]
    records.append({"step": 4, "denoising": "nan", "loss": float("nan")})
    log.write_text("".join(f"{json.dumps(record)}\n" for record in records) + '{"step": 5, "den', encoding="utf-8")
    (curve,) = run_curves(read_log(log), "abc")
    assert curve.points == "0.0,0.0 140.0,45.0 280.0,90.0"
    assert (curve.low, curve.high, curve.last) == ("6", "8", "3")
    assert run_curves(read_log(tmp_path / "none.jsonl"), "abc") == ()
    log.write_text("".join(f'{{"step": {step}, "gradient_share": 0.{step}}}\n' for step in (1, 2)), encoding="utf-8")
    assert [curve.title for curve in run_curves(read_log(log), "abc")] == ["regulariser’s share of the gradient"]
