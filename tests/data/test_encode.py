"""Photos to latents and back: what is packed is what diffusers says, through kills, layouts and damage."""

import json
import multiprocessing
import os
import re
import shutil
import signal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from support.places import GRIDS

from harness import cli
from harness.config.grid import load_table
from harness.data import autoencoder, encode
from harness.data import decode as vae
from harness.data.datasets import LatentDataset, load, load_images
from harness.data.fetch import check_latents
from harness.data.photos import centre_crop
from harness.data.pixels import to_uint8
from harness.errors import UserError
from harness.jobs.job import jobs_for
from harness.jobs.preflight import check
from harness.measure.evaluate import check_measurable
from harness.store.store import Store

rng = np.random.default_rng(0)
SIZE = 32
SIZES = [(40, 70), (100, 64), (32, 32), (33, 47), (140, 65), (64, 64), (35, 32), (51, 80), (32, 90), (45, 45),
         (64, 129), (70, 40)]  # fmt: skip


@pytest.fixture(scope="session")
def kl(tmp_path_factory):
    """Return the folder of a tiny AutoencoderKL with random weights, and the model."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    model = AutoencoderKL(block_out_channels=(8, 16), latent_channels=4, norm_num_groups=4, sample_size=SIZE, **kinds)
    folder = tmp_path_factory.mktemp("vae")
    model.save_pretrained(folder)
    return folder, model.eval()


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Twelve photos of several shapes and modes in three classes."""
    folder = tmp_path_factory.mktemp("photos")
    for i, (width, height) in enumerate(SIZES):
        smooth = np.kron(rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)), np.ones((8, 8, 1)))
        image = Image.fromarray(smooth[:height, :width].astype(np.uint8)).convert("L" if i == 4 else "RGB")
        path = folder / "abc"[i % 3] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
    return folder


def pack(
    photos, vae_folder, root, name="photos", keep_images=True, workers=0, tell=lambda done, total: None, size=SIZE
):
    return encode.encode(photos, name, vae_folder, root, size, keep_images, workers, tell, shard=4, batch=4)


@pytest.fixture(scope="session")
def packed(kl, photos, tmp_path_factory):
    """Return a root whose `photos/` holds the packed latents; not to be written to."""
    root = tmp_path_factory.mktemp("data")
    pack(photos, kl[0], root)
    return root


@pytest.fixture
def copied(packed, tmp_path):
    shutil.copytree(packed / "photos", tmp_path / "photos")
    return tmp_path


def arrays(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix in (".npy", ".json")}


def adm(image, size):
    """Transcribe the procedure of guided-diffusion's center_crop_arr: halve by boxes, bicubic, cut the array."""
    width, height = image.size
    while min(width, height) >= 2 * size:
        width, height = width // 2, height // 2
        image = image.resize((width, height), resample=Image.BOX)
    scale = size / min(width, height)
    array = np.array(image.resize((round(width * scale), round(height * scale)), resample=Image.BICUBIC))
    y, x = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    return np.moveaxis(array[y : y + size, x : x + size], -1, 0)


@pytest.mark.parametrize("shape", [(300, 201), (64, 64), (129, 65), (70, 41), (20, 33), (512, 128)])
def test_the_crop_is_adms(shape):
    image = Image.fromarray(rng.integers(0, 256, (*shape[::-1], 3), np.uint8))
    np.testing.assert_array_equal(centre_crop(image, 32), adm(image, 32))
    grey = image.convert("L")
    np.testing.assert_array_equal(centre_crop(grey, 32), adm(grey.convert("RGB"), 32))


