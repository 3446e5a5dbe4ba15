"""The closed formulas of `planning.flops` against PyTorch's FlopCounterMode, on the meta device where they can be."""

from itertools import product

import pytest
import timm
import torch
from support.places import GRIDS
from support.plugin_files import write_plugin_grid
from support.specs import RIVALS, rival, second_phase
from support.trainings import CPU, make_dataset
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness import plugins
from harness.checkpoint_paths import weights_path
from harness.config.grid import load_table, model_specs
from harness.config.grid_file import read_scale
from harness.config.kinds.process_kinds import TANGENT
from harness.config.settings.data_settings import EvaluationSettings
from harness.config.settings.loss_settings import OwnEncoder, SaraSettings
from harness.config.settings.process_settings import MeanFlowSettings, SamplerSettings, ShortcutSettings
from harness.config.settings.term_settings import TERMS, TermSettings
from harness.config.spec import Alignment, Consistency, EvalSpec, Regularizer
from harness.engine.sample import Sampler
from harness.engine.train import Trainer
from harness.method.objective import draw
from harness.method.processes.meanflow import velocity_and_derivative
from harness.method.terms import Draws
from harness.networks.build import build_net, build_objective, build_terms
from harness.networks.checkpoint import save_state, save_weights
from harness.planning import flops
from harness.planning.cost import Assumption, Prices, checkpoint_bytes
from harness.store.store import Store

SCALES = GRIDS / "scales"
PAPER = model_specs(*read_scale("imagenet256", SCALES), ["SiT", "DiT", "MF"])
TINY = model_specs(*read_scale("smoke", SCALES), ["SiT", "DiT", "MF", "Shortcut", "IMM"])
LOSSES = {"infonce-l2": {"tau": 0.5}, "infonce-cosine": {"tau": 0.5}, "hinge": {"epsilon": 1.0},
          "covariance": {"normalization": "standardized"}}  # fmt: skip


