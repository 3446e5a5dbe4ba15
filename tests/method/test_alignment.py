"""REPA: its loss against a loop, what it teaches and what it leaves alone, frozen encoders, and a resume to the bit."""

import dataclasses
import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from support.places import GRIDS
from support.specs import DISPERSIVE, OWN, make_spec
from support.trainings import CPU, make_encoder

from harness.checkpoint_files import weights_path
from harness.config.grid import load_table
from harness.config.resolve import SettingError, resolve
from harness.config.settings import MeanFlowSettings, Optimizer, Resources
from harness.config.spec import Alignment, Model, TrainSpec, train_id
from harness.data.datasets import ImageDataset, LatentDataset, load, load_images
from harness.engine.train import Trainer, train
from harness.errors import UserError
from harness.files import read_json, read_jsonl, write_json
from harness.jobs.job import Job
from harness.jobs.preflight import check
from harness.jobs.recording import model_facts, record_model_facts
from harness.method.processes import flow
from harness.method.randomness import generator
from harness.method.terms import AlignmentTerm
from harness.networks import checkpoint
from harness.networks.build import build_objective
from harness.networks.encoder import FrozenEncoder, check_encoder, load_encoder, parameters
from harness.networks.supervised import resize
from harness.store.store import Store

REPA = Alignment(loss="cosine", coefficient=0.5, block=2, hidden=24, encoder="own-vit", own=OWN)
SPEC = make_spec(
    model=Model(depth=3, width=16, heads=2, patch=4),
    alignment=REPA,
    optimizer=Optimizer(learning_rate=0.01),
    label_drop=0.1,
    ema=0.9,
)
ALONE = SPEC.model_copy(update={"alignment": None})
BOTH = SPEC.model_copy(update={"regularizer": DISPERSIVE})


def made_up_images(count: int = 20, channels: int = 1, size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, channels, size, size), np.uint8)


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    labels = np.random.default_rng(1).integers(0, 10, 20)
    return ImageDataset("made up", "train", labels, 10, "", made_up_images(), flip=True)


@pytest.fixture(scope="module")
def encoder(dataset: ImageDataset) -> FrozenEncoder:
    return make_encoder(dataset, name="own-vit", parameters=1, sha256="ab")


# The loss.


def test_the_loss_is_that_of_a_loop_in_float64():
    module = AlignmentTerm(width=6, hidden=9, features=5, block=1, lambda_=0.5).initialise(0)
    g = torch.Generator().manual_seed(0)
    for weight in module.parameters():
        weight.data += 0.3 * torch.randn(weight.shape, generator=g)  # biases too
    h, target = torch.randn(3, 4, 6, generator=g), 3 * torch.randn(3, 4, 5, generator=g)
    w = [p.detach().double().numpy() for p in module.projector.parameters()]
    cosines = []
    for n in range(3):
        for t in range(4):
            z = h[n, t].double().numpy()
            for layer in range(3):
                z = w[2 * layer] @ z + w[2 * layer + 1]
                z = z / (1 + np.exp(-z)) if layer < 2 else z  # SiLU
            y = target[n, t].double().numpy()
            cosines.append(sum(z * y) / math.sqrt(sum(z**2)) / math.sqrt(sum(y**2)))
    found = module.loss(h, target).item()
    assert found == pytest.approx(-sum(cosines) / 12, rel=1e-5)
    assert module.loss(h, 7 * target).item() == pytest.approx(found, rel=1e-6)


def stir(trainer: Trainer) -> None:
    """Move the modulations away from zero, which makes every block the identity."""
    for name, weight in trainer.net.named_parameters():
        if "adaLN" in name:
            weight.data.normal_(std=0.1, generator=generator(0, name, 0))


class OnlyAlignment:
    """Flow matching's taps with no denoising loss: what is learned is learned from the alignment."""

    draw_times = staticmethod(flow.draw_times)
    interpolate = staticmethod(flow.interpolate)

    def loss(self, net, x, y, t, noise, taps=()):
        per_sample, h = flow.loss(net, x, y, t, noise, taps)
        return 0 * per_sample.detach(), h


