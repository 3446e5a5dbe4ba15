"""What a plan says of measuring is what is counted; a reference's own pairs are gone through once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.synthetic_study import table_of
from support.trainings import make_dataset
from torch.utils.flop_counter import FlopCounterMode

from harness.config.settings.data_settings import EvaluationSettings
from harness.measure import overfitting
from harness.measure import reference as references
from harness.measure.compare import Measured, compare
from harness.measure.extractors.extractor import Extractor, Features, extract
from harness.measure.extractors.inception import Outputs
from harness.measure.images import of_array
from harness.measure.metrics import kernel, pairs
from harness.measure.metrics.neighbours import Manifold, nearest_distances
from harness.measure.reference import Reference, of_images
from harness.networks.build import build_net
from harness.planning import flops
from harness.planning.measuring_flops import WIDTHS, ReferenceWork, copying, each, losses, moments, once
from harness.planning.measuring_flops import pairs as pairs_of

N, M, PART, D, CLASSES = 40, 90, 30, 4, 3
BY_PIXEL = Extractor("pixels", "", lambda x: Outputs(x.flatten(1).float()), torch.device("cpu"))


def pixels(count: int, width: int, seed: int):
    rows = np.random.default_rng(seed).integers(0, 256, (count, width, 1, 1), np.uint8)
    return of_array(rows, f"set-{seed}", f"{seed}" * 12, np.arange(count) % CLASSES)


def counted(call) -> int:
    """Operations of a call; of a product in place too, which torch's counter does not know."""
    in_place = {torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1]}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("part", [None, PART])
@pytest.mark.parametrize("samples", [N, 4 * D - 1])
def test_the_price_is_what_is_counted(tmp_path: Path, monkeypatch, part: int | None, samples: int) -> None:
    monkeypatch.setitem(WIDTHS, "classifier", D)
    monkeypatch.setattr(kernel, "_float64", lambda rows, _: torch.from_numpy(rows).double())  # as on a GPU
    work, found = ReferenceWork("any", "train", "classifier", part, M), list[Reference]()
    assert once(work) == counted(lambda: found.append(of_images(pixels(M, D, 0), BY_PIXEL, tmp_path, part=part)))
    generated = extract(pixels(samples, D, 1), BY_PIXEL)
    assert each(samples, work, CLASSES) == counted(lambda: compare(Measured(generated, found[0], BY_PIXEL)))
    assert counted(lambda: of_images(pixels(M, D, 0), BY_PIXEL, tmp_path, part=part)) == 0


def test_a_second_measurement_goes_through_no_pair_of_the_reference(tmp_path: Path, monkeypatch) -> None:
    count, asked = 100_000, []

    def without_pairs(features: np.ndarray, side: str, _: object) -> Manifold:
        """The first measurement's pairs, ten thousand millions, which a test has no time for."""
        asked.append(len(features))
        return Manifold(features, np.ones((len(features), 5)), np.zeros(len(features), int), 0.9)

    monkeypatch.setattr(references, "manifold", without_pairs)
    real = pixels(count, 4, 0)
    of_images(real, BY_PIXEL, tmp_path, part=1000)
    assert asked == [count, 1000]
    gone_through = dict.fromkeys(((60, 60), (60, count), (60, 1000)), 0)

    def count_pairs(x: pairs.Points, y: pairs.Points, *rest: Any) -> pairs.Block:
        gone_through[len(x), len(y)] += rest[-1].numel()  # a KeyError for any other pairs
        return block(x, y, *rest)

    block = pairs.Block
    monkeypatch.setattr(pairs, "Block", count_pairs)
    again = of_images(real, BY_PIXEL, tmp_path, part=1000)
    compare(Measured(Features(extract(pixels(60, 4, 1), BY_PIXEL).pool), again, BY_PIXEL))
    assert gone_through == {(rows, columns): rows * columns for rows, columns in gone_through}
    assert asked == [count, 1000]


def test_overfitting_costs_what_is_counted() -> None:
    run = table_of("table3", "smoke", "evaluation.held_out=20").runs[0]
    settings, net, dataset = run.evaluation.evaluation, build_net(run.train), make_dataset()
    assert losses(run.train, settings) == 2 * counted(lambda: overfitting.losses(net, run.train, dataset, 20))
    samples, training, held_out = (np.random.default_rng(0).random((count, 96)) for count in (50, 1442, 355))
    both = [counted(lambda x=x: nearest_distances(x, training)) for x in (samples, held_out)]
    assert copying(50, run.train, settings) == sum(both) > 0
    assert losses(run.train, EvaluationSettings()) == copying(50, run.train, EvaluationSettings()) == 0


def test_at_imagenet_a_measurement_costs_a_twentieth_of_what_it_did() -> None:
    """Before, each went through the pairs within the reference for CMMD, and through the others twice."""
    samples, images, width = 50_000, 1_281_167, 2048
    work = ReferenceWork("imagenet256", "train", "inception-v3-compat", 10_000, images)
    before = 2 * width * (images**2 + 2 * samples * images + 2 * samples**2) + 2 * moments(images, width)
    now = each(samples, work, 1000)
    assert before / now > 20
    assert once(work) == pytest.approx(2 * width * images**2, rel=0.01)


def test_what_one_of_several_processes_computes_alone_is_a_thirtieth_of_a_measurement_at_imagenet() -> None:
    """FID, its extrapolation, KID and the Vendi score; the pairs are shared. Drawing the images costs far more."""
    samples, images, part = 50_000, 1_281_167, 10_000
    whole = each(samples, ReferenceWork("imagenet256", "train", "inception-v3-compat", part, images), 1000)
    alone = whole - sum(pairs_of(samples, others, 2048) for others in (samples, images, part))
    assert 0.02 < alone / whole < 1 / 30
    run = table_of("table2", "imagenet256").runs[0]
    drawing = flops.network(run.train).forward * flops.evaluations(run.evaluation.sampler) * samples
    assert alone < drawing / 50_000
