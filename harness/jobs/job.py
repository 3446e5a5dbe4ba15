"""One training and its measurements, idempotent: it makes whatever its folder still lacks.

The same callable runs inline, in the local pool and under SLURM. Here, and in what is beside it to check and record a
job, the two halves of the house meet; what needs torch is imported when it runs.
"""

import time
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from filelock import Timeout
from pydantic import TypeAdapter

from harness.checkpoint_paths import BEHIND, latest_step, weights_path
from harness.config import grid, imported_weights, settings
from harness.config.spec import EvalSpec, TrainSpec, canonical, eval_id, train_id
from harness.engine.allocator import keep_freed_memory
from harness.errors import Diverged, OutOfTime, user_error
from harness.files import remove_temporaries
from harness.jobs import measuring, preemption, recording, tracking
from harness.store import records, study
from harness.store.status import RunStatus
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.engine.distributed import World
    from harness.networks.encoder import FrozenEncoder


class WorkLeft(NamedTuple):
    """What is left to do."""

    steps: int  # of training
    images: int  # to be drawn
    measurements: int


@dataclass(frozen=True)
class Job:
    """What one training's folder should hold in the end."""

    store: Store
    data: Path
    train: TrainSpec
    evaluations: tuple[EvalSpec, ...]
    resources: settings.Resources
    threads: int
    weights: Path = Path("weights")

    @property
    def train_id(self) -> str:
        """Identity of the training, and name of its folder."""
        return train_id(self.train)

    @property
    def folder(self) -> Path:
        """The training's folder of small files."""
        return self.store.run_folder(self.train_id)

    @property
    def scratch(self) -> Path:
        """The training's folder of large files."""
        return self.store.scratch_folder(self.train_id)

    @property
    def steps(self) -> int:
        """Training steps that the measurements need."""
        return max(e.step for e in self.evaluations)

    def missing(self) -> tuple[EvalSpec, ...]:
        """Return the measurements that the folder lacks."""
        return tuple(e for e in self.evaluations if not self.store.measured(self.train_id, eval_id(self.train_id, e)))

    def ready(self) -> tuple[EvalSpec, ...]:
        """Return the missing measurements that need no training: the weights are kept."""
        return tuple(e for e in self.missing() if weights_path(self.scratch, e.step).is_file())

    def left(self) -> WorkLeft:
        """Return what is left to do, by what the folders hold."""
        from harness.engine.sample_cache import saved_images

        missing, drawn = self.missing(), saved_images(self.scratch)
        untrained = [e.step for e in missing if not weights_path(self.scratch, e.step).is_file()]
        reached, again = latest_step(self.scratch), latest_step(self.scratch / BEHIND)
        steps = max((step - reached for step in untrained), default=0)
        steps_again = max((step - again for step in untrained if step < reached), default=0)
        images = [e.evaluation.samples - drawn.get(f"samples-{eval_id(self.train_id, e)}.json", 0) for e in missing]
        return WorkLeft(max(0, steps) + max(0, steps_again), sum(max(0, count) for count in images), len(missing))

    def missing_ids(self) -> set[str]:
        """Return the identities of the measurements that the folder lacks."""
        return {eval_id(self.train_id, e) for e in self.missing()}

    def diverged(self) -> bool:
        """Tell whether the training diverged before: it would again."""
        failure = records.Failure.read(self.folder)
        return failure is not None and failure.kind == "diverged"

    def __call__(
        self, cancelled: Callable[[], bool] = lambda: False, deadline: preemption.Deadline = preemption.NEVER
    ) -> RunStatus:
        """Make what is missing, together with the processes that share the run; all of them must call this.

        cancelled: asked in the leading process, whether nothing is to be made any more. deadline: when to stop, at a
        checkpoint, though something is missing; a measurement that has begun is ended first. A failure is stored in the
        run's folder and returned. Among several processes it is raised then, because only the end of this process can
        end the others' waiting for it.
        """
        from harness.engine.distributed import joined

        with joined(on_gpu=self.resources.on_gpu) as world:
            try:
                if not world.decide(self.missing):
                    return RunStatus("done", "nothing was missing")
                if world.decide(cancelled):
                    return RunStatus("skipped", "cancelled")
                with recording.run_lock(self.scratch, world):
                    self._work(world, deadline)
                return RunStatus("done")
            except OutOfTime:
                return RunStatus("interrupted", "its time is up; the same command goes on from here")
            except Timeout:
                return RunStatus("skipped", "another job is at work on this training")
            except Exception as error:  # whatever went wrong in this run must not stop its neighbours
                status = self.fail(error) if world.leads else RunStatus("diverged", str(error))
                if world.size > 1 and not isinstance(error, Diverged):  # what diverges does so in all of them
                    raise
                return status

    def fail(self, error: BaseException) -> RunStatus:
        """Store a failure where the collector finds it; on a full disk it is only told."""
        try:
            message = recording.record_failure(self.folder, error)
        except OSError as unwritten:
            traceback.print_exception(error)  # the job's output may have room elsewhere
            message = f"{error}; this could not be stored: {unwritten}"
        return RunStatus("diverged" if isinstance(error, Diverged) else "failed", message)

    def _work(self, world: "World", deadline: preemption.Deadline) -> None:
        import torch

        torch.set_num_threads(self.threads)
        keep_freed_memory()
        if not world.leads:
            return self._make(world, lambda phase, step: None, deadline)
        remove_temporaries(self.scratch)  # what a killed job has left and nobody needs
        for path in records.measurement_paths(self.folder):
            measuring.forget_samples(self.scratch, path.stem)
        trackers = tracking.tracked(self.resources.tracking, self.folder, self.scratch.parent, self.train)
        with recording.record_attempt(self.folder, self.train, self.steps, self.threads, world.size) as say, trackers:
            self._make(world, say, deadline)

    def _make(self, world: "World", say: recording.Say, deadline: preemption.Deadline) -> None:
        """Train and measure; of a training that diverges, measure what it was good for before."""
        diverged: Diverged | None = None
        try:
            self._train(world, say, deadline)
        except Diverged as error:
            diverged = error
        for evaluation in world.decide(self.ready):
            self._evaluate(evaluation, world, say, deadline)
        if diverged:
            raise diverged

    def _train(self, world: "World", say: recording.Say, deadline: preemption.Deadline) -> None:
        from harness.data.datasets import load
        from harness.engine.train import train
        from harness.networks.published_weights import place

        if self.train.weights:
            world.decide(lambda: place(self.train, self.weights, self.scratch))
        steps = {e.step for e in world.decide(self.missing)}
        dataset = load(self.train.data.name, "train", self.data, self.train.data.flip)
        encoder = self._encoder(steps, world)
        scratch, log, progress = self.scratch, self.folder / records.LOG, partial(say, "training")
        with preemption.PreemptionHandler(world, deadline) as handler:
            train(self.train, dataset, scratch, log, steps, self.resources, progress, world, encoder, handler.on_step)

    def _encoder(self, steps: Collection[int], world: "World") -> "FrozenEncoder | None":
        """Return the frozen encoder that the training still needs, and record what only torch can tell of the run."""
        from harness.networks.encoder import load_encoder

        untrained = world.decide(lambda: any(not weights_path(self.scratch, step).is_file() for step in steps))
        encoder = load_encoder(self.train, self.data, self.store.cache) if untrained else None
        if world.leads and (untrained or not self.train.alignment):  # one that is only measured keeps its record
            recording.record_model_facts(self.folder, self.train, encoder)
        return encoder

    def _evaluate(self, spec: EvalSpec, world: "World", say: recording.Say, deadline: preemption.Deadline) -> None:
        """Sample and measure, in all processes; the leading one writes."""
        measurement, start = measuring.Measuring(self.store, self.data, self.train, spec), time.perf_counter()

        def on_progress(images: int) -> None:
            say(f"sampling, {images:,} images drawn", self.steps)

        with preemption.PreemptionHandler(world, deadline) as handler:
            samples = measurement.draw(world=world, on_progress=on_progress, on_step=handler.on_step)
        samples, sampled = measurement.everywhere(samples, world), time.perf_counter()
        say("measuring", self.steps)
        measured = measurement.measure(samples, world=world)
        if not world.leads:
            return
        seconds = {"sample": samples.earlier + sampled - start, "measure": time.perf_counter() - sampled}
        measured["seconds"] = {what: round(value, 2) for what, value in seconds.items()}
        measured |= {"nfe": samples.nfe, "thumbnails": measuring.THUMBNAILS}
        words = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        identities = {"train_id": self.train_id, "eval_id": eval_id(self.train_id, spec)}
        measurement.write(samples, records.Measurement(**identities, spec=words, **measured))


def jobs_to_json(jobs: Sequence[Job]) -> bytes:
    """Return jobs as data, from which nothing is executed.

    Raises:
        UserError: the name of a folder is not UTF-8.
    """
    with user_error("the folders of results, scratch, data and weights", "their names must be UTF-8", UnicodeError):
        for job in jobs:
            "".join(map(str, (job.store.results, job.store.scratch, job.data, job.weights))).encode()
    return TypeAdapter(list[Job]).dump_json(list(jobs))


def jobs_from_json(content: bytes) -> list[Job]:
    """Return the jobs of `jobs_to_json`."""
    return TypeAdapter(list[Job]).validate_json(content)


def jobs_for(runs: Iterable[grid.Run], store: Store, data: Path, threads: int | None = None) -> list[Job]:
    """Gather runs into jobs, one for each training with all the measurements that any table wants of it."""
    jobs, weights = [], imported_weights.folder().absolute()
    for same in study.runs_by_training(runs).values():
        evaluations = sorted((run.evaluation for run in same), key=lambda e: (e.step, canonical(e)))
        first, resources = same[0], same[0].resources
        jobs.append(Job(store, data, first.train, tuple(evaluations), resources, threads or resources.cpus, weights))
    return jobs