def test_it_teaches_the_network_up_to_its_block_and_the_projector_but_not_the_encoder(dataset, encoder):
    trainer = Trainer(SPEC, dataset, CPU, encoder=encoder)
    stir(trainer)
    before = {name: t.clone() for name, t in encoder.state_dict().items()}
    trainer.objective.process = OnlyAlignment()
    terms = trainer.step(0)
    assert float(terms["loss"]) == pytest.approx(0.5 * float(terms["alignment"]))
    taught = {n.split(".")[0] + n.split(".")[1] for n, p in trainer.net.named_parameters() if p.grad is not None}
    assert {"blocks0", "blocks1", "x_embedderproj"} <= taught
    assert not {"blocks2", "final_layerlinear"} & taught
    assert all(p.grad.abs().max() > 0 for p in trainer.objective.alignment.projector.parameters())
    assert all(not p.requires_grad and p.grad is None for p in encoder.parameters())
    assert all(torch.equal(t, before[name]) for name, t in encoder.state_dict().items())


def test_it_draws_from_a_stream_of_its_own(dataset, encoder):
    """The arms of a seed begin with equal weights and see equal noise, so that their first denoising loss is equal."""
    alone, repa = Trainer(ALONE, dataset, CPU), Trainer(SPEC, dataset, CPU, encoder=encoder)
    assert all(torch.equal(a, b) for a, b in zip(alone.net.parameters(), repa.net.parameters(), strict=True))
    assert torch.equal(alone.step(0)["denoising"], repa.step(0)["denoising"])
    first = build_objective(SPEC, 64).alignment.projector[0].weight
    other = build_objective(SPEC.model_copy(update={"seed": 4}), 64).alignment.projector[0].weight
    assert torch.equal(first, build_objective(BOTH, 64).alignment.projector[0].weight)
    assert not torch.equal(first, other)
    assert first.abs().max() <= math.sqrt(6 / (16 + 24))  # xavier's bound


