"""Measuring again, without training, what was measured when there were fewer metrics: the same images, drawn anew."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from harness.checkpoint_files import weights_path
from harness.config.spec import EvalSpec, TrainSpec, eval_id, train_id
from harness.errors import UserError
from harness.files import locked
from harness.jobs.measuring import measure_samples, save_pictures
from harness.metric_definitions import MEASURED, base, with_features
from harness.store.records import Environment, Measurement, measurement_paths, read_spec
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.engine.sample import Samples

# What the same images may differ by: sums in another order, and what was once kept as float32.
RELATIVE, ABSOLUTE = 1e-5, 1e-6
Other = tuple[str, Path | None]  # a model of timm whose features are wanted as well, and the file of its weights


def remeasure(store: Store, data: Path, other: Other | None, tell: Callable[[str], None]) -> tuple[int, int]:
    """Measure again what lacks a metric; return how many were renewed, and how many had to be left as they were.

    Several processes may do this at once: they take different trainings.

    Raises:
        UserError: there is no such study, or the other features cannot be had.
    """
    if other:
        from harness.measure.extractors.timm_models import load_timm

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
        return bool(missing_metrics(_read(path)[2], other))
    except UserError:  # told when it is its turn
        return True


def _read(path: Path) -> tuple[TrainSpec, EvalSpec, Measurement]:
    """Read a measurement and what it is of.

    Raises:
        UserError: one of the two is not what its place says, or of a newer harness.
    """
    record, train = Measurement.read(path), read_spec(path.parents[1])
    spec = record.evaluation if record else None
    if record and train and spec and (train_id(train), eval_id(train, spec)) == (path.parts[-3], path.stem):
        return train, spec, record
    raise UserError("its file or its training's spec.json is broken, or lies in the wrong folder")


def missing_metrics(record: Measurement, other: Other | None) -> list[str]:
    """Return the metrics that a measurement neither has nor says to be unavailable."""
    names = {*record.metrics, *record.unavailable}
    bases = {base(name) for name in names}
    own = [name for name in MEASURED if name not in bases]
    return own + [name for name in ([with_features("fid", other[0])] if other else []) if name not in names]


def _remeasure(store: Store, data: Path, path: Path, other: Other | None) -> int:
    """Measure again and write; return how many numbers came to those that were there.

    Raises:
        UserError: it cannot be read, the weights are gone, or the images are not those of then.
        Timeout: another process is at this training.
    """
    from harness.engine.sample_cache import remove_samples

    train, spec, _ = _read(path)
    scratch = store.scratch_folder(train_id(train))
    if not weights_path(scratch, spec.step).is_file():
        raise UserError(f"its weights of step {spec.step} are not in {scratch}")
    with locked(scratch / "lock", timeout=0):
        *_, record = _read(path)
        if not missing_metrics(record, other):  # another process did it while this one was elsewhere
            return 0
        samples = _draw(train, spec, path.parents[1], scratch, data)
        try:
            measured = _measure(samples, train, spec, data, store.cache, other)
            new = merged(record, measured)
        except UserError:
            remove_samples(scratch, path.stem)
            raise
        save_pictures(path, samples, measured, train.data.name, spec.evaluation.reference, data)
        new.write(path)
        remove_samples(scratch, path.stem)
    return len(new.metrics) - len(record.metrics)


def _draw(train: TrainSpec, spec: EvalSpec, folder: Path, scratch: Path, data: Path) -> "Samples":
    """Draw a measurement's images again, with as many threads as then: another number changes the last bits."""
    import torch

    from harness.data.decode import decoder
    from harness.engine.sample import Sampler

    environment = Environment.read(folder)
    torch.set_num_threads(environment.last.threads if environment and environment.last else 1)
    samples = Sampler(train, spec, decode=decoder(train.data.name, data)).draw(scratch)
    assert samples is not None  # of one process alone
    return samples


def _measure(
    samples: "Samples", train: TrainSpec, spec: EvalSpec, data: Path, cache: Path, other: Other | None
) -> dict[str, Any]:
    measured = measure_samples(samples, train, spec.evaluation, data, cache)
    if other:
        more = measure_samples(samples, train, spec.evaluation, data, cache, other)
        measured["metrics"] |= more["metrics"]
        measured["unavailable"] |= more["unavailable"]
        measured["others"] = {other[0]: {"protocol": more["protocol"], "details": more["details"]}}
    return measured


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
    changes = {
        "metrics": new["metrics"] | old.metrics,
        "unavailable": old.unavailable | new["unavailable"],
        "details": new["details"],
    }
    if others := old.others | new.get("others", {}):
        changes["others"] = others
    return old.model_copy(update=changes)


def differing(old: dict[str, float], new: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Return the metrics of both that differ by more than rounding."""
    both = {name: (value, new[name]) for name, value in old.items() if name in new}
    return {name: (a, b) for name, (a, b) in both.items() if abs(a - b) > ABSOLUTE + RELATIVE * abs(a)}
