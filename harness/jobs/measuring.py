"""Measuring kept weights: their images are drawn, measured, and shown in pictures beside the numbers.

A study that was measured when there were fewer metrics is measured again without training, on the same images.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from harness import files, plugins
from harness.checkpoint_paths import weights_path
from harness.config.spec import EvalSpec, TrainSpec, eval_id, train_id
from harness.errors import UserError
from harness.files import locked
from harness.metric_definitions import MEASURED, OF_HELD_OUT, base, with_features
from harness.store.records import Attempt, Environment, Measurement, Thumbnails, measurement_paths, read_spec
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.engine.distributed import World
    from harness.engine.sample import Sampler, Samples

THUMBNAILS = Thumbnails(rows=2, columns=10)
SIDE = 64  # pixels of the largest tile of a picture
# What the same images may differ by: sums in another order, and what was once kept as float32.
RELATIVE, ABSOLUTE = 1e-5, 1e-6
Other = tuple[str, Path | None]  # a model of timm whose features are wanted as well, and the file of its weights


@dataclass(frozen=True)
class Measuring:
    """One measurement of a training, from its kept weights to its files."""

    store: Store
    data: Path
    train: TrainSpec
    spec: EvalSpec

    @property
    def path(self) -> Path:
        """Where the measurement is to be, <eval_id>.json."""
        return self.store.eval_path(train_id(self.train), eval_id(train_id(self.train), self.spec))

    @property
    def scratch(self) -> Path:
        """Where its weights are, and its images until they are measured."""
        return self.store.scratch_folder(train_id(self.train))

    def draw(self, **listeners: Any) -> "Samples | None":
        """Draw the images; listeners: as `sampler` takes them."""
        return self.sampler(**listeners).draw(self.scratch)

    def sampler(self, **listeners: Any) -> "Sampler":
        """Return what draws the images; listeners: the world and what is called on the way, as `Sampler` has them."""
        from harness.data.to_bytes import decoder
        from harness.engine.sample import Sampler

        decode = decoder(self.train.data.name, self.data, self.spec.sampler.decode or 1)
        return Sampler(self.train, self.spec, decode=decode, **listeners)

    def everywhere(self, samples: "Samples | None", world: "World") -> "Samples":
        """Return in all processes the images that `draw` gives to the leading one; the others map its file."""
        from harness.engine.sample_cache import kept_images

        if world.size == 1:
            assert samples is not None
            return samples
        known = world.decide(lambda: samples and (samples.images.shape, replace(samples, images=samples.images[:0])))
        if samples is not None:
            return samples
        shape, rest = known  # type: ignore[misc]
        first = self.spec.first_image % self.spec.tile
        return replace(rest, images=kept_images(self.scratch, self.path.stem, first, shape))

    def measure(
        self, samples: "Samples", features: str | None = None, weights: Path | None = None, world: "World | None" = None
    ) -> dict[str, Any]:
        """Return {metrics, unavailable, protocol, details} of drawn images, by the spec's features or others.

        The processes of the world share the work, and all must call this. What is measured is kept in scratch until
        `write`, so that who is killed goes on.

        Raises:
            UserError: as `measure`.
        """
        from harness.data.cache import content_hash
        from harness.data.datasets import training_rows
        from harness.data.to_bytes import autoencoder_sha256
        from harness.engine.allocator import release_memory
        from harness.engine.distributed import ALONE
        from harness.measure.evaluate import measure
        from harness.measure.images import of_array
        from harness.measure.measure_request import KeptNetwork, MeasureRequest

        release_memory()
        world, name, evaluation = world or ALONE, self.train.data.name, self.spec.evaluation
        request = MeasureRequest(
            reference=f"{name}:{evaluation.reference}",
            features=features or evaluation.features,
            data=self.data,
            cache=self.store.cache,
            weights=weights,
            metrics=(*(evaluation.metrics or ()), *(OF_HELD_OUT if evaluation.held_out else ())),
            part=evaluation.reference_part,
            trained_on=training_rows(self.train.data, self.train.seed, self.data),
            network=KeptNetwork(self.train, self.spec, self.scratch),
            scratch=_measured_folder(self.scratch, self.path.stem),
        )
        content = world.decide(lambda: content_hash(samples.images))
        measured, _ = measure(of_array(samples.images, "samples", content, samples.labels), request, world)
        if sha256 := autoencoder_sha256(name, self.data):
            measured["protocol"]["autoencoder"] = sha256[:12]
        if evaluation.held_out:
            measured["protocol"]["held_out"] = evaluation.held_out
        return measured

    def write(self, samples: "Samples", record: Measurement) -> None:
        """Write pictures, then the record, whose presence means that it is done; the images are needed no more.

        <eval_id>.png holds the first of the images; <eval_id>-nearest.png those that come nearest to real ones, above
        these, where the measurement says which.
        """
        from harness.data.datasets import load_images

        columns = THUMBNAILS.columns
        save_tiles(self.path.with_suffix(".png"), (samples.images[:columns], samples.images[columns : 2 * columns]))
        if pairs := record.details.get("nearest"):
            real = load_images(self.train.data.name, self.spec.evaluation.reference, self.data).images
            rows = [samples.images[pair["sample"]] for pair in pairs], [real[pair["real"]] for pair in pairs]
            save_tiles(self.path.with_name(f"{self.path.stem}-nearest.png"), rows)
        record.write(self.path)
        self.forget_samples()

    def forget_samples(self) -> None:
        """Remove the images that were kept for those who go on, and what was measured of them."""
        forget_samples(self.scratch, self.path.stem)


def forget_samples(scratch: Path, name: str) -> None:
    """Remove from a training's scratch what a measurement has kept until it was written."""
    from harness.engine.sample_cache import remove_samples

    remove_samples(scratch, name)
    shutil.rmtree(_measured_folder(scratch, name), ignore_errors=True)