def test_micro_batches_are_aligned_with_their_own_images(dataset, encoder):
    whole, parts = (Trainer(BOTH, dataset, CPU, Resources(micro_batch=size), encoder=encoder) for size in (None, 4))
    for step in range(2):
        expected, found = whole.step(step), parts.step(step)
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(parts.state(), whole.state(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("process", ["flow", "ddpm", "meanflow"])
def test_beside_a_regulariser_each_term_is_what_it_is_alone(dataset, encoder, process):
    changes = {"process": process, "meanflow": MeanFlowSettings() if process == "meanflow" else None}
    arms, terms = {"repa": SPEC, "both": BOTH, "dispersive": BOTH.model_copy(update={"alignment": None})}, {}
    for name, arm in arms.items():
        spec = arm.model_copy(update=changes)
        trainer = Trainer(spec, dataset, CPU, encoder=encoder if spec.alignment else None)
        stir(trainer)
        terms[name] = trainer.step(0)
    both = terms["both"]
    assert torch.equal(both["alignment"], terms["repa"]["alignment"])
    assert torch.equal(both["regularizer"], terms["dispersive"]["regularizer"])
    expected = both["denoising"] + 0.5 * both["regularizer"] + 0.5 * both["alignment"]
    torch.testing.assert_close(both["loss"], expected)


def test_the_encoder_sees_the_clean_image_that_the_network_gets(dataset, encoder):
    seen, trainer = {}, Trainer(SPEC, dataset, CPU, encoder=encoder)
    trainer.objective.register_forward_pre_hook(lambda _, args, inputs: seen.update(x=inputs["x"]), with_kwargs=True)
    with encoder.register_forward_pre_hook(lambda _, given: seen.update(images=given[0])):
        trainer.step(0)
    assert torch.equal(seen["images"].float() / 127.5 - 1, seen["x"])


# Resuming.


def test_a_resumed_training_cannot_be_told_from_one_that_never_stopped(dataset, encoder, tmp_path):
    never = Resources(log_every=1, checkpoint_minutes=1e9)

    def advance(name: str, step: int) -> dict[str, torch.Tensor]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        train(BOTH, dataset, folder, folder / "log", {step}, never, lambda _: None, encoder=encoder)
        return checkpoint.load_state(folder)

    advance("twice", 2)
    once, twice = advance("once", 4), advance("twice", 4)
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)
    projector = {name for name in once if name.startswith("alignment.projector.")}
    assert len(projector) == 6
    assert {f"exp_avg.{name}" for name in projector} < once.keys()
    kept = load_file(weights_path(tmp_path / "once", 4))
    assert not any("alignment" in name for name in kept)  # sampling needs no projector


# Encoders.


def test_features_are_the_patch_tokens_of_the_normalised_image():
    torch.manual_seed(0)
    network = timm.create_model("test_vit", img_size=32, patch_size=8, num_classes=0)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    images = torch.from_numpy(made_up_images(3, 3, 32))
    x = (images.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    tokens = network.eval().forward_features(x.float())
    assert tokens.shape == (3, 1 + 16, 64)
    exact = FrozenEncoder(network, 32, mean, std, "bicubic", 4, {})
    assert exact.width == 64
    torch.testing.assert_close(exact(images), tokens[:, 1:], atol=1e-5, rtol=1e-5)
    grey = images[:, :1]
    torch.testing.assert_close(exact(grey), exact(grey.expand(-1, 3, -1, -1)))


def test_another_grid_is_resampled_where_it_lies():
    """Row by row, the features of a map that grows to the right and downwards do so on the other grid."""

    class Ramp(torch.nn.Module):
        def forward_intermediates(self, x, **_):
            across = torch.arange(4.0).view(1, 1, 1, 4).expand(len(x), 1, 4, 4)
            return [torch.cat((across, across.transpose(2, 3)), dim=1)]

    def features(grid: int) -> torch.Tensor:
        return FrozenEncoder(Ramp(), 8, (0.5,), (0.5,), "bilinear", grid, {})(torch.zeros(1, 1, 8, 8))

    assert features(2).shape == (1, 4, 2)
    column, row = features(2)[0].T
    assert column[0] == column[2] < column[1] == column[3]
    assert row[0] == row[1] < row[2] == row[3]
    assert column[0] == pytest.approx((0.75 * 0 + 0.75 * 1 + 0.25 * 2) / 1.75)  # a triangle as wide as the new token
    assert column[:2].mean() == pytest.approx(1.5)
    assert features(8).shape == (1, 64, 2)


def test_our_own_encoder_is_made_once_and_sees_what_it_learned_from(tmp_path):
    spec = SPEC.model_copy(update={"data": SPEC.data.model_copy(update={"name": "digits"})})
    first, again = (load_encoder(spec, tmp_path / "data", tmp_path / "cache") for _ in range(2))
    assert len(list((tmp_path / "cache").glob("encoder-digits-*.safetensors"))) == 1
    test = load_images("digits", "test", tmp_path / "data")
    images = torch.from_numpy(np.array(test.images[:5]))
    assert first(images).shape == (5, 4, 64)
    assert torch.equal(first(images), again(images))
    record = first.record
    assert (record["images_seen"], record["images"]) == (16, len(load_images("digits", "train", tmp_path / "data")))
    assert record["parameters"] == parameters(first.network)
    # The mean of its tokens is what it was trained to name the digit from.
    named = first.network(resize(images, 16))
    whole = FrozenEncoder(first.network, 16, (0.5,), (0.5,), "bilinear", 4, {})(images)
    torch.testing.assert_close(first.network.head(whole.mean(1)), named)
    check_encoder(spec.alignment, load("digits", "train", tmp_path / "data"), tmp_path / "data")


def public(weights: str = "published", encoder: str = "test_vit.r160_in1k", side: int | None = None) -> TrainSpec:
    said = Alignment(loss="cosine", coefficient=0.5, block=1, hidden=8, encoder=encoder, weights=weights, side=side)
    return SPEC.model_copy(update={"alignment": said})


@pytest.fixture
def file_of_weights(tmp_path: Path) -> tuple[Path, str, torch.nn.Module]:
    torch.manual_seed(0)
    network = timm.create_model("test_vit")
    path = tmp_path / "encoders" / "some.safetensors"
    path.parent.mkdir()
    save_file({name: t.contiguous() for name, t in network.state_dict().items()}, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest(), network.eval()


def test_weights_of_a_file_are_found_by_their_content(file_of_weights, tmp_path):
    _, sha256, network = file_of_weights
    encoder = load_encoder(public(sha256), tmp_path, tmp_path)
    assert (encoder.side, encoder.interpolation) == (160, network.pretrained_cfg["interpolation"])
    images = torch.from_numpy(made_up_images(2, 3, 160))
    reference = FrozenEncoder(
        network, 160, network.pretrained_cfg["mean"], network.pretrained_cfg["std"], "bicubic", 2, {}
    )
    torch.testing.assert_close(encoder(images), reference(images))
    small = load_encoder(public(sha256, side=32), tmp_path, tmp_path)
    assert small.network.patch_embed.grid_size == (2, 2)
    with pytest.raises(UserError, match=rf"no file of sha256 {'0' * 64} in .*encoders \(it holds some.safetensors\)"):
        load_encoder(public("0" * 64), tmp_path, tmp_path)


class Surprise:
    """What no checkpoint may do."""

    def __reduce__(self):
        return (pytest.fail, ("code in a pickle was run",))


@pytest.mark.parametrize("what", ["another network", "a missing tensor", "no tensors", "code"])
def test_a_file_that_is_not_the_models_weights_is_refused(file_of_weights, tmp_path, what):
    path, _, network = file_of_weights
    tensors = network.state_dict()
    if what == "another network":
        save_file(timm.create_model("test_resnet").state_dict(), path)
    elif what == "a missing tensor":
        save_file({name: t for name, t in tensors.items() if name != "head.weight"}, path)
    elif what == "no tensors":
        path.write_bytes(b"nothing of use")
    else:
        path = path.rename(path.with_suffix(".pth"))
        torch.save({"state_dict": tensors, "more": Surprise()}, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=f"{path.name}: not weights of test_vit"):
        load_encoder(public(sha256), tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (public(encoder="vit_of_nobody"), "timm .* has no model 'vit_of_nobody'"),
        (public("1" * 64), "no file of sha256 1111"),
        (SPEC.model_copy(update={"alignment": REPA.model_copy(
            update={"own": OWN.model_copy(update={"architecture": "resnet18"})})}), "no VisionTransformer 'resnet18'"),
    ],
)  # fmt: skip
def test_an_encoder_that_cannot_be_had_is_refused_before_the_training(spec, message, tmp_path):
    with pytest.raises(UserError, match=message):
        check_encoder(spec.alignment, load("digits", "train", tmp_path), tmp_path)


# Images behind latents.


def latents(images: np.ndarray | None) -> LatentDataset:
    moments = np.zeros((4, 2, 2, 2), np.float32)
    labels = np.zeros(4, np.int64)
    photos = None if images is None else ImageDataset("photos", "train", labels, 10, "", images, True)
    return LatentDataset("photos", "train", labels, 10, "", moments, moments, 1.0, "mean,logvar", photos)


def test_the_encoder_sees_the_photographs_behind_the_latents_flipped_with_them():
    images = made_up_images(4, 3, 16)
    dataset, indices = latents(images), np.array([2, 0, 3])
    flips = torch.tensor([True, False, True])
    seen = dataset.images_for(indices, (torch.zeros(3, 1, 2, 2), flips)).numpy()
    for shown, index, flip in zip(seen, indices, flips, strict=True):
        np.testing.assert_array_equal(shown, images[index, :, :, ::-1] if flip else images[index])
    with pytest.raises(UserError, match=r"data set photos: .*images.npy.* encode again with --keep-images"):
        check_encoder(public().alignment, latents(None), Path())


# Identity.


def run(*overrides: str):
    return load_table(GRIDS / "table6.yaml", "imagenet256", overrides).runs


def test_repa_shares_nothing_and_the_others_are_table_fives():
    baseline, repa, dispersive = run()
    assert baseline.train.alignment is None
    assert dispersive.train.alignment is None
    assert repa.train.alignment == Alignment(
        loss="cosine", coefficient=0.5, block=8, hidden=2048, encoder="vit_base_patch14_dinov2.lvd142m",
        weights="published", side=224,
    )  # fmt: skip
    assert len({r.train_id for r in (baseline, repa, dispersive)}) == 3
    assert repa.train.model_copy(update={"alignment": None}) == baseline.train


def test_all_that_makes_the_alignment_is_hashed():
    def identity(**changes) -> str:
        return train_id(SPEC.model_copy(update={"alignment": REPA.model_copy(update=changes)}))

    file = {"encoder": "vit_base_patch16_224", "own": None}
    ids = [identity(), identity(coefficient=0.4), identity(block=1), identity(hidden=25),
           identity(**file, weights="published"), identity(**file, weights="0" * 64),
           identity(**file, weights="published", side=96),
           *(identity(own=OWN.model_copy(update=change))
             for change in ({"steps": 3}, {"patch": 8}, {"architecture": "test_vit2"}, {"seed": 1}))]  # fmt: skip
    assert len({*ids, train_id(ALONE)}) == len(ids) + 1


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ({"block": 6}, "alignment.block"),
        ({"own": None}, "alignment.own"),
        ({"own": OWN.model_copy(update={"patch": 5})}, "alignment.own.patch"),
    ],
)
def test_what_does_not_fit_together_is_refused(words, key):
    table = load_table(GRIDS / "table6.yaml", "smoke")
    settings = table.cells[1].settings
    wrong = settings.model_copy(update={"alignment": settings.alignment.model_copy(update=words)})
    with pytest.raises(SettingError) as error:
        resolve(wrong, table.scale, 0)
    assert error.value.key == key


