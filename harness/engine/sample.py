"""Sampling: image i from seed i, to the last bit, whichever images are drawn and by however many processes.

The last bits of a matrix product depend on its size, so the network only ever sees whole tiles: tile k is images n k to
n k + n − 1, with n of 64 or what sampler.tile says, and it is drawn whole even where not all of it is wanted. So a
measurement that is stopped goes on with the tile that it had come to, to the same pixels, by however many processes.
While a tile is drawn, the one before it is decoded.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.checkpoint_paths import weights_path
from harness.config.kinds.sampler_kinds import SAMPLERS
from harness.config.spec import EvalSpec, TrainSpec, eval_id, train_id
from harness.data.finite import NotFinite
from harness.data.to_bytes import to_uint8
from harness.engine.distributed import ALONE, World
from harness.engine.sample_cache import SampleFile
from harness.engine.train import OnStep, Progress
from harness.errors import UserError
from harness.gpu import device
from harness.method.backbone import DiT
from harness.method.guidance import CountedNet, GuidanceInterval, guided
from harness.method.precision import matmul_precision
from harness.method.processes.process import noise_level_of
from harness.method.randomness import generator
from harness.networks.build import build_net, build_process, compile_blocks
from harness.networks.checkpoint import load_weights

Decode = Callable[[Tensor], np.ndarray]  # samples (N, C, H, W) → images uint8 (N, C, H, W)


@dataclass(frozen=True)
class Samples:
    """Generated images, their labels, and the network evaluations that each one took."""

    images: np.ndarray  # uint8 (N, C, H, W), which may be mapped from a file
    labels: np.ndarray  # int64 (N,)
    nfe: int
    earlier: float = 0.0  # seconds that attempts before this one have drawn for


def labels_of(images: range, classes: int, law: str) -> np.ndarray:
    """Return the labels of some images: drawn from each image's seed ("random"), or in turn."""
    if law == "balanced":
        return np.array([i % classes for i in images])
    return np.array([int(torch.randint(classes, (), generator=generator(0, "label", i))) for i in images])


