"""One call from samples to numbers; what may be measured against what, and each mistake in one line."""

import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.stand_in import stand_in
from support.trainings import end, start

from harness import cli
from harness.data.datasets import ImageDataset, load_images
from harness.engine.distributed import ALONE, World
from harness.errors import UserError
from harness.measure import evaluate, images
from harness.measure.evaluate import MeasureRequest, check_measurable, measure
from harness.measure.extractors.extractor import RECIPES
from harness.measure.metrics.frechet import frechet_distance, statistics
from harness.measure.reference import of_statistics
from harness.metric_definitions import DEFINITIONS, MEASURED, base

rng = np.random.default_rng(0)


def test_measuring_digits(data: Path, cache: Path, digits: tuple[ImageDataset, ImageDataset]) -> None:
    train, test = digits
    noise = rng.integers(0, 256, (200, 1, 8, 8), np.uint8)
    against_digits = MeasureRequest("digits:train", "classifier", data, cache)
    real, unreal = (measure(images.of_array(x, "samples"), against_digits)[0] for x in (test.images, noise))
    told = {*map(base, real["metrics"]), *real["unavailable"]}
    assert told == {*MEASURED, "kid_std"}
    assert set(real["unavailable"]) == {"sfid", "inception_score", "fid_infinity", "class_fid", "class_diversity"}
    for name in ("fid", "kid", "cmmd:classifier", "precision", "recall", "density", "coverage", "vendi"):
        lower = DEFINITIONS[base(name)].direction == "lower"
        assert (real["metrics"][name] < unreal["metrics"][name]) == lower, name
    assert real["metrics"]["fid"] < 1
    assert real["metrics"]["precision"] > 0.8
    protocol = json.loads(json.dumps(real))["protocol"]
    assert protocol["reference"] == "digits/train"
    assert protocol["reference_content"] == train.content[:12]
    assert (protocol["generated"], protocol["reference_count"], protocol["kid_subset_size"]) == (355, 1442, 177)
    record = json.loads(next(cache.glob("classifier-digits-*.json")).read_text())
    assert record["accuracy"] >= 0.97
    assert protocol["features_note"] == f"digits classifier, {100 * record['accuracy']:.1f}% test accuracy"
    assert protocol["features"].endswith(record["weights"][:12])
    with pytest.raises(UserError, match="samples: images of 1×9×9, and digits/train has 1×8×8; make them alike first"):
        measure(images.of_array(np.zeros((9, 1, 9, 9), np.uint8), "samples"), against_digits)


def test_copies_are_told_from_fresh_images(data: Path, cache: Path, digits: tuple[ImageDataset, ImageDataset]) -> None:
    train, test = digits

    def result(pixels: np.ndarray, trained_on: np.ndarray | None = None) -> dict[str, Any]:
        request = MeasureRequest("digits:train", "classifier", data, cache, metrics=("copying",), trained_on=trained_on)
        return measure(images.of_array(pixels, "samples"), request)[0]

    whole, part = result(train.images[:300]), result(train.images[::2], np.arange(1, len(train), 2))
    assert whole["metrics"]["copying"] == whole["metrics"]["memorisation"] == 1
    assert 0.4 < part["metrics"]["copying"] < 0.6  # these were not trained on, though they are of the training split
    assert part["unavailable"]["memorisation"].startswith("721 of the 1,442 images of digits/train were trained on")
    assert result(test.images)["metrics"]["copying"] == 0.5  # each ties with itself, and the rest is even
    assert result(rng.integers(0, 256, (60, 1, 8, 8), np.uint8))["metrics"]["copying"] < 0.05