# What a run leaves of it.


def test_parameters_are_those_published():
    """SiT-XL/2 has 675M, MeanFlow-XL/2 676M; DINOv2's ViT-B 86M, and REPA's projector for it 8M."""
    xl = run()[1].train
    mean_flow = load_table(GRIDS / "table7a.yaml", "imagenet256").runs[-1].train
    assert round(model_facts(xl.model_copy(update={"alignment": None}), None).parameters / 1e6) == 675
    assert round(model_facts(mean_flow, None).parameters / 1e6) == 676
    with torch.device("meta"):
        vit = timm.create_model("vit_base_patch14_dinov2.lvd142m", img_size=224)
    assert round(parameters(vit) / 1e6) == 86

    class OfThatWidth:
        width, record = 768, {"name": "wide", "parameters": 1, "sha256": ""}

    layers = [(1152, 2048), (2048, 2048), (2048, 768)]
    assert model_facts(xl, OfThatWidth()).projector_parameters == sum((a + 1) * b for a, b in layers)


def test_a_training_cannot_go_on_with_another_encoder(tmp_path, encoder, monkeypatch):
    record_model_facts(tmp_path, SPEC, encoder)
    record_model_facts(tmp_path, SPEC, encoder)
    monkeypatch.setattr(encoder, "record", encoder.record | {"sha256": "cd"})
    with pytest.raises(UserError, match="this training began with encoder weights of sha256 ab, and now finds cd"):
        record_model_facts(tmp_path, SPEC, encoder)
    assert read_json(tmp_path / "facts.json")["encoder"]["sha256"] == "ab"