def test_latents_are_diffusers_moments_of_the_crops_and_of_their_mirror_images(kl, photos, packed):
    files = sorted(photos.rglob("*.png"))
    crops = np.stack([adm(Image.open(path).convert("RGB"), SIZE) for path in files])
    x = torch.tensor(crops) / 127.5 - 1
    with torch.no_grad():
        theirs, flipped = (kl[1].encode(images).latent_dist for images in (x, x.flip(-1)))
    folder = packed / "photos"
    ours = {name: np.load(folder / f"{name}.npy") for name in ("moments", "moments_flip", "labels", "images")}
    np.testing.assert_allclose(ours["moments"], theirs.parameters, atol=1e-5)
    np.testing.assert_allclose(ours["moments_flip"], flipped.parameters, atol=1e-5)
    assert np.abs(ours["moments_flip"] - ours["moments"][..., ::-1]).max() > 1e-2
    np.testing.assert_array_equal(ours["images"], crops)
    assert ours["labels"].tolist() == ["abc".index(path.parent.name) for path in files]
    latents = load("photos", "train", packed, flip=True)
    drawn = latents.draw(12, torch.Generator().manual_seed(0))
    batch, _ = latents.batch(np.arange(12), drawn)
    eps, flip = drawn
    expected = torch.where(flip[:, None, None, None], flipped.mean + flipped.std * eps, theirs.mean + theirs.std * eps)
    np.testing.assert_allclose(batch, 0.18215 * expected, atol=1e-5)
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["class_names"] == ["a", "b", "c"]
    assert (meta["moments"], meta["scale"], meta["size"]) == ("mean,logvar", 0.18215, SIZE)
    assert str(photos.parent) not in (folder / "meta.json").read_text()


def kill_at(photos, vae_folder, root, stop):
    def tell(done, total):
        if done >= stop:
            os.kill(os.getpid(), signal.SIGKILL)

    pack(photos, vae_folder, root, tell=tell)


