"""From a spec to modules: the one place where the two vocabularies meet."""

import warnings
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from harness.config.settings import Resources
from harness.config.spec import TWO_TIMES, Regularizer, TrainSpec
from harness.config.spec import Process as ProcessName
from harness.method import consistency, ddpm, flow, imm
from harness.method.alignment import Alignment
from harness.method.backbone import DiT
from harness.method.consistency import ConsistencyTraining
from harness.method.imm import InductiveMomentMatching
from harness.method.losses import Potential
from harness.method.meanflow import MeanFlow
from harness.method.objective import Objective, Process
from harness.method.objective import Regularizer as MethodRegularizer
from harness.method.shortcut import Shortcut

# Torch's own, at the first derivative that MeanFlow takes: it would stand between the lines of a run's progress.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)

TIME_SCALES: dict[ProcessName, float] = {"imm": imm.TIME_SCALE, "consistency": consistency.TIME_SCALE}


def build_net(spec: TrainSpec) -> DiT:
    """Return the network of a spec, its weights not yet drawn."""
    return DiT(
        input_size=spec.data.size,
        patch_size=spec.model.patch,
        in_channels=spec.data.channels,
        hidden_size=spec.model.width,
        depth=spec.model.depth,
        num_heads=spec.model.heads,
        num_classes=spec.data.classes,
        learn_sigma=spec.process == "ddpm",
        second_time=spec.process in TWO_TIMES,
        time_scale=TIME_SCALES.get(spec.process, 1.0),
    )


def build_process(spec: TrainSpec) -> Process:
    """Return the generative process of a spec."""
    if spec.meanflow:
        return MeanFlow(spec.data.classes, **spec.meanflow.model_dump())
    if spec.shortcut:
        return Shortcut(spec.data.classes, spec.shortcut.guidance)
    if spec.consistency:
        return ConsistencyTraining(spec.consistency.steps, spec.consistency.finest)
    if spec.imm:
        return InductiveMomentMatching(spec.imm.k)
    return {"flow": flow, "ddpm": ddpm}[spec.process]


def build_objective(spec: TrainSpec, features: int | None = None) -> Objective:
    """Return the training objective of a spec; all arms of one seed begin with equal weights.

    features: width of the frozen encoder's features, where the spec aligns with one.
    """
    net = build_net(spec)
    net.initialise(spec.seed)
    alignment = build_alignment(spec, features)
    if alignment:
        alignment.initialise(spec.seed)
    return Objective(net, build_process(spec), _regularizer(spec.regularizer), spec.data.classes, alignment)


def build_alignment(spec: TrainSpec, features: int | None) -> Alignment | None:
    """Return the projector of a spec, its weights not yet drawn; None without an alignment."""
    said = spec.alignment
    if said is None:
        return None
    assert features is not None, "an alignment needs its encoder"
    return Alignment(spec.model.width, said.hidden, features, said.block, said.coefficient)


def _regularizer(spec: Regularizer | None) -> MethodRegularizer | None:
    if spec is None:
        return None
    return MethodRegularizer(
        kind=spec.kind,
        potential=Potential(spec.loss, **spec.constants),
        weight=spec.lambda_,
        blocks=spec.blocks,
        group=spec.group,
        noise=spec.noise or "independent",
        gap=spec.gap or 0.0,
    )


def equip_blocks(net: DiT, resources: Resources) -> None:
    """Compile each block, and let each be computed again in the backward pass, where the resources say so.

    Block by block, because all are alike: one compilation serves them all. A block computed again keeps its input only.
    """
    for block in net.blocks:
        if resources.compile:
            block.forward = torch.compile(block.forward)
        if resources.checkpoint_blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
