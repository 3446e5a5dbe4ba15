"""Measuring again, without training, what was measured when there were fewer metrics: the same images, drawn anew."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout
from pydantic import ValidationError

from harness.config.spec import EvalSpec, TrainSpec, eval_id, train_id
from harness.errors import UserError
from harness.files import locked, read_json, write_json
from harness.metric_definitions import MEASURED, base, with_features
from harness.store.store import IDENTITY, Store

if TYPE_CHECKING:
    from harness.engine.sample import Samples

# What the same images may differ by: sums in another order, and what was once kept as float32.
RELATIVE, ABSOLUTE = 1e-5, 1e-6
Other = tuple[str, Path | None]  # a model of timm whose features are wanted as well, and the file of its weights


@dataclass(frozen=True)
class Stored:
    """A measurement that is stored, with what it is of."""

    train: TrainSpec
    spec: EvalSpec
    path: Path
    record: dict[str, Any]


def measurements(store: Store) -> list[Path]:
    """Return the files of a study's measurements.

    Raises:
        UserError: there is no such study.
    """
    if not store.root.is_dir():
        raise UserError(f"{store.root}: no study here")
    return sorted(path for path in store.root.glob("*/evals/*.json") if IDENTITY.fullmatch(path.parts[-3]))


def read(path: Path) -> Stored | None:
    """Read a measurement; None where it, or what it is of, is not what its place says."""
    try:
        record, said = read_json(path), read_json(path.parents[1] / "spec.json")
        train = TrainSpec.model_validate({"regularizer": None, **said})  # what is None is not written
        found = Stored(train, EvalSpec.model_validate(record["spec"]), path, record)
    except (ValidationError, TypeError, KeyError):
        return None
    return found if (train_id(train), eval_id(train, found.spec)) == (path.parts[-3], path.stem) else None


def lacking(record: dict[str, Any], other: Other | None) -> list[str]:
    """Return the metrics that a measurement neither has nor says to be unavailable."""
    told = {*record["metrics"], *record.get("unavailable", ())}
    bases = {base(name) for name in told}
    wanted = [with_features("fid", other[0])] if other else []
    return [name for name in MEASURED if name not in bases] + [name for name in wanted if name not in told]


def renew(store: Store, data: Path, other: Other | None, tell: Callable[[str], None]) -> tuple[int, int]:
    """Measure again what lacks a metric; return how many were renewed, and how many had to be left as they were.

    Several processes may do this at once: they take different trainings.

    Raises:
        UserError: there is no such study, or the other features cannot be had.
    """
    if other:
        from harness.measure.extractors.timm_models import load_timm

        load_timm(*other)
    todo = {path: found for path in measurements(store) if not (found := read(path)) or lacking(found.record, other)}
    done = left = 0
    for i, (path, found) in enumerate(todo.items(), 1):
        name, start = f"{i}/{len(todo)} {path.parts[-3]}/{path.stem}", time.perf_counter()
        try:
            added = _renew(store, data, found, other)
        except UserError as error:
            tell(f"{name}: left as it was: {error}")
            left += 1
        except Timeout:
            tell(f"{name}: another process is at this training")
        else:
            tell(f"{name}: {added} metrics added in {time.perf_counter() - start:.1f} s")
            done += bool(added)
    return done, left


def _renew(store: Store, data: Path, found: Stored | None, other: Other | None) -> int:
    """Measure again and write; return how many numbers came to those that were there.

    Raises:
        UserError: it cannot be read, the weights are gone, or the images are not those of then.
        Timeout: another process is at this training.
    """
    from harness.data.datasets import load_images
    from harness.engine.sample_cache import remove_samples
    from harness.jobs.measuring import save_pictures
    from harness.networks.checkpoint import weights_path

    if found is None:
        raise UserError("its file or its training's spec.json is broken, or lies in the wrong folder")
    train, scratch = found.train, store.scratch_folder(train_id(found.train))
    if not weights_path(scratch, found.spec.step).is_file():
        raise UserError(f"its weights of step {found.spec.step} are not in {scratch}")
    with locked(scratch / "lock", timeout=0):
        record = read_json(found.path)
        if not lacking(record, other):  # another process did it while this one was elsewhere
            return 0
        samples = _draw(found, scratch, data)
        try:
            new = merged(record, _measure(samples, found, data, store.cache, other))
        except UserError:
            remove_samples(scratch, found.path.stem)
            raise
        real = load_images(train.data.name, found.spec.evaluation.reference, data).images
        save_pictures(found.path, samples, real, new)
        write_json(found.path, new)
        remove_samples(scratch, found.path.stem)
    return len(new["metrics"]) - len(record["metrics"])


def _draw(found: Stored, scratch: Path, data: Path) -> "Samples":
    """Draw a measurement's images again, with as many threads as then: another number changes the last bits."""
    import torch

    from harness.data.decode import decoder
    from harness.engine.sample import draw_samples

    environment = read_json(found.path.parents[1] / "env.json")
    torch.set_num_threads(environment["attempts"][-1]["threads"] if environment else 1)
    train = found.train
    samples = draw_samples(train, found.spec, scratch, lambda n: None, decode=decoder(train.data.name, data))
    assert samples is not None  # of one process alone
    return samples


def _measure(samples: "Samples", found: Stored, data: Path, cache: Path, other: Other | None) -> dict[str, Any]:
    from harness.jobs.measuring import measure_samples

    said = found.spec.evaluation
    measured = measure_samples(samples, found.train, said, data, cache)
    if other:
        more = measure_samples(samples, found.train, said, data, cache, other)
        measured["metrics"] |= more["metrics"]
        measured["unavailable"] |= more["unavailable"]
        measured["others"] = {other[0]: {"protocol": more["protocol"], "details": more["details"]}}
    return measured


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return a stored measurement with what a new one of the same images adds; its own numbers stay to the last digit.

    Raises:
        UserError: the new one does not say the same of what both measure, or was made with other features.
    """
    before, now = old["protocol"], new["protocol"]
    if changed := [key for key in before.keys() & now.keys() - {"torch_fidelity"} if now[key] != before[key]]:
        raise UserError("; ".join(f"{key} was {before[key]}, and is {now[key]}" for key in sorted(changed)))
    if apart := told_apart(old["metrics"], new["metrics"]):
        words = "; ".join(f"{name} was {a:.8g}, and is {b:.8g}" for name, (a, b) in apart.items())
        raise UserError(f"{words}: these are other images")
    others = old.get("others", {}) | new.get("others", {})
    return {
        **old,
        "metrics": new["metrics"] | old["metrics"],
        "unavailable": old.get("unavailable", {}) | new["unavailable"],
        "details": new["details"],
        **({"others": others} if others else {}),
    }


def told_apart(old: dict[str, float], new: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Return the metrics of both that differ by more than rounding."""
    both = {name: (value, new[name]) for name, value in old.items() if name in new}
    return {name: (a, b) for name, (a, b) in both.items() if abs(a - b) > ABSOLUTE + RELATIVE * abs(a)}
