"""From a spec to modules: the one place where the two vocabularies meet."""

import warnings
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from harness.config.settings import Resources
from harness.config.spec import TWO_TIMES, ProcessName, TrainSpec
from harness.method.backbone import DiT
from harness.method.losses import Potential
from harness.method.objective import Objective
from harness.method.processes import consistency, ddpm, flow, imm, meanflow, shortcut
from harness.method.processes.process import Process
from harness.method.terms import AlignmentTerm, ContrastiveTerm, DispersiveTerm, Term

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
        return meanflow.MeanFlow(spec.data.classes, **spec.meanflow.model_dump())
    if spec.shortcut:
        return shortcut.Shortcut(spec.data.classes, spec.shortcut.guidance, spec.shortcut.every)
    if spec.consistency:
        return consistency.ConsistencyTraining(spec.consistency.steps, spec.consistency.finest)
    if spec.imm:
        return imm.InductiveMomentMatching(spec.imm.k)
    return {"flow": flow, "ddpm": ddpm}[spec.process]


def build_objective(spec: TrainSpec, features: int | None = None) -> Objective:
    """Return the training objective of a spec; all arms of one seed begin with equal weights.

    features: width of the frozen encoder's features, where the spec aligns with one.
    """
    net = build_net(spec).initialise(spec.seed)
    terms = [term.initialise(spec.seed) for term in build_terms(spec, features)]
    return Objective(net, build_process(spec), terms, spec.data.classes)


def build_terms(spec: TrainSpec, features: int | None = None) -> list[Term]:
    """Return the terms of a spec's loss beside the denoising one, their weights not yet drawn."""
    terms: list[Term] = []
    if reg := spec.regularizer:
        common = (Potential(reg.loss, **reg.constants), reg.lambda_, reg.blocks, reg.group)
        one_view = reg.kind == "dispersive"
        terms.append(DispersiveTerm(*common, reg.stop) if one_view else ContrastiveTerm(*common, reg.gap, reg.stop))
    if repa := spec.alignment:
        assert features is not None, "an alignment needs its encoder"
        terms.append(AlignmentTerm(spec.model.width, repa.hidden, features, repa.block, repa.coefficient, repa.stop))
    return terms


def equip_blocks(net: DiT, resources: Resources) -> None:
    """Compile each block, and let each be computed again in the backward pass, where the resources say so.

    Block by block, because all are alike: one compilation serves them all. A block computed again keeps its input only.
    """
    for block in net.blocks:
        if resources.compile:
            block.forward = torch.compile(block.forward)
        if resources.checkpoint_blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