def counted(call):
    """Operations of a call; attention as the meta device has it, whose gradient computes nothing again."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops()


def regularizer(loss="infonce-l2", kind="dispersive", blocks=(3,), group=16):
    further = {"noise": "independent"} if kind == "contrastive" else {}
    if (kind, loss) == ("contrastive", "covariance"):
        further["offdiagonal"] = 1.0
    return Regularizer(kind=kind, loss=loss, blocks=blocks, group=group, **{"lambda": 0.5}, **LOSSES[loss], **further)


def pass_on_meta(spec, n=2):
    """Operations per image of a forward pass, and with its backward pass; and the network."""
    with torch.device("meta"):
        net = build_net(spec)
        x, y = torch.empty(n, spec.data.channels, spec.data.size, spec.data.size), torch.empty(n, dtype=torch.long)
        times = (torch.empty(n),) * net.num_times
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        out, _ = net(x, times, y)
        forward = counter.get_total_flops()
        out.sum().backward()
    return forward / n, counter.get_total_flops() / n, net


def with_long_residuals(spec):
    return spec.model_copy(update={"model": spec.model.model_copy(update={"residuals": "long"})})


@pytest.mark.parametrize("model", ["DiT-B/4", "MF-S/8"])
@pytest.mark.parametrize("residuals", [None, "long"])
def test_a_pass_of_the_papers_networks(model, residuals):
    spec = with_long_residuals(PAPER[model]) if residuals else PAPER[model]
    forward, both, net = pass_on_meta(spec)
    assert (flops.network(spec).forward, flops.network(spec).trained) == (forward, both)
    assert flops.parameters(spec) == sum(p.numel() for p in net.parameters() if p.requires_grad)


def test_diversedits_network_has_the_parameters_that_its_authors_print():
    """MF-XL/2: 713M against 676M, whole millions."""
    plain = PAPER["MF-XL/2"]
    counts = [flops.parameters(spec) for spec in (plain, with_long_residuals(plain))]
    assert [int(count / 1e6) for count in counts] == [676, 713]


@pytest.mark.slow
@pytest.mark.parametrize("model", PAPER)
def test_a_pass_of_every_size_patch_and_family(model):
    test_a_pass_of_the_papers_networks(model, None)


@pytest.mark.parametrize("spec", [TINY["MF-XL/2"], pytest.param(PAPER["MF-B/4"], marks=pytest.mark.slow)])
def test_a_jacobian_vector_product_on_meta(spec):
    with torch.device("meta"):
        net, t, y = build_net(spec), torch.empty(2, 2), torch.empty(2, dtype=torch.long)
        z = torch.empty(2, spec.data.channels, spec.data.size, spec.data.size)
    forward_pass = flops.network(spec)
    assert counted(lambda: velocity_and_derivative(net, z, t, y, z)) / 2 == (1 + TANGENT) * forward_pass.forward
    both = counted(lambda: velocity_and_derivative(net, z, t, y, z)[0].sum().backward())
    assert both / 2 == forward_pass.trained + TANGENT * forward_pass.forward


def step(spec, draws=None, features=None):
    """Operations per image of a whole training step on the CPU, forward and backward."""
    objective = build_objective(spec, features.shape[-1] if features is not None else None)
    if spec.process == "shortcut":
        objective.process = objective.process.with_average(objective.net)
    n, shape = spec.batch, (spec.batch, spec.data.channels, spec.data.size, spec.data.size)
    draws = draws or draw(objective.process, objective.terms, shape, 0.0, 0, 0)
    x, y = torch.zeros(shape), torch.arange(n) % spec.data.classes
    return counted(lambda: objective(x, y, draws, features, objective.net)["loss"].backward()) / n


VARIANTS = {
    "SiT": {}, "DiT": {}, "IMM": {}, "MF": {}, "Shortcut": {},
    "MF, guided": {"meanflow": MeanFlowSettings(omega=1.0, kappa=0.5)},
    "iCT": {"process": "consistency", "consistency": Consistency(steps=100, finest=20)},
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_a_training_step_of_every_family(name):
    family = name.partition(",")[0].replace("iCT", "SiT")
    change = {"regularizer": regularizer(), "shortcut": ShortcutSettings() if family == "Shortcut" else None}
    spec = TINY[f"{family}-B/2"].model_copy(update=change | VARIANTS[name])
    assert flops.training(spec) == step(spec)


@pytest.mark.parametrize("every", [4, 8])
def test_guided_shortcut_targets_cost_what_is_expected_of_them(every):
    """Of 7 · every samples 7 learn from two half steps, one for each size, of which the smallest are guided."""
    n = 7 * every
    spec = TINY["Shortcut-B/2"].model_copy(
        update={"shortcut": ShortcutSettings(guidance=1.5, bootstrap_every=every), "batch": n, "regularizer": None}
    )
    k = torch.cat([torch.arange(7), torch.full((n - 7,), 7)]).float()
    shape = (n, spec.data.channels, spec.data.size, spec.data.size)
    draws = Draws(torch.stack([torch.zeros(n), k], 1), torch.zeros(shape), torch.zeros(n, dtype=torch.bool), step=0)
    assert flops.training(spec) == pytest.approx(step(spec, draws), rel=1e-12)


@pytest.mark.parametrize(("loss", "kind"), product(LOSSES, ["dispersive", "contrastive"]))
def test_a_training_step_with_every_regulariser(loss, kind):
    spec = TINY["SiT-S/4"].model_copy(update={"regularizer": regularizer(loss, kind, (1, 3))})
    assert flops.training(spec) == step(spec)


def test_a_training_step_with_the_documented_plugin_and_one_that_does_not_say_its_work(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_FILES", {})
    run = load_table(write_plugin_grid(tmp_path), "smoke").runs[1]
    assert flops.training(run.train) == step(run.train) > flops.training(run.train.model_copy(update={"terms": None}))
    assert "term" not in Prices([run], Store(tmp_path, tmp_path, "s"), Assumption()).words
    monkeypatch.setattr(TERMS["near-times"].Settings, "work", TermSettings.work)
    words = Prices([run], Store(tmp_path, tmp_path, "s"), Assumption()).words
    assert "without the term near-times, which does not say what it computes" in words


@pytest.mark.parametrize("kind", RIVALS)
def test_a_training_step_with_every_rival(kind):
    spec = TINY["SiT-S/4"].model_copy(update={"terms": (rival(kind, TINY["SiT-S/4"].model.depth),)})
    assert flops.training(spec) == step(spec)
    (term,) = build_terms(spec)
    assert flops.term_parameters(spec) == sum(p.numel() for p in term.parameters())


def test_a_contrastive_step_with_long_residuals():
    """The second view's pass ends after three of four blocks, and so after one of two joins."""
    spec = TINY["SiT-S/4"].model_copy(update={"regularizer": regularizer(kind="contrastive", blocks=(3,))})
    assert flops.training(with_long_residuals(spec)) == step(with_long_residuals(spec)) > flops.training(spec)


def test_a_term_costs_until_it_stops():
    """Of ten steps three with both terms, four with one and three with none; and what was done before is not paid."""
    model = TINY["SiT-S/4"].model_copy(update={"regularizer": None})
    sra, sra2 = (rival(kind, model.model.depth, stop=stop) for kind, stop in (("sra", 3), ("sra2", 7)))
    both, one = (model.model_copy(update={"terms": terms}) for terms in ((sra, sra2), (sra2,)))
    a, b, c = (step(spec) for spec in (both, one, model))
    assert a > b > c
    for steps, expected in ((0, 0), (2, 2 * a), (5, 3 * a + 2 * b), (10, 3 * a + 4 * b + 3 * c)):
        assert flops.added_up(flops.phases(both), steps) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_step_of_a_second_phase_and_a_pass_with_its_tokens(blocks):
    """Of group² passes for a group, each with the gradient by the tokens alone."""
    spec = second_phase(TINY["SiT-S/4"], blocks=blocks, count=3)
    assert flops.training(spec) == step(spec)
    assert flops.training(with_long_residuals(spec)) == step(with_long_residuals(spec)) > flops.training(spec)
    net = build_net(spec)
    x, y = torch.zeros(2, spec.data.channels, spec.data.size, spec.data.size), torch.zeros(2, dtype=torch.long)
    assert flops.network(spec).forward == counted(lambda: net(x, (torch.zeros(2),), y)) / 2
    assert flops.network(spec).forward > flops.network(TINY["SiT-S/4"]).forward
    assert flops.soft_parameters(spec) == sum(p.numel() for p in net.soft_tokens.parameters())
    assert flops.parameters(spec) == flops.parameters(TINY["SiT-S/4"])


