"""From a spec to modules: the one place where the two vocabularies meet."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.config.kinds.process_kinds import process_kind
from harness.config.settings.loss_settings import OfDistance, SaraSettings, read_tau
from harness.config.settings.resources import Resources
from harness.config.settings.term_settings import TERMS
from harness.config.spec import Alignment, Regularizer, TermSpec, TrainSpec
from harness.method.backbone import DiT
from harness.method.losses import Potential
from harness.method.objective import Objective
from harness.method.processes import consistency, ddpm, flow, imm, meanflow, shortcut
from harness.method.processes.process import Process
from harness.method.rivals.irepa import TokenConvolution, normalize_tokens
from harness.method.rivals.sara import SaraTerm
from harness.method.rivals.softrepa import SoftTokenObjective
from harness.method.soft_tokens import SoftTokens
from harness.method.terms import AlignmentTerm, ContrastiveTerm, DispersiveTerm, Sizes, Term, linear_layers

# Torch's own, at the first derivative that MeanFlow takes: it would stand between the lines of a run's progress.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)

Forward = Callable[[Tensor, Tensor], Tensor]  # a block's: (N, T, D), (N, D) → (N, T, D)
BACKEND = "inductor"  # of torch.compile
GRAPHS = 32  # of a block in one process: shapes with and without gradient; one more is an error


def build_net(spec: TrainSpec) -> DiT:
    """Return the network of a spec, its weights not yet drawn."""
    kind = process_kind(spec.process)
    net = DiT(
        input_size=spec.data.size,
        patch_size=spec.model.patch,
        in_channels=spec.data.channels,
        hidden_size=spec.model.width,
        depth=spec.model.depth,
        num_heads=spec.model.heads,
        num_classes=spec.data.classes,
        learn_sigma=kind.learns_variance,
        second_time=kind.second_time,
        time_scale=getattr(kind(spec), "time_scale", 1.0),
        dropout=spec.dropout or 0.0,
        long_residuals=spec.model.residuals == "long",
    )
    if phase := spec.soft_tokens:
        net.soft_tokens = SoftTokens(spec.data.classes, spec.model.width, phase.blocks, phase.count)
    return net


def build_process(spec: TrainSpec) -> Process:
    """Return the generative process of a spec."""
    process: Process = process_kind(spec.process)(spec)
    return process


def make_flow(spec: TrainSpec, settings: None) -> Process:
    """Return SiT's, a module; none of these has settings under `process`, which are those of plug-ins."""
    return flow


def make_ddpm(spec: TrainSpec, settings: None) -> Process:
    """Return DiT's, a module."""
    return ddpm


def make_meanflow(spec: TrainSpec, settings: None) -> Process:
    """Return MeanFlow's."""
    assert spec.meanflow, spec
    return meanflow.MeanFlow(spec.data.classes, **spec.meanflow.model_dump())


def make_shortcut(spec: TrainSpec, settings: None) -> Process:
    """Return that of shortcut models."""
    assert spec.shortcut, spec
    return shortcut.Shortcut(spec.data.classes, spec.shortcut.guidance, spec.shortcut.every)


def make_imm(spec: TrainSpec, settings: None) -> Process:
    """Return IMM's."""
    assert spec.imm, spec
    return imm.InductiveMomentMatching(spec.imm.k)


def make_consistency(spec: TrainSpec, settings: None) -> Process:
    """Return iCT's."""
    assert spec.consistency, spec
    return consistency.ConsistencyTraining(spec.consistency.steps, spec.consistency.finest)


def build_objective(spec: TrainSpec, features: int | None = None) -> Objective:
    """Return the training objective of a spec; all arms of one seed begin with equal weights.

    features: width of the frozen encoder's features, where the spec aligns with one. A second phase has no terms.
    """
    net = build_net(spec).initialise(spec.seed)
    if spec.soft_tokens and net.soft_tokens is not None:
        net.soft_tokens.initialise(spec.seed)
        contrasted = spec.soft_tokens.model_dump(include={"group", "temperature", "denoising"})
        return SoftTokenObjective(net, build_process(spec), spec.data.classes, **contrasted)
    terms = [term.initialise(spec.seed) for term in build_terms(spec, features)]
    return Objective(net, build_process(spec), terms, spec.data.classes)


