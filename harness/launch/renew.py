"""Measuring again, without training, what was measured when there were fewer metrics: the same images, drawn anew."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from harness.errors import UserError
from harness.files import read_json, write_json
from harness.measure.definitions import MEASURED, base, with_features
from harness.spec import EvalSpec, TrainSpec, eval_id, train_id
from harness.store import IDENTITY, Store

# What the same images may differ by: sums in another order, and what was once kept as float32.
RELATIVE, ABSOLUTE = 1e-5, 1e-6


@dataclass(frozen=True)
class Stored:
    """A measurement that is stored, with what it is of."""

    train: TrainSpec
    spec: EvalSpec
    path: Path
    record: dict[str, Any]


@dataclass(frozen=True)
class Other:
    """Further features that all of it is measured with: a model of timm, and the file of its weights."""

    features: str
    weights: Path | None


def stored(store: Store) -> Iterator[Stored]:
    """Yield every measurement of a study that lies where its own words say that it should.

    Raises:
        UserError: there is no such study.
    """
    if not store.root.is_dir():
        raise UserError(f"{store.root}: no study here")
    for folder in sorted(path for path in store.root.iterdir() if IDENTITY.fullmatch(path.name)):
        for path in sorted((folder / "evals").glob("*.json")):
            try:
                record = read_json(path)
                train, spec = TrainSpec.model_validate(read_json(folder / "spec.json")), record["spec"]
                found = Stored(train, EvalSpec.model_validate(spec), path, record)
            except (ValidationError, TypeError, KeyError):
                continue  # what cannot be read is the report's to tell
            if (train_id(train), eval_id(train, found.spec)) == (folder.name, path.stem):
                yield found


def lacking(record: dict[str, Any], other: Other | None) -> list[str]:
    """Return the metrics that a measurement neither has nor says to be unavailable."""
    told = {*record["metrics"], *record.get("unavailable", ())}
    bases = {base(name) for name in told}
    wanted = [with_features("fid", other.features)] if other else []
    return [name for name in MEASURED if name not in bases] + [name for name in wanted if name not in told]


def renew(store: Store, data: Path, other: Other | None, tell: Callable[[str], None]) -> tuple[int, int]:
    """Measure again what lacks a metric and whose weights are still there; return how many were, and how many could not.

    Several processes may do this at once: they take different trainings.
    """
    todo = [found for found in stored(store) if lacking(found.record, other)]
    done, left = 0, []
    for i, found in enumerate(todo, 1):
        name = f"{i}/{len(todo)} {found.path.parent.parent.name}/{found.path.stem}"
        start = time.perf_counter()
        try:
            words = _renew(store, data, found, other)
        except UserError as error:
            tell(f"{name}: left as it was: {error}")
            left.append(found)
            continue
        except Timeout:
            continue  # another process is at this training
        done += 1
        tell(f"{name}: {words}, {time.perf_counter() - start:.1f} s")
    return done, len(left)


def _renew(store: Store, data: Path, found: Stored, other: Other | None) -> str:
    """Measure again and write; return what changed.

    Raises:
        UserError: the weights are gone, or the images are not those of then.
        Timeout: another process is at this training.
    """
    from harness.engine.checkpoint import weights_path

    scratch = store.scratch_folder(train_id(found.train))
    if not weights_path(scratch, found.spec.step).is_file():
        raise UserError(f"its weights of step {found.spec.step} are not in {scratch}")
    with FileLock(scratch / "lock", timeout=0):
        record = read_json(found.path)  # it may have been measured while this process was at another
        if not lacking(record, other):
            return "done by another process"
        new = merged(record, _measure(store, data, found, other, scratch))
        write_json(found.path, new)
    return f"{len(new['metrics']) - len(record['metrics'])} metrics added"


def _measure(store: Store, data: Path, found: Stored, other: Other | None, scratch: Path) -> dict[str, Any]:
    import torch

    from harness.engine.sample import draw_samples
    from harness.engine.vae import decoder
    from harness.launch.measuring import measure_samples
    from harness.measure.evaluate import measure

    torch.set_num_threads(_threads(found.path.parents[1]))
    train, said = found.train, found.spec.evaluation
    samples = draw_samples(train, found.spec, scratch, lambda n: None, decode=decoder(train.data.name, data))
    assert samples is not None
    measured = measure_samples(samples, train, said, found.path, data, store.cache)
    if other:
        more = measure(
            samples.images, train.data.name, said.reference, other.features, data, store.cache,
            other.weights, samples.device, samples.labels,
        )  # fmt: skip
        measured["metrics"] |= more["metrics"]
        measured["unavailable"] |= more["unavailable"]
        measured["others"] = {other.features: {"protocol": more["protocol"], "details": more["details"]}}
    return measured


def _threads(folder: Path) -> int:
    """Threads of the last attempt: another number changes the last bits."""
    environment = read_json(folder / "env.json")
    return environment["attempts"][-1]["threads"] if environment else 1


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return a stored measurement with what a new one of the same images adds; its own numbers stay to the last digit.

    Raises:
        UserError: the new one does not say the same of what both measure, or was made with other features.
    """
    before, now = old["protocol"], new["protocol"]
    if changed := [key for key in before if key != "torch_fidelity" and key in now and now[key] != before[key]]:
        key = changed[0]
        raise UserError(f"{key} was {before[key]}, and is {now[key]}")
    for name in _told_apart(old["metrics"], new["metrics"]):
        raise UserError(f"{name} was {old['metrics'][name]:.8g} and is {new['metrics'][name]:.8g}: other images")
    others = {**old.get("others", {}), **new.get("others", {})}
    return {
        **old,
        "metrics": new["metrics"] | old["metrics"],
        "unavailable": old.get("unavailable", {}) | new["unavailable"],
        "details": new["details"],
        **({"others": others} if others else {}),
    }


def _told_apart(old: dict[str, float], new: dict[str, float]) -> Sequence[str]:
    """Return the metrics of both that differ by more than rounding."""
    return [
        name for name in old.keys() & new.keys() if abs(old[name] - new[name]) > ABSOLUTE + RELATIVE * abs(old[name])
    ]