@pytest.mark.parametrize("group", [128, 129])
def test_large_groups_are_multiplied_by_three_quarters(group):
    spec = TINY["SiT-S/4"].model_copy(update={"regularizer": regularizer(group=group), "batch": group})
    assert flops.training(spec) == pytest.approx(step(spec), rel=1e-12)


def encoder_pass(name, side, channels, **options):
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=0, dynamic_img_size=True, **options)
        images = torch.empty(1, channels, side, side)
    take = {"indices": 1, "norm": True, "output_fmt": "NCHW", "intermediates_only": True}
    with torch.no_grad():
        return counted(lambda: network.forward_intermediates(images, **take))


@pytest.mark.parametrize("name", flops.ENCODERS)
def test_the_encoders_shapes_are_timms(name):
    shape = flops.ENCODERS[name]
    assert shape.forward(3) == encoder_pass(name, shape.side, 3)


@pytest.mark.parametrize(
    "projector",
    [{"hidden": 32}, {"kernel": 3, "alpha": 0.6}, {"hidden": 32, "sara": SaraSettings(width=24)},
     {"hidden": 32, "sara": SaraSettings(adversary=0)}, {"hidden": 32, "sara": SaraSettings(structure=0)}],
)  # fmt: skip
def test_an_alignment_is_its_projector_and_its_encoder(projector):
    own = OwnEncoder(side=16, patch=4, steps=20, batch=64, shift=0.1, mirror=False)
    term = Alignment(loss="cosine", coefficient=0.5, block=2, encoder="own-vit", own=own, **projector)
    spec = TINY["SiT-B/2"].model_copy(update={"alignment": term})
    features = torch.zeros(spec.batch, flops.tokens(spec), 64)
    without = {"class_token": False, "global_pool": "avg", "fc_norm": False, "patch_size": 4}
    frozen = encoder_pass("test_vit", 16, 1, img_size=16, in_chans=1, **without)
    assert flops.training(spec) == step(spec, features=features) + frozen
    counts = [p.numel() for p in build_objective(spec, 64).alignment.parameters()]
    assert flops.term_parameters(spec) == sum(counts)
    strange = term.model_copy(update={"own": None, "encoder": "vit_giant_patch14_reg4_dinov2.lvd142m"})
    assert flops.encoder(strange) is None


@pytest.mark.parametrize(
    ("model", "sampler"),
    [("SiT-S/4", {"method": "euler"}), ("SiT-S/4", {"method": "heun", "guidance": 1.5}),
     ("SiT-S/4", {"method": "euler-maruyama"}), ("DiT-S/4", {"method": "ddim", "guidance": 2.0}),
     ("MF-S/4", {"method": "average-velocity"})],
)  # fmt: skip
def test_evaluations_and_bytes_are_those_that_a_job_counts(tmp_path, model, sampler):
    spec = TINY[model]
    trainer = Trainer(spec, make_dataset(), CPU)
    save_weights(tmp_path, 0, trainer.weights())
    settings = SamplerSettings(intervals=4, guidance_channels="all", **sampler)
    measured = EvaluationSettings(samples=64, labels="balanced", features="classifier", reference="train")
    evaluation = EvalSpec(step=0, sampler=settings, evaluation=measured, first_image=0)
    samples = None

    def call():
        nonlocal samples
        samples = Sampler(spec, evaluation).draw(tmp_path)

    total, nfe = counted(call), flops.evaluations(settings)
    assert samples.nfe == nfe
    assert total == flops.network(spec).forward * nfe * 64
    for parameter in trainer.net.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    trainer.optimizer.step()
    save_state(tmp_path, 1, trainer.state())
    stored = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    headers = 200 * 4 * len(list(trainer.net.state_dict()))
    assert 0 <= stored - checkpoint_bytes(spec, [0]) < headers
    assert weights_path(tmp_path, 0).is_file()


@pytest.mark.slow
def test_measuring_is_the_decoders_and_inceptions():
    diffusers, torchvision = pytest.importorskip("diffusers"), pytest.importorskip("torchvision")
    levels = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    with torch.device("meta"):
        vae = diffusers.AutoencoderKL(latent_channels=4, **levels, **kinds)
        inception = torchvision.models.inception_v3(aux_logits=False, init_weights=False).eval()
        z, image = torch.empty(1, 4, 32, 32), torch.empty(1, 3, 299, 299)
    with torch.no_grad():
        decoded = counted(lambda: vae.decode(z))
        assert flops.measuring(PAPER["SiT-B/2"], "classifier") == decoded
        assert pytest.approx(counted(lambda: inception(image)), rel=0.01) == flops.INCEPTION
