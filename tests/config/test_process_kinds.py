"""Families and samplers of plug-ins: the documented ones, against closed forms, in a grid, run and reported."""

import math

import pytest
import torch
from support.plugin_files import write_process_grid

from harness import plugins
from harness.config.grid import load_table
from harness.config.kinds.process_kinds import PROCESSES
from harness.config.kinds.sampler_kinds import SAMPLERS
from harness.config.plugin_parts import PluginRecord
from harness.config.spec import canonical
from harness.errors import UserError
from harness.networks.build import build_process
from harness.planning import flops

ROW = "{model: Trig-B/2, process.power: 1.5, sampler.method: midpoint, sampler.intervals: 2}"


@pytest.fixture
def grid(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_FILES", {})
    return write_process_grid(tmp_path, ROW)


def test_a_process_has_its_settings_and_its_code_in_the_identities_and_a_plan_without_torch(grid):
    straight, trig = load_table(grid, "smoke").runs
    assert straight.train_id == "edf5050a40db"  # that of tables without plug-ins
    assert (trig.train.process, trig.train.process_settings.model_dump()) == ("Trig", {"power": 1.5})
    origin = plugins.files()[0].origin
    assert trig.train.plugins == (f"processes/Trig {origin}",)
    assert trig.evaluation.plugins == (f"samplers/midpoint {origin}",)
    ids = {load_table(grid, "smoke", [f"resources.cpus={n}"]).runs[1].train_id for n in (1, 2)}
    grid.write_text(grid.read_text().replace("power: 1.5", "power: 2"))
    assert {load_table(grid, "smoke").runs[1].train_id, trig.train_id} != ids == {trig.train_id}
    assert flops.training(trig.train) == flops.training(straight.train)
    with_term = load_table(grid, "smoke", ["terms.sync.kind=layersync"]).runs[1].train  # which is of all families
    assert with_term.plugins == trig.train.plugins
    assert flops.evaluations(trig.evaluation.sampler) == 4


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{model: Trigg-B/2}", r"model: unknown model 'Trigg-B/2'; legal: {SiT,.*,Trig}-{S,B,L,XL}"),
        ("{model: Trig-B/2, process.powr: 2}", "process.powr: unknown key 'powr'; did you mean 'power'"),
        ("{model: Trig-B/2, process.power: 0}", "process.power: Input should be greater than 0, found 0"),
        ("{model: SiT-B/2, process.power: 2}", "process.power: SiT has no settings under process"),
        ("{model: Trig-B/2, sampler.method: ddim}", "cannot be sampled by ddim; legal: euler, heun, midpoint"),
        ("{model: SiT-B/2, sampler.method: midpont}", "sampler.method: no sampler 'midpont'; did you mean 'midpoint'"),
        ("{model: DiT-B/2, sampler.method: midpoint}", "cannot be sampled by midpoint; legal: ancestral, ddim"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_file_and_line(grid, row, words):
    grid.write_text(grid.read_text().replace(ROW, row))
    with pytest.raises(UserError, match=rf"mine.yaml:12: .*{words}") as raised:
        load_table(grid, "smoke")
    assert "\n" not in str(raised.value)


def test_a_study_opens_as_it_was_run_without_the_code(grid):
    table = load_table(grid, "smoke")
    record = PluginRecord.model_validate_json(table.plugins.model_dump_json())
    plugins._FILES.clear()
    grid.with_name("trig.py").write_text("raise SystemExit('this was executed')")
    stored = load_table(grid, "smoke", plugins=record)
    assert [canonical(run.train) for run in stored.runs] == [canonical(run.train) for run in table.runs]
    assert [run.eval_id for run in stored.runs] == [run.eval_id for run in table.runs]
    with pytest.raises(UserError, match="plug-in processes/Trig: the run is of sha256:"):
        plugins.check(stored.runs[1].train.plugins, plugins.MEASURING)


def test_a_scale_has_settings_of_a_plug_ins_family_and_not_of_one_that_no_plug_in_brings(grid):
    scale = grid.parent / "scales" / "own.yaml"
    scale.parent.mkdir(exist_ok=True)
    text = "scale: own\nextends: smoke\ntitle: smoke, and another mean\nfamilies: {Trig: {ema: 0.75}}\n"
    scale.write_text(text)
    table = load_table(grid, "own")
    assert [run.train.ema for run in table.runs] == [load_table(grid, "smoke").runs[0].train.ema, 0.75]
    plugins._FILES.clear()
    stored = load_table(grid, "own", plugins=table.plugins)  # as it was run, without the code
    assert [run.train_id for run in stored.runs] == [run.train_id for run in table.runs]
    scale.write_text(text.replace("Trig", "Trigg"))
    with pytest.raises(
        UserError, match=r"own\.yaml:4: families\.Trigg: no family of models 'Trigg'; did you mean 'Trig'"
    ):
        load_table(grid, "own")


def test_the_documented_target_is_the_derivative_of_its_path_and_its_sampler_solves_the_ode_of_a_gaussian(grid):
    process = build_process(load_table(grid, "smoke").runs[1].train)
    g = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 4, 1, 2, 2, generator=g, dtype=torch.float64)
    t, h = torch.linspace(0.1, 0.9, 4, dtype=torch.float64), 1e-6
    slope = (process.interpolate(x, t + h, noise) - process.interpolate(x, t - h, noise)) / (2 * h)
    loss, _ = process.loss(lambda *_: (slope, []), x, None, t, noise)
    assert loss.max() < 1e-15
    assert process.noise_level(process.times_at(0.2)).item() == pytest.approx(0.2 / 0.8, rel=1e-6)

    def gaussian(x, times, y):  # of data N(0, 9): x_t has the variance 9 sin² + cos², and x = σ_t x_0 all the way
        angle = math.pi / 2 * times[0][:, None, None, None]
        return 4 * math.pi * angle.sin() * angle.cos() / (9 * angle.sin() ** 2 + angle.cos() ** 2) * x, []

    ends = [SAMPLERS["midpoint"](gaussian, noise, None, n, None, process) for n in (50, 100)]
    errors = [(end - 3 * noise).abs().max().item() for end in ends]
    assert errors[1] < errors[0] / 3.5  # second order
    assert errors[1] < 1e-3
    assert PROCESSES["Trig"].predicts.startswith("a trigonometric path")
