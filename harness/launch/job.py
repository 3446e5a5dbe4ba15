"""One training and its measurements, idempotent: it makes whatever its folder still lacks.

The same callable runs inline, in the local pool and under SLURM. It is the only file that sees both halves of the
house; what needs torch is imported when it runs.
"""

import os
import platform
import threading
import time
import traceback
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from harness import imported
from harness.errors import Diverged, UserError
from harness.files import read_json, remove_temporaries, write_json
from harness.grid import Run
from harness.spec import EvalSpec, Resources, TrainSpec, canonical, eval_id, train_id
from harness.store import HEARTBEAT_SECONDS, Store

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
    weights: Path = Path("weights")

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
        measured = self.store.measured
        return tuple(e for e in self.evaluations if not measured(self.train_id, eval_id(self.train, e)))

    def diverged(self) -> bool:
        """Tell whether the training diverged before: it would again."""
        error = read_json(self.store.run_folder(self.train_id) / "error.json")
        return isinstance(error, dict) and error.get("class") == "diverged"

    def check(self) -> None:
        """Refuse now what could only fail later, at the end of a long training.

        Raises:
            UserError: the data set is missing or is not the one described, or a measurement could not be made.
        """
        from harness.engine.data import load
        from harness.engine.encoder import check_encoder
        from harness.engine.vae import check_decoder
        from harness.measure.evaluate import check_measurable

        if self.resources.gpus > 1:
            raise UserError(f"resources.gpus: a run trains on one GPU, found {self.resources.gpus}; say 0 or 1")
        if self.train.weights:
            imported.find(self.weights, self.train.weights)
        said = self.train.data
        dataset = load(said.name, "train", self.data, said.flip)
        found, expected = (*dataset.shape, dataset.classes), (said.channels, said.size, said.size, said.classes)
        if found != expected:
            raise UserError(
                f"data set {said.name}: its files in {self.data} hold images of {found[:3]} in {found[3]} classes, "
                f"the scale says {expected[:3]} in {expected[3]}"
            )
        check_decoder(said.name, self.data)
        if self.train.alignment:
            check_encoder(self.train.alignment, dataset, self.data)
        for evaluation in {e.evaluation for e in self.evaluations}:
            check_measurable(said.name, evaluation.reference, evaluation.features, self.data)

    def __call__(self) -> Outcome:
        """Make what is missing. Never raises: a failure is stored in the run's folder and returned."""
        try:
            if not self.missing():
                return Outcome("done", "nothing was missing")
            with self._alone():
                return self._work(self.store.run_folder(self.train_id))
        except Timeout:
            return Outcome("skipped", "another job is at work on this training")
        except Exception as error:  # whatever went wrong in this run must not stop its neighbours
            return self.fail(error)

    def _alone(self) -> AbstractContextManager[object]:
        """Lock the training's folder, without waiting: one writer per run. A process that is killed lets go of it."""
        folder = self.store.scratch_folder(self.train_id)
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / "lock", timeout=0)

    def checkpoint(self, *_: Any) -> Any:
        """Tell submitit what to queue again after a preemption or a time limit: the same job."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def fail(self, error: BaseException) -> Outcome:
        """Store a failure where the collector finds it."""
        folder = self.store.run_folder(self.train_id)
        beat = read_json(folder / "heartbeat.json")
        kind: Literal["failed", "diverged"] = "diverged" if isinstance(error, Diverged) else "failed"
        message = str(error) if isinstance(error, UserError | Diverged) else f"{type(error).__name__}: {error}"
        content = {
            "class": "diverged" if kind == "diverged" else "error",
            "message": message,
            "traceback": "".join(traceback.format_exception(error)),
            "step": beat.get("step") if isinstance(beat, dict) else None,
            "time": time.time(),
        }
        write_json(folder / "error.json", content)
        (folder / "heartbeat.json").unlink(missing_ok=True)
        return Outcome(kind, message)

    def _work(self, folder: Path) -> Outcome:
        import torch

        from harness.launch.provenance import now, provenance

        torch.set_num_threads(self.threads)
        for place in (folder, self.store.scratch_folder(self.train_id)):
            remove_temporaries(place)
        (folder / "error.json").unlink(missing_ok=True)
        write_json(folder / "spec.json", self.train.model_dump(mode="json", by_alias=True, exclude_none=True))
        environment = read_json(folder / "env.json") or {"attempts": []}
        environment["attempts"].append(provenance(self.threads))
        write_json(folder / "env.json", environment)
        with Heart(folder / "heartbeat.json", self.steps) as heart:
            self._make(folder, heart)
        environment["attempts"][-1]["end"] = now()
        write_json(folder / "env.json", environment)
        return Outcome("done")

    def _make(self, folder: Path, heart: "Heart") -> None:
        """Train and measure; of a training that diverges, measure what it was good for before."""
        from harness.engine.checkpoint import weights_path

        diverged: Diverged | None = None
        try:
            self._train(folder, heart)
        except Diverged as error:
            diverged = error
        scratch = self.store.scratch_folder(self.train_id)
        for evaluation in self.missing():
            if weights_path(scratch, evaluation.step).is_file():
                self._evaluate(evaluation, heart)
        if diverged:
            raise diverged

    def _train(self, folder: Path, heart: "Heart") -> None:
        from harness.engine.checkpoint import weights_path
        from harness.engine.data import load
        from harness.engine.encoder import load_encoder
        from harness.engine.train import Cadence, train
        from harness.engine.weights import place
        from harness.launch.facts import record_facts

        scratch, steps = self.store.scratch_folder(self.train_id), {e.step for e in self.missing()}
        if self.train.weights:
            place(self.train, self.weights, scratch)
        untrained = any(not weights_path(scratch, step).is_file() for step in steps)
        encoder = load_encoder(self.train, self.data, self.store.scratch / ".cache") if untrained else None
        if untrained or not self.train.alignment:  # a run that is only measured again keeps its encoder's record
            record_facts(folder, self.train, encoder)
        dataset = load(self.train.data.name, "train", self.data, self.train.data.flip)
        train(
            self.train,
            dataset,
            scratch,
            folder / "train.jsonl",
            steps,
            Cadence(self.resources.log_every, self.resources.checkpoint_minutes * 60),
            lambda step: heart.set("training", step),
            encoder,
        )

    def _evaluate(self, spec: EvalSpec, heart: "Heart") -> None:
        from harness.engine.sample import draw_samples
        from harness.engine.vae import decoder
        from harness.measure.evaluate import measure

        identity, evaluation = eval_id(self.train, spec), spec.evaluation
        path = self.store.eval_path(self.train_id, identity)
        start = time.perf_counter()
        scratch = self.store.scratch_folder(self.train_id)
        samples = draw_samples(
            self.train, spec, scratch, lambda n: heart.set(f"sampling, {n:,} images drawn", self.steps),
            decoder(self.train.data.name, self.data),
        )  # fmt: skip
        sampled = time.perf_counter()
        heart.set("measuring", self.steps)
        measured = measure(
            samples.images, self.train.data.name, evaluation.reference, evaluation.features,
            data_root=self.data, cache_root=self.store.scratch / ".cache", device=samples.device,
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
    """A sign of life in the run's own folder, true from any host, written by a thread of its own."""

    def __init__(self, path: Path, total: int) -> None:
        self.path, self.total, self.phase, self.step = path, total, "starting", 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heart":
        self._write()
        self.thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Stop. After a failure the last sign stays until the failure is stored: it says at which step that was."""
        self.stopped.set()
        self.thread.join()
        if kind is None:
            self.path.unlink(missing_ok=True)
        else:
            self._write()

    def set(self, phase: str, step: int) -> None:
        """Say what is being done; the next sign tells it."""
        self.phase, self.step = phase, step

    def _beat(self) -> None:
        while not self.stopped.wait(HEARTBEAT_SECONDS):
            self._write()

    def _write(self) -> None:
        write_json(self.path, {
            "phase": self.phase, "step": self.step, "total": self.total,
            "time": time.time(), "host": platform.node(), "pid": os.getpid(),
        })  # fmt: skip


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
        threads_here, weights = threads or first.resources.cpus, imported.folder().absolute()
        jobs.append(Job(store, data, first.train, ordered, first.resources, threads_here, weights))
    return jobs