def _measured_folder(scratch: Path, name: str) -> Path:
    return scratch / f"measured-{name}"


def save_tiles(path: Path, rows: Sequence[Any]) -> None:
    """Write two rows of images, uint8 (C, H, W) each, as one PNG; what a row lacks is black."""
    import numpy as np
    from PIL import Image

    count, columns, (channels, height, width) = THUMBNAILS.rows, THUMBNAILS.columns, rows[0][0].shape
    tiles = np.zeros((count, columns, channels, height, width), np.uint8)
    for row, images in zip(tiles, rows, strict=True):
        row[: len(images)] = images[:columns]
    sheet = tiles.transpose(0, 3, 1, 4, 2).reshape(count * height, columns * width, channels)
    picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet[..., :3])
    if height > SIDE:
        picture = picture.resize((columns * SIDE, count * SIDE), Image.Resampling.BOX)
    files.replace(path, lambda temporary: picture.save(temporary, format="PNG", optimize=True))


def remeasure(store: Store, data: Path, other: Other | None, tell: Callable[[str], None]) -> tuple[int, int]:
    """Measure again what lacks a metric; return how many were renewed, and how many had to be left as they were.

    Several processes may do this at once: they take different trainings.

    Raises:
        UserError: there is no such study, or the other features cannot be had.
    """
    if other:
        from harness.measure.extractors.extractor import load_timm

        load_timm(*other)
    if not store.root.is_dir():
        raise UserError(f"{store.root}: no study here")
    paths = [path for folder in store.run_folders() for path in measurement_paths(folder) if _is_due(path, other)]
    done = left = 0
    for i, path in enumerate(paths, 1):
        name, start = f"{i}/{len(paths)} {path.parts[-3]}/{path.stem}", time.perf_counter()
        try:
            added = _remeasure(store, data, path, other)
        except UserError as error:
            tell(f"{name}: left as it was: {error}")
            left += 1
        except Timeout:
            tell(f"{name}: another process is at this training")
        else:
            tell(f"{name}: {added} metrics added in {time.perf_counter() - start:.1f} s")
            done += bool(added)
    return done, left


def _is_due(path: Path, other: Other | None) -> bool:
    try:
        return lacks_metrics(_stored(path)[2], other)
    except UserError:  # told when it is its turn
        return True


