"""Distances and neighbourhoods of features against closed forms, NumPy loops and torch-fidelity."""

import time

import numpy as np
import pytest
import scipy.linalg
import torch
from support.feature_metrics import precision_recall
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from harness.errors import UserError
from harness.measure.extractors.extractor import Extractor
from harness.measure.extractors.inception import Inception, load_inception, resize
from harness.measure.metrics import neighbours
from harness.measure.metrics.frechet import Moments, Statistics, frechet_distance, statistics
from harness.measure.metrics.inception_score import inception_score
from harness.measure.metrics.kernel import kid
from harness.measure.metrics.neighbours import distances, manifold, neighbour_metrics

rng = np.random.default_rng(0)


def gaussians(D: int, smallest: float) -> tuple[Statistics, Statistics, float]:
    """Return two Gaussians whose covariances do not commute, variances down to `smallest`, and their distance.

    Where Σ₂ = TΣ₁T with a symmetric positive T, x → Tx is the optimal transport, and it costs tr((T − 1)Σ₁(T − 1)).
    """
    Q, P = (np.linalg.qr(rng.normal(size=(D, D)))[0] for _ in range(2))
    first = (Q * np.geomspace(smallest, 2, D)) @ Q.T
    T = (P * rng.uniform(0.5, 1.5, D)) @ P.T
    mean = rng.normal(size=D) / 10
    expected = (mean**2).sum() + np.trace((T - np.eye(D)) @ first @ (T - np.eye(D)))
    return Statistics(mean, first), Statistics(0 * mean, T @ first @ T), expected


@pytest.mark.parametrize("smallest", [1e-3, 1e-7, 1e-12])
def test_distance_of_gaussians_that_do_not_commute(smallest: float) -> None:
    a, b, expected = gaussians(128, smallest)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10)


def test_variance_that_is_rounding_adds_nothing() -> None:
    A, B = rng.normal(size=(200, 5)), rng.normal(size=(200, 8))  # Σ = AAᵀ, which Cholesky takes with a little more
    a, b = (Statistics(np.zeros(200), F @ F.T + 1e-12 * np.eye(200)) for F in (A, B))
    expected = (A**2).sum() + (B**2).sum() - 2 * np.linalg.norm(A.T @ B, "nuc")
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_distance_in_2048_dimensions_is_right_and_four_times_faster_than_sqrtm() -> None:
    a, b, expected = gaussians(2048, 1e-6)
    start = time.process_time()
    found = frechet_distance(a, b)
    middle = time.process_time()
    root = np.trace(scipy.linalg.sqrtm(a.covariance @ b.covariance).real)
    seconds = middle - start, time.process_time() - middle
    assert found == pytest.approx(expected, rel=1e-6)
    assert ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance) - 2 * root == pytest.approx(found)
    assert seconds[1] > 4 * seconds[0]


@pytest.mark.parametrize("n", [10, 60, 500])
def test_equal_sets_are_at_distance_zero_whatever_their_rank(n: int) -> None:
    x = np.maximum(rng.normal(size=(n, 64)) @ rng.normal(size=(64, 64)), 0)
    x[:, :5] = 0  # features that never fire
    found = statistics(x)
    assert abs(frechet_distance(found, found)) < 1e-10 * np.trace(found.covariance)


def test_moments_stream_and_merge_far_from_the_origin() -> None:
    x = rng.normal(size=(100, 5)) + 1e6
    whole, parts = Moments(), [Moments(), Moments(), Moments()]
    for row in x:
        whole.update(torch.from_numpy(row[None]))
    parts[1].update(torch.from_numpy(x[:30]))
    parts[2].update(torch.from_numpy(x[30:]))
    for part in parts[1:]:
        parts[0].merge(part)
    parts[0].merge(Moments())
    assert parts[1].statistics().count == 30  # the others are left as they were
    np.testing.assert_allclose(parts[1].statistics().covariance, np.cov(x[:30].T), rtol=1e-8)
    for moments in (whole, parts[0]):
        found = moments.statistics()
        assert found.count == 100
        np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-14)
        np.testing.assert_allclose(found.covariance, np.cov(x.T), rtol=1e-8)
    with pytest.raises(UserError, match="1 images; a covariance needs at least 2"):
        statistics(x[:1])
    with pytest.raises(UserError, match="not finite"):
        statistics(np.where(x == x[3], np.nan, x))