def test_what_could_not_be_measured_is_refused_before_the_training(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_measurable("digits", "train", "classifier", data)
    others = {name: recipe for name, recipe in RECIPES.items() if name != "digits"}
    monkeypatch.setattr("harness.measure.extractors.extractor.RECIPES", others)
    with pytest.raises(UserError, match="features 'classifier': no recipe for data set digits; legal: fashion-mnist"):
        check_measurable("digits", "train", "classifier", data)
    with pytest.raises(UserError, match=r"no weights at .*run: harness data get inception-v3-compat"):
        check_measurable("digits", "train", "inception-v3-compat", data)
    with pytest.raises(UserError, match="no split 'validation'; legal: test, train"):
        check_measurable("digits", "validation", "classifier", data)


# `harness measure`.


def pictures(n: int, seed: int = 0) -> np.ndarray:
    """Return uint8 (N, 8, 8, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), np.uint8)


def write_folder(folder: Path, images: np.ndarray) -> Path:
    for i, image in enumerate(images):
        path = folder / f"{i // 20}" / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a folder with samples.npz (50) and real.npz (60), both in three classes, where Inception is a stand-in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "extractor", stand_in)
    np.savez("samples.npz", pictures(50, 1), np.arange(50) % 3)
    np.savez_compressed("real.npz", arr_0=pictures(60, 2), arr_1=np.arange(60) // 20)
    return tmp_path


@pytest.fixture
def call(monkeypatch, capsys):
    """Return a function that runs `harness measure` and gives exit code, what it wrote as JSON, and its words."""

    def call(*words: str) -> tuple[int, dict, str]:
        Path("out.json").unlink(missing_ok=True)
        monkeypatch.setattr(sys, "argv", ["harness", "measure", *map(str, words), "--json", "out.json"])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        out = json.loads(Path("out.json").read_text()) if Path("out.json").is_file() else {}
        return code, out, said.out + said.err

    return call


def test_a_folder_and_an_npz_of_the_same_images_give_the_same_numbers(project, call):
    write_folder(project / "folder", pictures(50, 1))
    code, from_npz, said = call("samples.npz", "--reference", "real.npz")
    assert code == 0
    assert "Protocol: 50 samples against the 60 images of real.npz" in " ".join(said.split())
    _, from_folder, _ = call("folder", "--reference", "real.npz", "--nearest", "pairs.png")
    assert Image.open("pairs.png").size == (80, 16)
    assert from_folder["metrics"].items() <= from_npz["metrics"].items()
    assert {*map(base, from_npz["metrics"])} == {*MEASURED, "kid_std", "inception_score_std"}
    assert from_npz["unavailable"] == {}
    unknown = "nobody knows the classes of the samples"
    assert from_folder["unavailable"] == {"class_fid": unknown, "class_diversity": unknown}


def test_intervals_are_beside_the_numbers_and_change_none(project, call):
    _, without, _ = call("samples.npz", "--reference", "real.npz")
    code, found, said = call("samples.npz", "--reference", "real.npz", "--intervals")
    assert code == 0
    made = found.pop("intervals")
    assert found == without
    assert {*made["found"], *made["unavailable"], "kid_std", "inception_score_std"} == found["metrics"].keys()
    assert all(low <= found["metrics"][name] <= high for name, (low, high) in made["found"].items())
    assert f"[{made['found']['fid'][0]:.6g}, " in said
    assert "None of sFID: of the spatial features sums alone are kept." in " ".join(said.split())
    np.savez("alone.npz", pictures(50, 1), np.arange(50))  # no class has a covariance
    _, alone, _ = call("alone.npz", "--reference", "real.npz", "--intervals")
    assert alone["intervals"]["found"]["fid"] == made["found"]["fid"]
    np.savez("few.npz", pictures(39))
    one_line(call("few.npz", "--reference", "real.npz", "--intervals"), "39 samples; 20 groups need at least 40")


@pytest.mark.parametrize("batch", [1, 7])
def test_the_batch_size_changes_nothing(project, call, batch):
    _, whole, _ = call("samples.npz", "--reference", "real.npz", "--scratch", "a")
    _, parts, _ = call("samples.npz", "--reference", "real.npz", "--scratch", "b", "--batch", batch)
    assert parts["metrics"] == pytest.approx(whole["metrics"], rel=1e-6, abs=1e-9)


def _worker(folder: Path, world: World) -> None:
    os.chdir(folder)
    evaluate.extractor = stand_in
    result = measure_samples("two", world)
    decision = world.decide(lambda: f"rank {world.rank} decides")
    Path(f"rank{world.rank}.json").write_text(json.dumps(result | {"decision": decision}))


def measure_samples(cache: str, world: World) -> dict:
    samples = images.of_path(Path("samples.npz"))
    request = MeasureRequest("real.npz", "inception-v3-compat", Path("data"), Path(cache), device="cpu", batch=16)
    return measure(samples, request, world)[0]


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(project):
    assert end(start(2, project, _worker, project)) == [0, 0]
    first, second = (json.loads(Path(f"rank{r}.json").read_text()) for r in (0, 1))
    alone = measure_samples("one", ALONE)
    assert first == second
    assert first["decision"] == "rank 0 decides"
    assert first["metrics"] == pytest.approx(alone["metrics"], rel=1e-6, abs=1e-9)
    assert first["protocol"] == alone["protocol"]


def test_the_ranks_shares_are_all_images_once(project):
    shares = [range(50 * r // 3, 50 * (r + 1) // 3) for r in range(3)]
    samples = images.of_path(Path("samples.npz"))
    parts = [np.concatenate(list(samples.batches(4, s.start, s.stop))) for s in shares]
    np.testing.assert_array_equal(np.concatenate(parts), pictures(50, 1).transpose(0, 3, 1, 2))
    assert World(0, 1).all_gather(3) == [3]


def test_statistics_of_adms_layout(project, call):
    code, _, _ = call("real.npz", "--reference", "samples.npz", "--statistics", "stats.npz")
    assert code == 0
    with np.load("stats.npz") as arrays:
        assert {name: arrays[name].shape for name in arrays if name != "features"} == {
            "mu": (6,), "sigma": (6, 6), "mu_s": (16,), "sigma_s": (16, 16),
        }  # fmt: skip
        kept = dict(arrays)
    _, itself, _ = call("real.npz", "--reference", "stats.npz")
    assert itself["metrics"]["fid"] == pytest.approx(0, abs=1e-9)
    assert itself["metrics"]["sfid"] == pytest.approx(0, abs=1e-9)
    assert itself["unavailable"]["recall"] == "the reference holds statistics and no images"
    _, by_images, _ = call("samples.npz", "--reference", "real.npz")
    _, by_statistics, _ = call("samples.npz", "--reference", "stats.npz")
    for name in ("fid", "sfid"):
        assert by_statistics["metrics"][name] == pytest.approx(by_images["metrics"][name], rel=1e-9)

    np.savez("two.npz", mu=kept["mu"], sigma=kept["sigma"])  # pytorch-fid's layout
    _, two, said = call("samples.npz", "--reference", "two.npz")
    assert two["metrics"]["fid"] == by_statistics["metrics"]["fid"]
    assert two["unavailable"]["sfid"] == "two.npz holds no mu_s and sigma_s"
    assert "not available" in said

    np.savez("adm.npz", arr_0=pictures(60, 2)[:30], **kept)  # statistics of all, images of some
    _, adm, said = call("samples.npz", "--reference", "adm.npz")
    assert adm["metrics"]["fid"] == by_statistics["metrics"]["fid"]
    assert adm["protocol"]["reference_rows"] == 30
    assert 0 <= adm["metrics"]["recall"] <= 1
    assert "(metrics that need its images: 30 of them)" in " ".join(said.split())


def test_against_a_split_of_a_data_set(project, call):
    digits = load_images("digits", "test", Path("data")).images
    np.savez("digits.npz", digits.transpose(0, 2, 3, 1))
    code, out, _ = call("digits.npz", "--reference", "digits:test")
    assert code == 0
    assert out["metrics"]["fid"] == pytest.approx(0, abs=1e-9)
    assert out["protocol"]["reference"] == "digits/test"
    code, _, said = call("samples.npz", "--reference", "digits:validation")
    assert code == 2
    assert "no split 'validation'; legal: test, train" in said


def test_shares_against_a_part_of_the_reference_are_another_protocol(project, call):
    _, whole, _ = call("samples.npz", "--reference", "real.npz")
    code, part, said = call("samples.npz", "--reference", "real.npz", "--reference-part", 20)
    assert code == 0
    assert part["protocol"] == whole["protocol"] | {"reference_part": 20}
    changed = {name for name, value in part["metrics"].items() if value != whole["metrics"][name]}
    assert changed <= {"precision", "recall", "density", "coverage"} >= {"coverage"}
    assert changed
    assert "(precision, recall, density and coverage: 20 of them)" in " ".join(said.split())
    assert call("samples.npz", "--reference", "real.npz", "--reference-part", 60)[1] == whole


def test_references_are_extracted_once_for_each_content(project, call, monkeypatch):
    call("samples.npz", "--reference", "real.npz")
    features, neighbours, _ = sorted(Path("scratch/.cache").glob("reference-*.npz"))
    neighbours.unlink()  # as after a death between the two files
    assert call("samples.npz", "--reference", "real.npz")[0] == 0
    monkeypatch.setattr("harness.measure.reference.extract", lambda *_: pytest.fail("extracted again"))
    monkeypatch.setattr("harness.measure.reference.manifold", lambda *_: pytest.fail("neighbours again"))
    assert call("samples.npz", "--reference", "real.npz")[0] == 0
    np.savez("real.npz", pictures(60, 3))
    with pytest.raises(pytest.fail.Exception, match="extracted again"):
        call("samples.npz", "--reference", "real.npz")
    features.write_bytes(features.read_bytes()[:-9])
    np.savez_compressed("real.npz", arr_0=pictures(60, 2), arr_1=np.arange(60) // 20)
    code, _, said = call("samples.npz", "--reference", "real.npz")
    assert code == 2
    assert f"{features}: damaged" in said


def grey(folder: Path) -> None:
    Image.fromarray(pictures(1)[0]).convert("L").save(folder / "0" / "grey.png")


def test_a_grey_picture_among_coloured_ones_is_measured_as_its_grey(project, call):
    write_folder(project / "folder", pictures(20, 1))
    grey(project / "folder")
    code, out, _ = call("folder", "--reference", "real.npz")
    assert code == 0
    assert out["protocol"]["generated"] == 21
    write_folder(project / "colour", pictures(20, 1))
    (project / "folder" / "0" / "grey.png").rename(project / "colour" / "0" / "grey.png")
    image = Image.open(project / "colour" / "0" / "grey.png").convert("RGB")
    image.save(project / "colour" / "0" / "grey.png")
    assert call("colour", "--reference", "real.npz")[1]["metrics"] == out["metrics"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: Image.new("RGB", (9, 8)).save(f / "0" / "odd.png"),
         r"folder/0/odd.png: 9×8 pixels, and 000.png has 8×8; sizes must be equal"),
        (lambda f: (f / "0" / "cut.png").write_bytes((f / "0" / "000.png").read_bytes()[:-60]),
         r"folder/0/cut.png: cannot be read: .*truncated"),
        (lambda f: (f / "0" / "text.png").write_text("no picture"), r"text.png: cannot be read: cannot identify"),
        (lambda f: Image.new("RGBA", (8, 8)).save(f / "0" / "clear.png"),
         r"clear.png: cannot be read: a transparent picture; lay it on the background that you mean"),
        (lambda f: Image.new("F", (8, 8)).save(f / "0" / "deep.tif"), r"deep.tif: .*a picture of mode F, whose black"),
    ],
)  # fmt: skip
def test_a_spoilt_folder_is_one_line(project, call, spoil, message):
    spoil(write_folder(project / "folder", pictures(20, 1)))
    one_line(call("folder", "--reference", "real.npz"), message)


@pytest.mark.parametrize(
    ("samples", "reference", "message"),
    [
        ("empty", "real.npz", r"empty: no pictures in this folder or below it, and no other files"),
        ("nothing", "real.npz", r"nothing: no such file or folder; expected an \.npz of images or a folder"),
        ("text.txt", "real.npz", r"text.txt: neither an \.npz nor a folder"),
        ("broken.npz", "real.npz", r"broken.npz: cannot be read: File is not a zip file"),
        ("damaged.npz", "real.npz", r"damaged.npz: cannot be read: (Bad CRC-32|Error -3)"),
        ("named.npz", "real.npz", r"named.npz: holds images; images are expected under arr_0"),
        ("float.npz", "real.npz", r"float.npz: arr_0 is float64 \(4, 8, 8, 3\); expected uint8"),
        ("none.npz", "real.npz", r"none.npz: arr_0 holds no images"),
        ("one.npz", "real.npz", r"1 generated samples; this metric needs at least 2|1 images; a covariance needs"),
        ("large.npz", "real.npz", r"large.npz: images of 3×9×9, and real.npz has 3×8×8; make them alike first"),
        ("samples.npz", "other.npz", r"other.npz: statistics of 5 features, and these have 6: .* another network"),
        ("samples.npz", "odd.npz", r"odd.npz: mu \(5,\), sigma \(4, 4\); \(D,\) and \(D, D\) are expected"),
        ("samples.npz", "half.npz", r"half.npz: cannot be read: .*sigma"),
        ("samples.npz", "no:where", r"data set no: not one of digits"),
    ],
)
def test_what_cannot_be_measured_is_one_line(project, call, samples, reference, message):
    Path("empty").mkdir()
    Path("text.txt").write_text("no picture")
    Path("broken.npz").write_text("no archive")
    np.savez("named.npz", images=pictures(4))
    np.savez("float.npz", pictures(4) / 255)
    np.savez("none.npz", pictures(0))
    np.savez("one.npz", pictures(1))
    np.savez("large.npz", np.zeros((9, 9, 9, 3), np.uint8))
    np.savez("other.npz", mu=np.zeros(5), sigma=np.eye(5))
    np.savez("odd.npz", mu=np.zeros(5), sigma=np.eye(4))
    np.savez("half.npz", mu=np.zeros(5))
    damage()
    one_line(call(samples, "--reference", reference), message)


def test_nothing_can_have_memorised_what_is_held_out(project, call):
    np.savez("grey.npz", pictures(30)[..., :1])
    _, train, _ = call("grey.npz", "--reference", "digits:train")
    assert 0 <= train["metrics"]["memorisation"] <= 1
    _, test, said = call("grey.npz", "--reference", "digits:test", "--nearest", "pairs.png")
    assert test["unavailable"]["memorisation"] == "digits/test is held out of training"
    assert "--nearest: digits/test is held out of training" in said


def test_options_that_cannot_be_met_are_one_line(project, call):
    classifier = call("samples.npz", "--reference", "real.npz", "--features", "classifier")
    one_line(classifier, "--features classifier: it is a data set's own, so --reference must be DATA_SET:SPLIT")
    if not torch.cuda.is_available():
        one_line(
            call("samples.npz", "--reference", "real.npz", "--device", "cuda"), "--device cuda: torch finds no GPU"
        )


def damage() -> None:
    """Write an .npz that is sound but for the middle of its images."""
    content = bytearray(Path("samples.npz").read_bytes())
    with zipfile.ZipFile("samples.npz") as archive:
        size = archive.getinfo("arr_0.npy").file_size
    content[size // 2] ^= 255
    Path("damaged.npz").write_bytes(bytes(content))


def one_line(result: tuple[int, dict, str], message: str) -> None:
    import re

    code, out, said = result
    assert code == 2, said
    assert out == {}
    assert len(said.strip().splitlines()) == 1, said
    assert re.search(message, said), said


def test_adm_images_make_rows_and_statistics_stay_the_files(project):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6))
    np.savez("adm.npz", mu=x.mean(0), sigma=np.cov(x.T), arr_0=pictures(30))
    reference = of_statistics(Path("adm.npz"), stand_in(), Path("cache"))
    assert frechet_distance(reference.pool, statistics(x)) == pytest.approx(0, abs=1e-9)
    assert reference.manifold is not None
    assert len(reference.manifold.features) == 30
    assert reference.spatial is None