@pytest.mark.parametrize("stop", [0, 8])
def test_a_killed_encoding_goes_on_to_the_same_bytes(kl, photos, packed, tmp_path, stop):
    process = multiprocessing.get_context("fork").Process(target=kill_at, args=(photos, kl[0], tmp_path, stop))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(UserError, match=r"data set photos: .* lacks moments.npy"):
        load("photos", "train", tmp_path)
    seen = []
    pack(photos, kl[0], tmp_path, workers=1, tell=lambda done, total: seen.append(done))
    assert seen == [0, 4, 8, 12][stop // 4 :]  # what was done is not done again
    assert arrays(tmp_path / "photos") == arrays(packed / "photos")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert "12 latents are in" in pack(photos, kl[0], tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_other_settings_and_a_second_writer_are_refused(kl, photos, copied, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="holds latents of other photos or settings"):
        pack(photos, kl[0], copied, keep_images=False)

    def interfere(done, total):
        with pytest.raises(UserError, match="another process is encoding into it"):
            pack(photos, kl[0], tmp_path, "new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(photos, kl[0], tmp_path, "new", tell=interfere)
    with pytest.raises(UserError, match="the beginning of an encoding of other photos"):
        pack(photos, kl[0], tmp_path, "new", keep_images=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 10_000))
    with pytest.raises(UserError, match=r"tight: 0\.0 GB are needed, 0\.0 GB are free there"):
        pack(photos, kl[0], tmp_path, "tight")
    assert not (tmp_path / "tight").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_photo_is_named_in_one_line_and_can_be_replaced(kl, photos, packed, tmp_path, workers):
    mine = shutil.copytree(photos, tmp_path / "mine")
    whole = (mine / "b" / "07.png").read_bytes()
    (mine / "b" / "07.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"^b/07\.png: cannot be read \(.*\); replace it") as raised:
        pack(mine, kl[0], tmp_path, workers=workers)
    assert "\n" not in str(raised.value)
    (mine / "b" / "07.png").write_bytes(whole)
    pack(mine, kl[0], tmp_path)
    assert arrays(tmp_path / "photos") == arrays(packed / "photos")


@pytest.mark.parametrize("layout", ["saved", "parquet"])
def test_hugging_face_data_sets_give_the_same_arrays(kl, photos, packed, tmp_path, layout):
    import datasets

    files = sorted(photos.rglob("*.png"))
    features = datasets.Features(picture=datasets.Image(), kind=datasets.ClassLabel(names=["a", "b", "c"]))
    columns = {"picture": list(map(str, files)), "kind": [path.parent.name for path in files]}
    rows = datasets.Dataset.from_dict(columns, features=features)
    if layout == "saved":
        rows.save_to_disk(tmp_path / "hub")
    else:
        (tmp_path / "hub").mkdir()
        for i in range(2):
            rows.select(range(6 * i, 6 * i + 6)).to_parquet(tmp_path / "hub" / f"train-0000{i}-of-00002.parquet")
        rows.to_parquet(tmp_path / "hub" / "validation-00000-of-00001.parquet")
    pack(tmp_path / "hub", kl[0], tmp_path / "data", workers=1)
    for name in ("moments", "moments_flip", "labels", "images"):
        ours, same = (np.load(root / "photos" / f"{name}.npy") for root in (tmp_path / "data", packed))
        np.testing.assert_array_equal(ours, same)
    assert not (tmp_path / "data" / "photos" / ".arrow").exists()
    meta = json.loads((tmp_path / "data" / "photos" / "meta.json").read_text())
    assert meta["sha256"] == json.loads((packed / "photos" / "meta.json").read_text())["sha256"]


def test_layouts_that_would_mislead_are_refused(kl, photos, tmp_path):
    import datasets

    for split in ("train", "val"):
        shutil.copytree(photos, tmp_path / "imagenet" / split)
    rows = datasets.Dataset.from_dict({"text": ["a"]})
    datasets.DatasetDict(train=rows, test=rows).save_to_disk(tmp_path / "dictionary")
    for folder, words in {
        "imagenet": "splits, not classes: train, val; name the folder of one split",
        "dictionary": "several splits of a data set; name the folder of one: test, train",
        "dictionary/train": "one column of type Image is expected, found 0 among text",
        "nowhere": "no such folder; photos are",
        "imagenet/train/a": "Couldn't find any class folder",
    }.items():
        with pytest.raises(UserError, match=re.escape(words)):
            pack(tmp_path / folder, kl[0], tmp_path / "data")
    with pytest.raises(UserError, match="NAME digits"):
        pack(photos, kl[0], tmp_path / "data", "digits")
    with pytest.raises(UserError, match="--size 33: its latents, 16 wide, decode to another"):
        pack(photos, kl[0], tmp_path / "data", size=33)
    assert not (tmp_path / "data").exists()


def test_samples_are_decoded_one_by_one_with_the_one_rounding(kl, packed):
    z = torch.randn(5, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    decode = vae.decoder("photos", packed)
    with torch.no_grad():
        pixels = torch.cat([kl[1].decode(one / 0.18215).sample for one in z.split(1)])
    expected = np.floor(np.clip(127.5 * pixels.numpy() + 128, 0, 255)).astype(np.uint8)
    np.testing.assert_array_equal(decode(z), expected)
    np.testing.assert_array_equal(np.concatenate([decode(z[:2]), decode(z[2:])]), expected)
    assert vae.decoder("digits", packed) is to_uint8
    sizes = []  # a convolution's last bits depend on its batch
    coder = autoencoder.Autoencoder(torch.Tensor, lambda z: sizes.append(len(z)) or z, "mean", 1.0)
    vae.Decoder(coder, 1.0)(z)
    assert sizes == [1] * 5


def test_checksums_hold_latents_images_and_autoencoder(copied):
    folder = copied / "photos"
    assert "12 packed latents" in check_latents("photos", copied)
    weights = folder / "autoencoder" / "diffusion_pytorch_model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(UserError, match=r"autoencoder: its sha256 is not the one in .*meta\.json; encode photos again"):
        vae.decoder("photos", copied)
    for name in ("images.npy", "moments_flip.npy"):
        array = np.load(folder / name, mmap_mode="r+")
        array.flat[-1] += 1
        array.flush()
        with pytest.raises(UserError, match=r"\.npy: checksum .* is not the expected"):
            check_latents("photos", copied)


def test_what_is_missing_is_refused_before_training(copied):
    measurement = ("photos", "train", "inception-v3-compat", copied)
    with pytest.raises(UserError, match=r"no weights at .*inception-v3-compat\.pth"):
        check_measurable(*measurement)
    (copied / "photos" / "images.npy").unlink()
    with pytest.raises(UserError, match=r"no images\.npy; encode it again with --keep-images"):
        check_measurable(*measurement)
    vae.check_decoder("photos", copied)
    shutil.rmtree(copied / "photos" / "autoencoder")
    with pytest.raises(UserError, match="no autoencoder that is known; legal: a folder in diffusers' format"):
        vae.check_decoder("photos", copied)
    meta = json.loads((copied / "photos" / "meta.json").read_text())
    del meta["autoencoder"]
    (copied / "photos" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match="no 'autoencoder', and so samples cannot be decoded"):
        vae.check_decoder("photos", copied)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Return a folder of TAESD's two files with random weights, and diffusers' model with the same."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    folder, model = tmp_path_factory.mktemp("tae"), AutoencoderTiny(latent_channels=6).eval()
    for part, shift in (("encoder", 0), ("decoder", 1)):
        tensors = {}
        for name, tensor in getattr(model, part).layers.state_dict().items():
            number, _, rest = name.partition(".")
            tensors[f"{int(number) + shift}.{rest}"] = tensor
        torch.save(tensors, folder / f"tae_{part}.pth")
    return folder, model


def test_taesds_files_are_diffusers_tiny_autoencoder_and_have_no_posterior(tiny, photos, tmp_path):
    pack(photos, tiny[0], tmp_path)
    latents = load("photos", "train", tmp_path)
    assert isinstance(latents, LatentDataset)
    assert (latents.shape, latents.convention, latents.scale) == ((6, 4, 4), "mean", 1.0)
    assert latents.draw(3, torch.Generator()) == ()
    images = torch.tensor(load_images("photos", "train", tmp_path).images[:2]) / 127.5 - 1
    z, _ = latents.batch(np.arange(2), ())
    with torch.no_grad():
        np.testing.assert_allclose(z, tiny[1].encode(images).latents, atol=1e-5)
        expected = to_uint8(tiny[1].decode(z).sample)
    assert np.abs(vae.decoder("photos", tmp_path)(z).astype(int) - expected).max() <= 1
    flips = load("photos", "train", tmp_path, flip=True)
    mirrored, _ = flips.batch(np.arange(2), (torch.tensor([False, True]),))
    with torch.no_grad():
        np.testing.assert_allclose(mirrored[1:], tiny[1].encode(images[1:].flip(-1)).latents, atol=1e-5)


def test_taef2s_blocks_add_a_normalised_bottleneck():
    block = torch.nn.Module()
    block.conv, block.skip, block.fuse = torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.Identity(), torch.nn.ReLU()
    pooled, x = autoencoder.PooledBlock(block, 8), torch.randn(2, 8, 5, 5)
    first, last = pooled.pool[0].weight, pooled.pool[3].weight
    wide = torch.einsum("oi,nihw->nohw", first[:, :, 0, 0], x).reshape(2, 4, -1)  # four groups
    normal = (wide - wide.mean(-1, keepdim=True)) / (wide.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    x2 = x + torch.einsum("oi,nihw->nohw", last[:, :, 0, 0], normal.reshape(2, 32, 5, 5).relu())
    torch.testing.assert_close(pooled(x), (block.conv(x2) + x2).relu(), atol=1e-5, rtol=1e-5)


def test_vaelight_sums_its_bands(tmp_path, monkeypatch):
    import onnxruntime

    class Session:
        """Stands for a network: latents are pixels shrunk, bands are constants 1, 2, 4 and 8 of growing size."""

        def __init__(self, path, *_):
            self.encodes = path.name == "VAEencoder.onnx"

        def run(self, _, feeds):
            if self.encodes:
                return [F.avg_pool2d(torch.tensor(feeds["input"]), 8).numpy()[:, [0, 1, 2, 0]]]
            return [feeds["latent"][:, :3].repeat(k, -2).repeat(k, -1) * k for k in (1, 2, 4, 8)]

    for name in autoencoder.ONNX:
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    coder = autoencoder.load(autoencoder.find(tmp_path))
    z = coder.encode(torch.full((2, 3, 32, 32), 0.5))
    assert (z.shape, coder.scale, coder.moments) == ((2, 4, 4, 4), 0.18215, "mean")
    torch.testing.assert_close(coder.decode(z), torch.full((2, 3, 32, 32), 0.5 * 15))


def test_folders_that_are_no_autoencoder_are_refused(kl, tiny, tmp_path, monkeypatch):
    def refused(folder, words):
        with pytest.raises(UserError, match=words) as raised:
            autoencoder.load(autoencoder.find(folder))
        assert "\n" not in str(raised.value)

    def edited(name, **changes):
        folder = shutil.copytree(kl[0], tmp_path / name)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))
        return folder

    refused(tmp_path, "no autoencoder that is known; legal: a folder in diffusers' format")
    refused(edited("unet", _class_name="UNet2DModel"), "_class_name 'UNet2DModel'")
    refused(edited("shifted", shift_factor=0.1), "shift_factor 0.1 is not supported")
    refused(edited("wider", latent_channels=5), "cannot be read as AutoencoderKL|mismatched tensors")
    refused(edited("deeper", layers_per_block=2), "missing tensors: ")
    cut = shutil.copytree(tiny[0], tmp_path / "cut")
    raw = (cut / "tae_decoder.pth").read_bytes()
    (cut / "tae_decoder.pth").write_bytes(raw[: len(raw) // 2])
    refused(cut, "cannot be read as TAE")
    torch.save({"1.weight": Trap()}, cut / "tae_decoder.pth")
    refused(cut, "tae_decoder.pth: not a file of tensors")
    monkeypatch.setattr(autoencoder, "PACKAGES", {"TAE": "a_package_that_is_missing"})
    refused(tiny[0], r"needs a_package_that_is_missing: pip install -e '\.\[encode\]'")


class Trap:
    def __reduce__(self):
        return os.abort, ()


def test_the_command_line_packs_and_refuses_in_one_line(kl, photos, packed, tmp_path, monkeypatch, capsys):
    def harness(source):
        words = f"harness encode {source} photos --autoencoder {kl[0]} --size {SIZE} --keep-images --workers 0"
        monkeypatch.setattr("sys.argv", [*words.split(), "--data", str(tmp_path)])
        cli.main()

    harness(photos)
    assert "photos: 12 photos in 3 classes, 0.00 GB in" in capsys.readouterr().out.replace("\n", "")
    assert arrays(tmp_path / "photos") == arrays(packed / "photos")
    with pytest.raises(SystemExit) as stop:
        harness(tmp_path / "nowhere")
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_photos_to_latents_to_decoded_samples_to_fid(copied, tmp_path):
    """Through the ordinary job: a scale with these latents, a tiny network, Inception with random weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = copied / "inception-v3-compat.pth"
    torch.save({}, path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path=str(path))
    torch.save(network.state_dict(), path)
    grids = GRIDS
    settings = ["data.name=photos", "data.channels=4", "data.size=16", "data.classes=3", "data.flip=true", "epochs=2",
                "evaluation.features=inception-v3-compat", "evaluation.samples=12"]  # fmt: skip
    run = load_table(grids / "table2.yaml", "smoke", settings).runs[0]
    (job,) = jobs_for([run], Store(tmp_path / "results", tmp_path / "scratch", "study"), copied)
    check([job])
    assert job().state == "done"
    result = json.loads(job.store.eval_path(run.train_id, run.eval_id).read_text())
    assert result["protocol"]["reference"] == "photos/train"
    assert result["protocol"]["reference_count"] == 12
    meta = json.loads((job.data / "photos" / "meta.json").read_text())
    assert result["protocol"]["autoencoder"] == meta["autoencoder"]["sha256"][:12]
    assert np.isfinite(result["metrics"]["fid"])
    with Image.open(job.store.eval_path(run.train_id, run.eval_id).with_suffix(".png")) as sheet:
        assert (sheet.size, sheet.mode) == ((10 * SIZE, 2 * SIZE), "RGB")