def test_neighbourhoods_are_those_of_double_loops() -> None:
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(40, 3)) + 0.5
    found = neighbour_metrics(manifold(x), manifold(y))[0]

    def lengths(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.array([[np.linalg.norm(p - q) for q in b] for p in a])

    radius = np.sort(lengths(y, y), 1)[:, 5]
    inside = lengths(x, y) < radius
    assert found["density"] == pytest.approx(inside.sum() / (5 * 50))
    assert found["coverage"] == pytest.approx(inside.any(0).mean())
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    theirs = prc_features_to_metric(a, b, prc_neighborhood=3, save_cpu_ram=False, prc_batch_size=100, verbose=False)
    assert (found["precision"], found["recall"]) == pytest.approx((theirs["precision"], theirs["recall"]))


def test_known_answers_of_constructed_sets() -> None:
    rng = np.random.default_rng(1)
    wide = rng.normal(size=(600, 4))

    def found(generated: np.ndarray) -> dict[str, float]:
        return neighbour_metrics(manifold(generated), manifold(wide))[0]

    tight = found(0.1 * rng.normal(size=(500, 4)))
    assert tight["precision"] > 0.95
    assert tight["recall"] < 0.05
    assert tight["density"] > 1
    assert tight["coverage"] < 0.2
    far = found(wide + 100)
    assert set(far.values()) == {0}
    copies = found(wide)  # each ball then holds its centre and k − 1 others
    assert copies == {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    same_law = found(rng.normal(size=(600, 4)))
    assert same_law["density"] == pytest.approx(1, abs=0.1)
    assert same_law["coverage"] == pytest.approx(1 - 0.5**5, abs=0.03)  # Naeem et al. 2020, of as many of each


def test_a_set_of_equal_samples_far_from_the_origin_is_one_point() -> None:
    point = np.tile(rng.normal(size=7) + 1000, (10, 1))
    assert precision_recall(point, point) == (1, 1)
    assert precision_recall(point + 1e-2, point) == (0, 0)
    x = rng.normal(size=(300, 7)) + 1000
    assert all(not d.diagonal().any() for _, d in distances(x, x))


@pytest.mark.parametrize("n", [10, 95])
def test_inception_score_is_torch_fidelitys(n: int) -> None:
    logits = 3 * rng.normal(size=(n, 20)).astype(np.float32)
    theirs = isc_features_to_metric(torch.from_numpy(logits))
    assert inception_score(logits) == pytest.approx(tuple(theirs.values()), rel=1e-12)


def test_inception_score_of_sure_and_even_classes_is_their_number() -> None:
    assert inception_score(np.zeros((40, 7)))[0] == pytest.approx(1)
    assert inception_score(100 * np.eye(4)[np.arange(4000) % 4])[0] == pytest.approx(4, rel=0.01)


def test_kid_with_subsets_of_a_given_size() -> None:
    x, y = rng.normal(size=(60, 8)), rng.normal(size=(60, 8))
    assert abs(kid(x, y, size=60)[0]) < 0.2  # unbiased: both of the same law
    assert kid(x, y, size=60)[1] < 1e-9  # a subset is all there is, each time
    assert kid(x, y + 3, size=60)[0] > 100


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """Random weights, batch norms and all, in the layout of the published file."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save({}, path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path=str(path))
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.1), (module.running_var, 0.05), (module.bias, -0.1)):
                tensor.uniform_(low, low + 0.2, generator=generator)
    torch.save(network.state_dict(), path)
    return path


def test_folded_inception_is_torch_fidelitys(inception_file) -> None:
    slow = load_inception(inception_file)
    slow.features_list = ["2048", "logits_unbiased"]
    grabbed = []
    slow.Mixed_6d.register_forward_hook(lambda _module, _inputs, output: grabbed.append(output))
    fast = Inception(load_inception(inception_file)).to(memory_format=torch.channels_last)
    images = torch.from_numpy(rng.integers(0, 256, (2, 3, 20, 33), np.uint8))
    pool, logits = slow(images)
    found = fast(images)
    torch.testing.assert_close(found.pool, pool, rtol=1e-5, atol=1e-5 * float(pool.abs().max()))
    torch.testing.assert_close(found.logits, logits, rtol=1e-5, atol=1e-5 * float(logits.abs().max()))
    spatial = grabbed[0].permute(0, 2, 3, 1)[..., :7].flatten(1)  # TensorFlow's order, the first branch's channels
    assert found.spatial.shape == (2, 17 * 17 * 7)
    torch.testing.assert_close(found.spatial, spatial, rtol=1e-5, atol=1e-5 * float(spatial.max()))


@pytest.mark.parametrize("size", [(8, 8), (32, 40), (299, 299), (400, 256)])
def test_images_are_resized_as_torch_fidelity_does(size: tuple[int, int]) -> None:
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    images = torch.from_numpy(rng.integers(0, 256, (1, 3, *size), np.uint8)).float()
    expected = interpolate_bilinear_2d_like_tensorflow1x(images, size=(299, 299), align_corners=False)
    torch.testing.assert_close(resize(images), expected, rtol=0, atol=1e-4)


def test_a_file_without_the_last_layer_gives_no_inception_score(inception_file, tmp_path) -> None:
    from harness.measure.extractors.extractor import array_features, extractor

    weights = torch.load(inception_file, weights_only=True)
    torch.save(weights | {"fc.weight": torch.zeros_like(weights["fc.weight"])}, tmp_path / "trunk.pth")
    network: Extractor = extractor("inception-v3-compat", "", tmp_path, tmp_path, tmp_path / "trunk.pth")
    assert network.no_logits == "trunk.pth lacks Inception's last layer (its weights are zero)"
    found = array_features(rng.integers(0, 256, (2, 3, 8, 8), np.uint8), network)
    assert found.logits is None
    assert found.spatial is not None


def test_distances_by_parts_of_both_sides_are_those_of_every_pair(monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", 4)
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((23, 5)), rng.standard_normal((31, 5)).astype(np.float32)
    for rows_of in (neighbours.double, lambda rows: 3 * neighbours.double(rows)):
        slices, parts = zip(*neighbours.distances(x, y, rows_of), strict=True)
        assert [part.start for part in slices] == list(range(0, 23, 4))
        pairs = ((rows_of(x)[:, None] - rows_of(y)[None]) ** 2).sum(-1)
        np.testing.assert_allclose(torch.cat(parts).numpy(), pairs, rtol=1e-6)