def test_a_job_makes_its_encoder_and_goes_on_with_it(tmp_path, monkeypatch):
    (aligned,) = [r for r in load_table(GRIDS / "table6.yaml", "smoke").runs if r.train.alignment]
    store = Store(tmp_path / "results", tmp_path / "scratch", "study")
    monkeypatch.setattr(Job, "_evaluate", lambda *_: None)

    def job(step: int) -> Job:
        said = aligned.train.alignment
        train = aligned.train.model_copy(update={"alignment": said.model_copy(update={"own": OWN})})
        return Job(
            store, tmp_path, train, (aligned.evaluation.model_copy(update={"step": step}),), aligned.resources, 1
        )

    check([job(2)])
    assert job(2)().state == "done"
    folder = store.run_folder(job(2).train_id)
    record = read_json(folder / "facts.json")
    (made,) = (store.scratch / ".cache").glob("encoder-digits-*.json")
    assert record["encoder"]["sha256"] == read_json(made)["weights"]
    assert record["encoder"]["accuracy"] == read_json(made)["accuracy"]
    assert all(-1 <= line["alignment"] <= 1 for line in read_jsonl(folder / "train.jsonl"))
    for path in (store.scratch / ".cache").glob("encoder-digits-*"):
        path.unlink()
    assert job(2)().state == "done"  # to measure again takes no encoder
    assert not list((store.scratch / ".cache").glob("encoder-digits-*"))
    record["encoder"]["sha256"] = "0" * 64
    write_json(folder / "facts.json", record)
    outcome = job(3)()
    assert outcome.state == "failed"
    assert "this training began with encoder weights of sha256 000000000000" in outcome.message


def test_flips_are_those_of_the_pixels(dataset):
    flips = dataset.draw(8, torch.Generator().manual_seed(0))
    x, _ = dataset.batch(np.arange(8), flips)
    still = dataclasses.replace(dataset, flip=False).batch(np.arange(8), ())[0]
    assert torch.equal(x, torch.where(flips[0][:, None, None, None], still.flip(-1), still))
