"""One training and its measurements, idempotent: it makes whatever its folder still lacks.

The same callable runs inline, in the local pool and under SLURM. It is the only file that sees both halves of the
house; what needs torch is imported when it runs.
"""

import os
import platform
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import Diverged, UserError
from harness.files import read_json, remove_temporaries, write_json
from harness.grid import Run
from harness.spec import EvalSpec, Resources, TrainSpec, canonical, eval_id, train_id
from harness.store import Store, beating

HEARTBEAT_SECONDS = 2.0
THUMBNAILS = (2, 10)


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    state: Literal["done", "failed", "diverged", "skipped"]
    message: str = ""


@dataclass(frozen=True)
class Job:
    """What one training's folder should hold in the end."""

    store: Store
    data: Path
    train: TrainSpec
    evaluations: tuple[EvalSpec, ...]
    resources: Resources
    threads: int

    @property
    def train_id(self) -> str:
        """Identity of the training, and name of its folder."""
        return train_id(self.train)

    @property
    def steps(self) -> int:
        """Training steps that the measurements need."""
        return max(e.step for e in self.evaluations)

    def missing(self) -> tuple[EvalSpec, ...]:
        """Return the measurements that the folder lacks."""
        have = self.store.eval_path
        return tuple(e for e in self.evaluations if not have(self.train_id, eval_id(self.train, e)).is_file())

    def check(self) -> None:
        """Refuse now what could only fail later, at the end of a long training.

        Raises:
            UserError: the data set is missing or is not the one described, or a measurement could not be made.
        """
        from harness.engine.data import load
        from harness.measure.evaluate import check_measurable

        said = self.train.data
        dataset = load(said.name, "train", self.data, said.flip)
        found, expected = (*dataset.shape, dataset.classes), (said.channels, said.size, said.size, said.classes)
        if found != expected:
            raise UserError(
                f"data set {said.name}: its files in {self.data} hold images of {found[:3]} in {found[3]} classes, "
                f"the scale says {expected[:3]} in {expected[3]}"
            )
        for evaluation in {e.evaluation for e in self.evaluations}:
            check_measurable(said.name, evaluation.reference, evaluation.features, self.data)

    def __call__(self) -> Outcome:
        """Make what is missing. Never raises: a failure is stored in the run's folder and returned."""
        if not self.missing():
            return Outcome("done", "nothing was missing")
        folder = self.store.run_folder(self.train_id)
        other = read_json(folder / "heartbeat.json")
        if other and beating(other) and other["pid"] != os.getpid():
            return Outcome("skipped", f"another job is at work here: process {other['pid']} on {other['host']}")
        try:
            return self._work(folder)
        except Exception as error:  # whatever went wrong in this run must not stop its neighbours
            return self.fail(error)

    def checkpoint(self, *_: Any) -> Any:
        """Tell submitit what to queue again after a preemption or a time limit: the same job."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def fail(self, error: BaseException) -> Outcome:
        """Store a failure where the collector finds it."""
        folder = self.store.run_folder(self.train_id)
        beat = read_json(folder / "heartbeat.json") or {}
        kind: Literal["failed", "diverged"] = "diverged" if isinstance(error, Diverged) else "failed"
        message = str(error) if isinstance(error, UserError | Diverged) else f"{type(error).__name__}: {error}"
        content = {
            "class": "diverged" if kind == "diverged" else "error",
            "message": message,
            "traceback": "".join(traceback.format_exception(error)),
            "step": beat.get("step"),
            "time": time.time(),
        }
        write_json(folder / "error.json", content)
        (folder / "heartbeat.json").unlink(missing_ok=True)
        return Outcome(kind, message)

    def _work(self, folder: Path) -> Outcome:
        import torch

        from harness.launch.provenance import now, provenance

        torch.set_num_threads(self.threads)
        heart = Heart(folder / "heartbeat.json", self.steps)
        heart.beat("starting", 0)
        for place in (folder, self.store.scratch_folder(self.train_id)):
            remove_temporaries(place)
        (folder / "error.json").unlink(missing_ok=True)
        write_json(folder / "spec.json", self.train.model_dump(mode="json", by_alias=True, exclude_none=True))
        environment = read_json(folder / "env.json") or {"attempts": []}
        environment["attempts"].append(provenance(self.threads))
        write_json(folder / "env.json", environment)
        self._train(folder, heart)
        for evaluation in self.missing():
            self._evaluate(evaluation, heart)
        environment["attempts"][-1]["end"] = now()
        write_json(folder / "env.json", environment)
        heart.stop()
        return Outcome("done")

    def _train(self, folder: Path, heart: "Heart") -> None:
        from harness.engine.data import load
        from harness.engine.train import Cadence, train

        dataset = load(self.train.data.name, "train", self.data, self.train.data.flip)
        train(
            self.train,
            dataset,
            self.store.scratch_folder(self.train_id),
            folder / "train.jsonl",
            {e.step for e in self.missing()},
            Cadence(self.resources.log_every, self.resources.checkpoint_minutes * 60),
            lambda step: heart.beat("training", step),
        )

    def _evaluate(self, spec: EvalSpec, heart: "Heart") -> None:
        from harness.engine.sample import draw_samples
        from harness.measure.evaluate import measure

        identity, evaluation = eval_id(self.train, spec), spec.evaluation
        path = self.store.eval_path(self.train_id, identity)
        start = time.perf_counter()
        scratch = self.store.scratch_folder(self.train_id)
        samples = draw_samples(
            self.train, spec, scratch, self.resources.sampling_batch, lambda n: heart.beat("sampling", self.steps)
        )
        sampled = time.perf_counter()
        heart.beat("measuring", self.steps)
        measured = measure(
            samples.images, self.train.data.name, evaluation.reference, evaluation.features,
            data_root=self.data, cache_root=self.store.scratch / "cache", device=samples.device,
        )  # fmt: skip
        save_thumbnails(path.with_suffix(".png"), samples.images)
        seconds = {"sample": round(sampled - start, 2), "measure": round(time.perf_counter() - sampled, 2)}
        write_json(path, {
            "train_id": self.train_id,
            "eval_id": identity,
            "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
            **measured,
            "nfe": samples.nfe,
            "seconds": seconds,
            "thumbnails": {"rows": THUMBNAILS[0], "columns": THUMBNAILS[1]},
        })  # fmt: skip


class Heart:
    """A sign of life in the run's own folder, true from any host: what is done, at which step, by which process."""

    def __init__(self, path: Path, total: int) -> None:
        self.path, self.total, self.last, self.phase = path, total, 0.0, ""

    def beat(self, phase: str, step: int) -> None:
        """Write the sign if the last is old or the phase is new."""
        if phase == self.phase and time.time() - self.last < HEARTBEAT_SECONDS:
            return
        self.last, self.phase = time.time(), phase
        write_json(self.path, {
            "phase": phase, "step": step, "total": self.total,
            "time": self.last, "host": platform.node(), "pid": os.getpid(),
        })  # fmt: skip

    def stop(self) -> None:
        """Take the sign away: the work is done."""
        self.path.unlink(missing_ok=True)


