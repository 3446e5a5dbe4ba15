"""What is built is what the spec says; compiled blocks stay compiled, in every family and after every other one."""

import pytest
import torch
from support.graphs import CountedGraphs
from support.places import GRIDS
from support.specs import DISPERSIVE, PROCESSES, make_spec
from support.trainings import CPU, make_dataset

from harness.config.grid import load_table, model_specs
from harness.config.grid_file import read_scale
from harness.config.settings.data_settings import Data
from harness.config.settings.process_settings import MeanFlowSettings
from harness.config.settings.resources import Resources
from harness.config.settings.run_settings import Optimizer
from harness.config.spec import Model, TrainSpec
from harness.engine.train import Trainer
from harness.method.precision import matmul_precision
from harness.method.processes import ddpm, flow, meanflow
from harness.method.processes.consistency import ConsistencyTraining
from harness.method.processes.imm import InductiveMomentMatching
from harness.method.processes.shortcut import Shortcut
from harness.method.terms import ContrastiveTerm, DispersiveTerm
from harness.networks.build import build_net, build_objective


def test_every_loss_and_arm_is_built_as_its_cell_says():
    blocks = [f"regularizer.{name}" for name in ("blocks=[2,4]", "group=8", "lambda=0.21", "tau=0.37", "epsilon=1.3")]
    further = [f"regularizer.{name}" for name in ("offdiagonal=0.6", "normalization=centered", "gap=0.02")]
    cells = load_table(GRIDS / "table2.yaml", "smoke", blocks + further).cells
    built = [(cell.settings.regularizer, build_objective(cell.runs[0].train).terms) for cell in cells]
    assert built[0][1] == ()
    assert len(built) == 1 + 4 * 3
    for settings, (term,) in built[1:]:
        assert type(term) is {"dispersive": DispersiveTerm, "contrastive": ContrastiveTerm}[settings.kind]
        assert term.potential.loss == settings.loss
        assert (term.lambda_, term.blocks, term.group) == (0.21, (2, 4), 8)
        if settings.loss.startswith("infonce"):
            assert term.potential.tau == 0.37
        if settings.loss == "hinge":
            assert term.potential.epsilon == 1.3
        if settings.loss == "covariance":
            assert term.potential.normalization == "centered"
        if settings.kind == "contrastive":
            assert term.gap == {"independent": None, "restricted": 0.02}[settings.noise]
            assert settings.loss != "covariance" or term.potential.offdiagonal == 0.6


@pytest.mark.parametrize(
    ("process", "channels", "embedders", "time_scale"),
    [
        ("flow", 3, 1, 1),
        ("ddpm", 6, 1, 1),
        ("meanflow", 3, 2, 1),
        ("shortcut", 3, 2, 1),
        ("imm", 3, 2, 1000),
        ("consistency", 3, 1, 250),
    ],
)
def test_networks_and_processes_are_those_of_the_spec(process: str, channels: int, embedders: int, time_scale: float):
    guidance = MeanFlowSettings(omega=0.3, kappa=0.6, start=0.1, end=0.7, power=0.5)
    spec = make_spec(
        process,
        data=Data(name="made-up", channels=3, size=12, classes=7, flip=False),
        model=Model(depth=3, width=24, heads=3, patch=2),
        meanflow=guidance if process == "meanflow" else None,
    )
    objective = build_objective(spec)
    net = objective.net
    assert net.y_embedder.embedding_table.weight.shape == (8, 24)
    assert (len(net.blocks), net.blocks[0].attn.num_heads, net.pos_embed.shape) == (3, 3, (1, 36, 24))
    assert objective.num_classes == 7
    times = (torch.rand(2),) * embedders
    assert net(torch.zeros(2, 3, 12, 12), times, torch.tensor([6, 7]))[0].shape == (2, channels, 12, 12)
    assert (net.num_times, net.time_scale) == (embedders, time_scale)
    expected = {
        "flow": flow,
        "ddpm": ddpm,
        "meanflow": meanflow.MeanFlow(7, 0.3, 0.6, 0.1, 0.7, 0.5),
        "shortcut": Shortcut(7, 1.5),
        "imm": InductiveMomentMatching(5),
        "consistency": ConsistencyTraining(16, 40),
    }
    assert objective.process == expected[process]


def test_all_arms_of_a_seed_begin_with_equal_weights():
    arms = [{}, {"regularizer": DISPERSIVE}, {"optimizer": Optimizer()}, {"seed": 4}]
    base, *same, other = (build_objective(make_spec("flow", **arm)).net.x_embedder.proj.weight for arm in arms)
    assert all(torch.equal(base, weight) for weight in same)
    assert not torch.equal(base, other)


# Millions of parameters, for patches 8, 4 and 2, as Table 4 of DiT prints them: of what is trained.
PUBLISHED = {"S": (33, 33, 33), "B": (131, 130, 130), "L": (459, 458, 458), "XL": (676, 675, 675)}


