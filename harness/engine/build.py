"""From a spec to modules: the one place where the two vocabularies meet."""

from harness.method import flow
from harness.method.backbone import DiT
from harness.method.losses import Potential
from harness.method.objective import Objective
from harness.method.objective import Regularizer as MethodRegularizer
from harness.spec import Data, Model, Regularizer, TrainSpec


def build_net(data: Data, model: Model) -> DiT:
    """Return the network of a spec, its weights not yet drawn."""
    return DiT(
        input_size=data.size,
        patch_size=model.patch,
        in_channels=data.channels,
        hidden_size=model.width,
        depth=model.depth,
        num_heads=model.heads,
        num_classes=data.classes,
        learn_sigma=False,
    )


def build_objective(spec: TrainSpec) -> Objective:
    """Return the training objective of a spec; all arms of one seed begin with equal weights."""
    net = build_net(spec.data, spec.model)
    net.initialise(spec.seed)
    return Objective(net, flow, _regularizer(spec.regularizer), spec.data.classes)


def _regularizer(spec: Regularizer | None) -> MethodRegularizer | None:
    if spec is None:
        return None
    constants = {
        "tau": spec.tau,
        "epsilon": spec.epsilon,
        "weight_offdiagonal": spec.offdiagonal,
        "normalization": spec.normalization,
    }
    said = {name: value for name, value in constants.items() if value is not None}
    return MethodRegularizer(
        kind=spec.kind,
        potential=Potential(spec.loss, **said),  # type: ignore[arg-type]
        weight=spec.lambda_,
        blocks=spec.blocks,
        group=spec.group,
        noise=spec.noise or "independent",
        gap=spec.gap or 0.0,
    )