def build_terms(spec: TrainSpec, features: int | None = None) -> list[Term]:
    """Return the terms of a spec's loss beside the denoising one, their weights not yet drawn."""
    sizes, parts = sizes_of(spec, features), list[tuple[str, str, Any]]()
    if reg := spec.regularizer:
        parts.append((reg.kind, "regularizer", reg))
    if spec.alignment:
        parts.append(("alignment", "alignment", spec.alignment))
    parts += [(term.kind, term.name, _settings_of(term)) for term in spec.terms or ()]
    terms = [TERMS[kind](name, settings, sizes) for kind, name, settings in parts]
    for term, (_, _, settings) in zip(terms, parts, strict=True):
        term.warm_up = getattr(settings, "warm_up", None)
    return terms


def _settings_of(term: TermSpec) -> Any:
    content = term.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"name"})
    return TERMS[term.kind].Settings.model_validate(content)


def sizes_of(spec: TrainSpec, features: int | None = None) -> Sizes:
    """Return what a term may have to know of a run."""
    model, data = spec.model, spec.data
    tokens = (data.size // model.patch) ** 2
    return Sizes(model.width, model.depth, tokens, model.patch, data.channels, data.size, data.classes, features)


def make_regularizer(name: str, reg: Regularizer, sizes: Sizes) -> Term:
    """Return the paper's term, of one view or of two."""
    tau = read_tau(reg.constants["tau"]) if "tau" in reg.constants else None
    share = tau.of_distance if isinstance(tau, OfDistance) else None
    constants = reg.constants | ({"tau": share} if share else {})  # as if D were 1, until it is measured
    common = (Potential(reg.loss, **constants), reg.lambda_, reg.blocks, reg.group)
    one_view = reg.kind == "dispersive"
    term = DispersiveTerm(*common, reg.stop) if one_view else ContrastiveTerm(*common, reg.gap, reg.stop)
    term.share = share
    return term


def make_alignment(name: str, repa: Alignment, sizes: Sizes) -> Term:
    """Return REPA's term, iREPA's or one after SARA; its projector is as wide as the encoder's features."""
    assert sizes.features is not None, "an alignment needs its encoder"
    if repa.kernel:
        projector: nn.Module = TokenConvolution(sizes.width, sizes.features, repa.kernel)
    else:
        projector = linear_layers(sizes.width, cast(int, repa.hidden), sizes.features)
    common = projector, repa.block, repa.coefficient, repa.stop
    term = _with_adversary(repa.sara, common, sizes.features) if repa.sara else AlignmentTerm(*common)
    if repa.alpha is not None:
        term.prepare = partial(normalize_tokens, alpha=repa.alpha)
    return term


def _with_adversary(sara: SaraSettings, common: tuple[nn.Module, int, float, int | None], features: int) -> SaraTerm:
    rates = {"lr": sara.learning_rate, "betas": (sara.beta1, sara.beta2), "weight_decay": 0.0}
    levels = {"structure": sara.structure, "adversary": sara.adversary}
    summed = sara.autocorrelation == "sum"
    return SaraTerm(*common, features=features, width=sara.width, rates=rates, summed=summed, **levels)


def equip_blocks(net: DiT, average: DiT, resources: Resources) -> None:
    """Compile each block, and let each be computed again in the backward pass, where the resources say so.

    A block computed again keeps its input only. The average of the network has no backward pass.
    """
    if resources.compile:
        compile_blocks(*dict.fromkeys((net, average)))  # which are one in a second phase
    if resources.checkpoint_blocks:
        for block in net.blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


def compile_blocks(*networks: DiT) -> None:
    """Have the blocks of networks compiled as they are first called, block by block: all are alike, and share graphs.

    What was compiled for other networks before is forgotten: torch counts the graphs of a function over all that a
    process trains, and would take no more after some of them. A block is one graph, also under
    DistributedDataParallel, and its kernels depend on what the call is given, never on earlier calls: so all arms of a
    table, and a training that is resumed, compute by the same ones.
    """
    torch._dynamo.reset()
    torch._dynamo.config.optimize_ddp = False  # it would cut a block's graph at the bounds of DDP's buckets
    torch._dynamo.config.recompile_limit = GRAPHS
    for net in networks:
        for block in net.blocks:
            block.forward = _compiled(block.forward)


def _compiled(forward: Forward) -> Forward:
    """A graph for each shape; but one for batches of all sizes where a process makes targets, of what it draws."""
    static, any_size = (torch.compile(forward, backend=BACKEND, fullgraph=True, dynamic=d) for d in (False, True))

    def call(x: Tensor, c: Tensor) -> Tensor:
        targets = not torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        return any_size(x, c) if targets else static(x, c)

    return call