def parameters(family, size, patch):
    """Counted by hand: n blocks of width d, patches of p² × 4 numbers, 1001 labels; without the position table."""
    n, d = {"S": (12, 384), "B": (12, 768), "L": (24, 1024), "XL": (28, 1152)}[size]
    pixels, head = 4 * patch**2, (8 if family == "DiT" else 4) * patch**2
    block = (3 + 1 + 4 + 4 + 6) * d**2 + (3 + 1 + 4 + 1 + 6) * d
    times = (2 if family == "MF" else 1) * ((256 + 1) * d + (d + 1) * d)
    final = 2 * d**2 + 2 * d + (d + 1) * head
    return n * block + (pixels + 1) * d + times + 1001 * d + final


def test_parameter_counts_are_the_published_ones():
    specs = model_specs(*read_scale("imagenet256", GRIDS / "scales"), ("SiT", "DiT", "MF"))
    assert len(specs) == 3 * 4 * 3
    counts = {}
    for name, spec in specs.items():
        family, size, patch = name.replace("/", "-").split("-")
        with torch.device("meta"):
            net = build_net(spec)
        counts[name] = sum(p.numel() for p in net.parameters() if p.requires_grad)
        assert counts[name] == parameters(family, size, int(patch)), name
        if family == "DiT":
            assert round(counts[name] / 1e6) == PUBLISHED[size][(8, 4, 2).index(int(patch))], name
    assert counts["DiT-XL/2"] + 256 * 1152 == 675_129_632  # what the public code prints, with the position table
    assert [round(counts[name] / 1e6) for name in ("SiT-XL/2", "MF-XL/2", "MF-B/4")] == [675, 676, 131]


# Compiled blocks.


@pytest.fixture
def graphs(monkeypatch) -> CountedGraphs:
    counted = CountedGraphs()
    monkeypatch.setattr("harness.networks.build.BACKEND", counted)
    return counted


def block_calls(spec: TrainSpec, steps: int = 3) -> list[int]:
    """How often a step calls a block, counted in a training that is not compiled."""
    trainer, calls = Trainer(spec, make_dataset(), CPU), [0] * steps
    for step in range(steps):

        def count(*_, step=step) -> None:
            calls[step] += 1

        blocks = [*trainer.net.blocks, *trainer.ema.blocks]
        hooks = [block.register_forward_pre_hook(count) for block in blocks]
        trainer.step(step)
        for hook in hooks:
            hook.remove()
    return calls


def compiled_calls(graphs: CountedGraphs, spec: TrainSpec, steps: int = 3) -> list[int]:
    graphs.clear()
    trainer, calls = Trainer(spec, make_dataset(), CPU, Resources(compile=True)), []
    with matmul_precision(spec.matmul):
        for step in range(steps):
            before = graphs.calls
            trainer.step(step)
            calls.append(graphs.calls - before)
    return calls


@pytest.mark.parametrize("process", PROCESSES)
def test_every_pass_through_a_block_is_compiled_step_after_step(graphs, process):
    """But for the one that MeanFlow's derivative is taken of, which other trainings of the process do not pay for."""
    spec = make_spec(process, batch=32)
    derivative = spec.model.depth if process == "meanflow" else 0
    expected = [calls - derivative for calls in block_calls(spec)]
    assert min(expected) >= spec.model.depth
    assert compiled_calls(graphs, spec) == expected
    assert graphs.count <= 3  # with a gradient; without one for any size, and for a batch of one
    if process == "meanflow":
        assert compiled_calls(graphs, make_spec("flow")) == [2, 2, 2]


@pytest.mark.slow
def test_networks_of_any_number_of_widths_are_compiled_one_after_the_other(graphs):
    for width in range(8, 48, 4):  # more than torch takes of one function
        spec = make_spec("flow", model=Model(depth=2, width=width, heads=2, patch=4))
        assert compiled_calls(graphs, spec, steps=1) == [2]
        assert graphs.count == 1


def test_baseline_and_regularised_arm_have_the_same_kernels_whatever_was_called_before(graphs):
    codes = []
    for regularizer, look in ((None, False), (DISPERSIVE, False), (DISPERSIVE, True)):
        graphs.clear()
        spec = make_spec("meanflow", batch=32, regularizer=regularizer, meanflow=MeanFlowSettings(), matmul="high")
        trainer = Trainer(spec, make_dataset(), CPU, Resources(compile=True))
        with matmul_precision(spec.matmul):
            trainer.step(0, look=look)
        codes.append(graphs.used[-1])
    assert graphs.count == 1  # the look into the health of the terms is a pass of blocks as they are written
    assert codes[0] == codes[1] == codes[2]
    assert "24" in codes[0]  # of 32 samples those with r = t: no size is left open