def _stored(path: Path) -> tuple[TrainSpec, EvalSpec, Measurement]:
    """Read a measurement and what it is of.

    Raises:
        UserError: one of the two is not what its place says, or of a newer harness.
    """
    record, train = Measurement.read(path), read_spec(path.parents[1])
    spec = record.evaluation if record else None
    if record and train and spec and (train_id(train), eval_id(train_id(train), spec)) == (path.parts[-3], path.stem):
        return train, spec, record
    raise UserError("its file or its training's spec.json is broken, or lies in the wrong folder")


def lacks_metrics(record: Measurement, other: Other | None) -> bool:
    """Tell whether there is a metric that a measurement neither has nor says to be unavailable."""
    names, spec = {*record.metrics, *record.unavailable}, record.evaluation
    lacks_other = other is not None and with_features("fid", other[0]) not in names
    due = {*MEASURED, *(OF_HELD_OUT if spec and spec.evaluation.held_out else ())}
    return lacks_other or not set(map(base, names)).issuperset(due)


def _remeasure(store: Store, data: Path, path: Path, other: Other | None) -> int:
    """Measure again and write; return how many numbers came to those that were there.

    Raises:
        UserError: it cannot be read, the weights are gone, or the images are not those of then.
        Timeout: another process is at this training.
    """
    import torch

    train, spec, _ = _stored(path)
    plugins.check(train.plugins, plugins.MEASURING)
    plugins.check(spec.plugins)
    measuring = Measuring(store, data, train, spec)
    if not weights_path(measuring.scratch, spec.step).is_file():
        raise UserError(f"its weights of step {spec.step} are not in {measuring.scratch}")
    with locked(measuring.scratch / "lock", timeout=0):
        *_, record = _stored(path)
        if not lacks_metrics(record, other):  # another process did it while this one was elsewhere
            return 0
        environment = Environment.read(path.parents[1])  # another number of threads changes the images' last bits
        last = environment.last if environment and environment.last else Attempt()
        torch.set_num_threads(last.threads)
        samples = measuring.draw(compiled=last.compiled)
        assert samples is not None  # of one process alone
        try:
            measured = measuring.measure(samples)
            if other:
                _add(measured, other[0], measuring.measure(samples, *other))
            renewed = merged(record, measured)
        except UserError:
            measuring.forget_samples()
            raise
        measuring.write(samples, renewed)
    return len(renewed.metrics) - len(record.metrics)


def _add(measured: dict[str, Any], features: str, more: dict[str, Any]) -> None:
    """Add what was measured of the same images by other features."""
    for key in ("metrics", "unavailable"):
        measured[key] |= more[key]
    measured["others"] = {features: {"protocol": more["protocol"], "details": more["details"]}}


def merged(old: Measurement, new: dict[str, Any]) -> Measurement:
    """Return a stored measurement with what a new one of the same images adds; its own numbers stay to the last digit.

    Raises:
        UserError: the new one does not say the same of what both measure, or was made with other features.
    """
    before, after = old.protocol.model_dump(exclude_unset=True), new["protocol"]
    if changed := [key for key in before.keys() & after.keys() - {"torch_fidelity"} if after[key] != before[key]]:
        raise UserError("; ".join(f"{key} was {before[key]}, and is {after[key]}" for key in sorted(changed)))
    if apart := differing(old.metrics, new["metrics"]):
        words = "; ".join(f"{name} was {a:.8g}, and is {b:.8g}" for name, (a, b) in apart.items())
        raise UserError(f"{words}: these are other images")
    grown: dict[str, Any] = {key: getattr(old, key) | new[key] for key in ("unavailable", "others") if key in new}
    return old.model_copy(update={**grown, "metrics": new["metrics"] | old.metrics, "details": new["details"]})


def differing(old: dict[str, float], new: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Return the metrics of both that differ by more than rounding."""
    both = {name: (value, new[name]) for name, value in old.items() if name in new}
    return {name: (a, b) for name, (a, b) in both.items() if abs(a - b) > ABSOLUTE + RELATIVE * abs(a)}