@dataclass(frozen=True)
class Sampler:
    """Draws the images of a measurement; the processes of the world take tiles in turn, and all must take part.

    tiles: those of a shard; by default all. compiled: whether the network's blocks are. decode: turns samples into
    bytes. on_progress(n): called after n images. on_step(save): called before every evaluation of the network: who must
    end soon calls `save` before.
    """

    train: TrainSpec
    spec: EvalSpec
    world: World = ALONE
    tiles: range | None = None
    compiled: bool = False
    decode: Decode = to_uint8
    on_progress: Progress = lambda images: None
    on_step: OnStep = lambda save: None

    def draw(self, folder: Path) -> Samples | None:
        """Return the images of the weights kept in `folder`, in the leading process; None in the others.

        They are kept there as well, so that who is stopped goes on; `sample_cache.remove_samples` removes them when
        they are measured.

        Raises:
            OSError: there is no room for them.
            UserError: weights or samples are not finite; in all processes.
        """
        return self.draw_from(self._net(folder), self._cache(folder, folder))

    def draw_shard(self, folder: Path, kept: Path) -> None:
        """As `draw`, the tiles of a shard, which are kept in a folder of its own.

        Raises:
            OSError, UserError: as `draw`.
        """
        cache = self._cache(folder, kept)
        self.add_to(cache, self._net(folder))
        if self.world.leads:
            cache.save()

    def _net(self, folder: Path) -> DiT:
        net, spec = build_net(self.train).to(device()), self.spec
        net.load_state_dict(load_weights(folder, spec.step, "ema" if spec.evaluation.weights == "ema" else "model"))
        if self.compiled:
            compile_blocks(net)
        return net

    def _cache(self, folder: Path, kept: Path) -> SampleFile:
        return SampleFile(kept, eval_id(train_id(self.train), self.spec), weights_path(folder, self.spec.step))

    def draw_from(self, net: DiT, cache: SampleFile) -> Samples | None:
        """As `draw`, from a network; the images are added to those that the cache has already."""
        self.add_to(cache, net)
        if not self.world.leads:
            return None
        spec = self.spec
        images = range(spec.first_image, spec.first_image + spec.evaluation.samples)
        labels = labels_of(images, self.train.data.classes, spec.evaluation.labels)
        pixels = cache.images(images.start % spec.tile, len(images))
        return Samples(pixels, labels, cache.record.nfe, cache.record.seconds)

    def add_to(self, cache: SampleFile, net: DiT) -> None:
        """Draw the tiles that a cache has not yet, and add them to it."""
        tiles = self.spec.tiles if self.tiles is None else self.tiles
        left = tiles[self.world.decide(cache.begin) // self.spec.tile :]
        counted, where = CountedNet(net.eval()), next(net.parameters()).device
        products = matmul_precision("high" if self.spec.sampler.matmul == "tf32" else "highest")  # the decoder's too
        with _Decoding(self, cache, tiles) as decoding, products:
            # A tile may take longer than a signal gives.
            with net.register_forward_pre_hook(lambda *_: self.on_step(decoding.save)):
                for count, first in enumerate(left[:: self.world.size], 1):
                    mine = min(first + self.world.rank, tiles[-1])  # in the last round, maybe what another draws too
                    samples = _draw_tile(counted, self.train, self.spec, mine, where)
                    nfe = round(counted.evaluations_per_image(count * self.spec.tile))
                    decoding.begin(first, mine, samples, nfe)
            decoding.end()
            self.on_step(decoding.save)


class _Decoding:
    """Tiles on their way from the network to the cache: each is decoded in a thread while the next is drawn.

    All processes of the sampler's world must call the same methods.
    """

    def __init__(self, sampler: Sampler, cache: SampleFile, tiles: range) -> None:
        self.sampler, self.cache, self.tiles = sampler, cache, tiles
        self.pending: tuple[int, int, Future[np.ndarray], int] | None = None
        self.thread = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),))

    def __enter__(self) -> "_Decoding":
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.shutdown(cancel_futures=True)

    def begin(self, first: int, mine: int, samples: Tensor, nfe: int) -> None:
        """Begin to decode the own tile of a round, whose first tile is `first`, and end the round before."""
        self.end()
        self.pending = first, mine, self.thread.submit(self.sampler.decode, samples), nfe

    def end(self) -> None:
        """Wait for the tile that is being decoded, and add it to the cache together with those of the other processes.

        Raises:
            UserError: a sample is not finite; in all processes.
        """
        if not self.pending:
            return
        (first, mine, decoded, nfe), self.pending = self.pending, None
        world, spec, tiles = self.sampler.world, self.sampler.spec, self.tiles
        parts = world.gather(self._bytes(decoded, mine))
        if world.leads:
            self.cache.add([tile.numpy() for tile in parts[: tiles.stop - first]], nfe)
        start = max(spec.first_image, tiles.start * spec.tile)
        stop = min(spec.first_image + spec.evaluation.samples, tiles.stop * spec.tile)
        self.sampler.on_progress(min((first + world.size) * spec.tile, stop) - start)

    def save(self) -> None:
        """Bring what is drawn to the disk."""
        self.end()
        if self.sampler.world.leads:
            self.cache.save()

    def _bytes(self, decoded: "Future[np.ndarray]", tile: int) -> Tensor:
        """Return a tile's bytes (n, C, H, W); a sample that is not finite is refused in all processes."""
        pixels, fault, spec = None, "", self.sampler.spec
        try:
            pixels = torch.from_numpy(decoded.result())
        except NotFinite as error:
            image, which = tile * spec.tile + error.row, spec.evaluation.weights
            fault = f"sample {image} (seed {image}) of the {which} weights of step {spec.step}: {error}"
        if faults := list(filter(None, self.sampler.world.all_gather(fault))):
            raise UserError(
                f"{faults[0]}; the weights diverged, or sampler.guidance or sampler.precision is too coarse"
            )
        assert pixels is not None
        return pixels


def _draw_tile(counted: CountedNet, train: TrainSpec, spec: EvalSpec, tile: int, where: torch.device) -> Tensor:
    """Draw the samples of a tile, (n, C, H, W)."""
    data, settings, images = train.data, spec.sampler, range(tile * spec.tile, (tile + 1) * spec.tile)
    bounds = settings.guidance_from, settings.guidance_to
    process = build_process(train)
    interval = None if bounds == (None, None) else GuidanceInterval(noise_level_of(process), *bounds)
    guide = guided(counted, settings.guidance, settings.guidance_channels, data.classes, interval)
    y = torch.from_numpy(labels_of(images, data.classes, spec.evaluation.labels)).to(where)
    streams = [generator(0, "sample", image) for image in images]  # the noise that starts it, then that of each step

    def noise(step: int = 0) -> Tensor:
        shape = (data.channels, data.size, data.size)
        return torch.stack([torch.randn(shape, generator=stream) for stream in streams]).to(where)

    with torch.inference_mode(), torch.autocast(where.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        samples: Tensor = SAMPLERS[settings.method](guide, noise(), y, settings.intervals, noise, process)
        return samples
