"""Specs of small trainings on made-up images: each process with settings of its own."""

from harness.config.plugin_parts import resolve_term
from harness.config.settings.data_settings import Data, EvaluationSettings
from harness.config.settings.loss_settings import OwnEncoder, SaraSettings
from harness.config.settings.process_settings import (
    MeanFlowSettings,
    MomentMatchingSettings,
    SamplerSettings,
    ShortcutSettings,
)
from harness.config.settings.run_settings import Optimizer
from harness.config.settings.term_settings import OWN_KEYS, TERMS
from harness.config.spec import (
    Alignment,
    Consistency,
    EvalSpec,
    Model,
    Regularizer,
    SoftTokenPhase,
    TermSpec,
    TrainSpec,
)
from harness.method.terms import ConfiguredTerm, Sizes

PROCESSES = ["flow", "ddpm", "meanflow", "shortcut", "imm", "consistency"]
DATA = Data(name="made-up", channels=1, size=8, classes=10, flip=True)
DISPERSIVE = Regularizer(kind="dispersive", loss="infonce-l2", lambda_=0.5, blocks=(1,), group=4, tau=0.5)
OWN = OwnEncoder(side=16, patch=4, steps=2, batch=8, shift=0.1, mirror=False)
REPA = Alignment(loss="cosine", coefficient=0.5, block=2, hidden=24, encoder="own-vit", own=OWN)
IREPA = Alignment(loss="cosine", coefficient=1.0, block=2, kernel=3, alpha=0.6, encoder="own-vit", own=OWN)
SARA = REPA.model_copy(update={"loss": "sara", "sara": SaraSettings(width=8)})
RIVALS = [kind for kind in TERMS.built_in if kind not in OWN_KEYS]  # terms that are built in, under `terms`


def rival(kind: str, depth: int = 2, **written) -> TermSpec:
    """Return a term with the settings that its authors published, but for what is written, in so deep a network.

    A term that compares samples does so in groups of four.
    """
    if TERMS[kind].Settings.model_fields["group"].default:
        written = {"group": 4} | written
    return resolve_term(TERMS[kind], kind, {"kind": kind, **written}, depth, lambda epochs: epochs)


def term_alone(spec: TermSpec, sizes: Sizes) -> ConfiguredTerm:
    """Return the term of a spec without a run."""
    settings = TERMS[spec.kind].Settings.model_validate(spec.model_dump(by_alias=True, exclude={"name"}))
    return TERMS[spec.kind](spec.name, settings, sizes)


def make_spec(process: str = "flow", **changes) -> TrainSpec:
    settings = {
        "data": DATA,
        "model": Model(depth=2, width=16, heads=2, patch=4),
        "regularizer": None,
        "meanflow": MeanFlowSettings(omega=1.0, kappa=0.5) if process == "meanflow" else None,
        "shortcut": ShortcutSettings(guidance=1.5) if process == "shortcut" else None,
        "imm": MomentMatchingSettings(k=5) if process == "imm" else None,
        "consistency": Consistency(steps=16, finest=40) if process == "consistency" else None,
        "optimizer": Optimizer(learning_rate=0.01, beta1=0.8, beta2=0.9, weight_decay=0.3),
        "batch": 8,
        "label_drop": 0.5,
        "ema": 0.8,
        "precision": "fp32",
        "matmul": "highest",
        "seed": 3,
    }
    return TrainSpec(process=process, **(settings | changes))


def second_phase(first: TrainSpec, **changes) -> TrainSpec:
    """Return the second phase of a training after its third step."""
    settings = {"blocks": 1, "count": 2, "group": 4, "temperature": 0.07, "denoising": 0.0}
    settings |= {"after": 3, "learning_rate": 0.1, "weight_decay": 1e-4}
    return first.model_copy(update={"soft_tokens": SoftTokenPhase(**(settings | changes))})


def aligned_spec(process: str = "flow", **changes) -> TrainSpec:
    """Return the spec of a network of three blocks, the second of which is aligned."""
    settings = {"model": Model(depth=3, width=16, heads=2, patch=4), "alignment": REPA, "label_drop": 0.1, "ema": 0.9}
    return make_spec(process, **(settings | {"optimizer": Optimizer(learning_rate=0.01)} | changes))


def make_eval(first: int, count: int, labels: str = "random", weights: str = "ema", step: int = 3, **sampler):
    evaluation = EvaluationSettings(labels=labels, weights=weights)
    whole = EvalSpec(step=step, sampler=SamplerSettings(**sampler), evaluation=evaluation, first_image=first)
    return only(whole, range(first, first + count))


def only(spec: EvalSpec, images: range) -> EvalSpec:
    """Return the same measurement of these images, which may be fewer than a study may ask for."""
    evaluation = spec.evaluation.model_copy(update={"samples": len(images)})
    return spec.model_copy(update={"evaluation": evaluation, "first_image": images.start})
