"""Photos to latents: what is packed is what diffusers says, through kills and damage."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.photos import SIZE, adm, pack, packed_arrays
from support.places import GRIDS

from harness import cli
from harness.config.grid import load_table
from harness.data import datasets
from harness.data import photos as photos_
from harness.data.datasets import load
from harness.data.encode import Encoding, Team
from harness.errors import UserError
from harness.jobs.job import jobs_for
from harness.jobs.preflight import check
from harness.store.store import Store


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
    assert packed_arrays(tmp_path / "photos") == packed_arrays(packed / "photos")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert "12 latents are in" in pack(photos, kl[0], tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


class Meeting:
    """What every one of several threads says, in all of them."""

    def __init__(self, size):
        self.words, self.barrier = [""] * size, threading.Barrier(size, timeout=60)

    def of(self, rank):
        def all_gather(words):
            self.words[rank] = words
            self.barrier.wait()
            everybody = list(self.words)
            self.barrier.wait()
            return everybody

        return Team(rank, len(self.words), all_gather)


def pack_by(size, photos, vae_folder, root, change=lambda encoding: None):
    """Encode in threads, as in so many processes; return what each returns, or the words of what it raises."""
    meeting = Meeting(size)

    def work(rank):
        encoding = Encoding(photos, "photos", vae_folder, root, SIZE, True, batch=4)
        change(encoding)
        try:
            return encoding.run(0, lambda done, total: None, shard=4, team=meeting.of(rank))
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(work, range(size)))


@pytest.mark.parametrize("size", [2, 4])
def test_several_processes_encode_to_the_bytes_of_one_and_go_on_where_one_was_killed(
    kl, photos, packed, tmp_path, size
):
    first = multiprocessing.get_context("fork").Process(target=kill_at, args=(photos, kl[0], tmp_path, 4))
    first.start()
    first.join()
    words, *others = pack_by(size, photos, kl[0], tmp_path)
    assert words.startswith("photos: 12 photos in 3 classes")
    assert set(others) == {""}
    assert packed_arrays(tmp_path / "photos") == packed_arrays(packed / "photos")


def test_what_one_of_several_processes_cannot_encode_stops_all_and_what_all_had_done_is_kept(kl, photos, tmp_path):
    def refuse_the_last(encoding):
        moments = encoding._checked_moments

        def checked(x, first):
            return moments(x if first < 8 else x.float() * torch.nan, first)

        encoding._checked_moments = checked

    words = pack_by(2, photos, kl[0], tmp_path, refuse_the_last)
    assert len(set(words)) == 1
    assert re.match(r"c/\d\d\.png: moments: 8,192 of 8,192 values are not finite", words[0])
    assert json.loads((tmp_path / "photos" / "encoding.json").read_text())["done"] == 8


def test_a_photo_that_the_autoencoder_cannot_encode_is_named(kl, photos, tmp_path):
    folder = shutil.copytree(kl[0], tmp_path / "vae")
    encoding = Encoding(photos, "photos", folder, tmp_path, SIZE, False, batch=4)
    crops, encode = photos_.load_crops(encoding.photos, SIZE, range(4, 8)), encoding.coder.encode
    mean = datasets.from_uint8(crops).mean()
    broken = replace(encoding.coder, encode=lambda x: torch.where(x.mean() == mean, torch.nan, encode(x)))
    encoding.coder = broken
    with pytest.raises(UserError, match=r"^b/01\.png: moments: 8,192 of 8,192 values are not finite"):
        encoding.run(0, lambda done, total: None, shard=4)
    assert not (tmp_path / "photos" / "meta.json").exists()


def test_an_autoencoder_that_is_not_finite_is_refused_by_its_tensor(kl, photos, tmp_path):
    folder = shutil.copytree(kl[0], tmp_path / "vae")
    path = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"decoder.conv_out.bias": torch.full((3,), torch.inf)}, path, {"format": "pt"})
    with pytest.raises(UserError, match=r"model\.safetensors: decoder\.conv_out\.bias: 3 of 3 values are not finite"):
        pack(photos, folder, tmp_path)


def test_other_settings_and_a_second_writer_are_refused(kl, photos, copied, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="holds latents of other photos or settings"):
        pack(photos, kl[0], copied, keep_images=False)

    def interfere(done, total):
        with pytest.raises(UserError, match="another process is writing into it"):
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


def test_the_command_line_packs_and_refuses_in_one_line(kl, photos, packed, tmp_path, monkeypatch, capsys):
    def harness(source):
        words = f"harness encode {source} photos --autoencoder {kl[0]} --size {SIZE} --keep-images --workers 0"
        monkeypatch.setattr("sys.argv", [*words.split(), "--data", str(tmp_path)])
        cli.main()

    harness(photos)
    assert "photos: 12 photos in 3 classes, 0.00 GB in" in capsys.readouterr().out.replace("\n", "")
    assert packed_arrays(tmp_path / "photos") == packed_arrays(packed / "photos")
    with pytest.raises(SystemExit) as stop:
        harness(tmp_path / "nowhere")
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_half_the_bytes_are_another_data_set_and_said_so_by_who_trains_on_it(kl, photos, packed, tmp_path, scratch):
    def job(root, *overrides):
        named = ("data.name=photos", "data.classes=3", "data.channels=4", "data.size=16", "data.flip=true")
        return jobs_for(load_table(GRIDS / "convergence.yaml", "smoke", (*named, *overrides)).runs[:1],
                        Store(tmp_path, scratch, "s"), root)[0]  # fmt: skip

    encoding = Encoding(photos, "photos", kl[0], tmp_path, SIZE, True, batch=4, dtype="float16")
    encoding.run(0, lambda done, total: None, shard=4)
    for name in ("moments.npy", "moments_flip.npy"):
        whole, half = (np.load(root / "photos" / name) for root in (packed, tmp_path))
        assert half.dtype == np.float16
        np.testing.assert_array_equal(half, whole.astype(np.float16))
    with pytest.raises(UserError, match="holds latents of other photos or settings"):
        pack(photos, kl[0], tmp_path)
    half = "data.moments=float16"
    assert job(packed).train_id != job(packed, half).train_id
    for root, words, found in ((tmp_path, (), "float16"), (packed, (half,), "float32")):
        with pytest.raises(UserError, match=rf"data\.moments: .*photos holds {found}; add --set data\.moments="):
            check([job(root, *words)])


def test_a_moment_that_float16_does_not_hold_is_refused(kl, photos, tmp_path, monkeypatch):
    encoding = Encoding(photos, "photos", kl[0], tmp_path, SIZE, False, batch=4, dtype="float16")
    monkeypatch.setattr(encoding, "moments", lambda x: np.full((len(x), 8, SIZE // 8, SIZE // 8), 7e4, np.float32))
    with pytest.raises(UserError, match=r"\.png: moments in float16: .* encode with --moments float32"):
        encoding.run(0, lambda done, total: None)


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