def save_thumbnails(path: Path, images: Any, side: int = 64) -> None:
    """Write the first images, uint8 (N, C, H, W), as one PNG of `THUMBNAILS` tiles, none larger than `side`."""
    import numpy as np
    from PIL import Image

    from harness.files import replace

    rows, columns = THUMBNAILS
    _, channels, height, width = images.shape
    blank = np.zeros((rows * columns, channels, height, width), np.uint8)
    blank[: min(len(images), rows * columns)] = images[: rows * columns]
    sheet = blank.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    sheet = sheet.reshape(rows * height, columns * width, channels)
    picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet[..., :3])
    if height > side:
        picture = picture.resize((columns * side, rows * side), Image.Resampling.BOX)
    replace(path, lambda temporary: picture.save(temporary, format="PNG", optimize=True))


def jobs_for(runs: Iterable[Run], store: Store, data: Path, threads: int | None = None) -> list[Job]:
    """Gather runs into jobs, one for each training with all the measurements that any table wants of it."""
    by_training: dict[str, list[Run]] = {}
    for run in runs:
        by_training.setdefault(run.train_id, []).append(run)
    jobs = []
    for wanted in by_training.values():
        first = wanted[0]
        evaluations = {run.eval_id: run.evaluation for run in wanted}
        ordered = tuple(sorted(evaluations.values(), key=lambda e: (e.step, canonical(e))))
        jobs.append(Job(store, data, first.train, ordered, first.resources, threads or first.resources.cpus))
    return jobs
