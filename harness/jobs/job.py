"""One training and its measurements, idempotent: it makes whatever its folder still lacks.

The same callable runs inline, in the local pool and under SLURM. Here, and in what is beside it to check and record a
job, the two halves of the house meet; what needs torch is imported when it runs.
"""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from filelock import Timeout
from pydantic import TypeAdapter

from harness import plugins
from harness.checkpoint_paths import BEHIND, latest_step, weights_path
from harness.config import grid, imported_weights
from harness.config.settings.resources import Resources
from harness.config.spec import EvalSpec, TrainSpec, canonical, eval_id, shard_of, train_id
from harness.engine.allocator import keep_freed_memory, keep_imports, release_memory
from harness.errors import Diverged, OutOfTime, UserError, user_error
from harness.files import remove_temporaries
from harness.jobs import code_version, measuring, preemption, recording, tracking
from harness.store import records, study
from harness.store.job_part import WHOLE, JobPart, division
from harness.store.status import RunStatus
from harness.store.store import PARTS, Store, part_folders

if TYPE_CHECKING:
    from harness.engine.distributed import World
    from harness.networks.encoder import FrozenEncoder


STOPPED = "its time is up; the same command goes on from here"


class WorkLeft(NamedTuple):
    """What is left to do."""

    steps: int  # of training
    images: int  # to be drawn
    measurements: int


@dataclass(frozen=True)
class Job:
    """What one training's folder should hold in the end, or the part of it that this job makes.

    sharing: how many such jobs are at once on each of its GPUs.
    """

    store: Store
    data: Path
    train: TrainSpec
    evaluations: tuple[EvalSpec, ...]
    resources: Resources
    threads: int
    weights: Path = Path("weights")
    part: JobPart = WHOLE
    sharing: int = 1
    plugins: tuple[Path, ...] = ()  # files to execute before

    @property
    def train_id(self) -> str:
        """Identity of the training, and name of its folder."""
        return train_id(self.train)

    @property
    def folder(self) -> Path:
        """The folder of small files: the training's, but of a shard its own."""
        folder = self.store.run_folder(self.train_id)
        return folder / PARTS / self.part.name if self.part.kind == "sample" else folder

    @property
    def scratch(self) -> Path:
        """The training's folder of large files."""
        return self.store.scratch_folder(self.train_id)

    @property
    def own_scratch(self) -> Path:
        """The folder of large files that this job alone writes into: the training's, but of a shard its own."""
        return self.submission_folder if self.part.kind == "sample" else self.scratch

    @property
    def submission_folder(self) -> Path:
        """The folder of the record of its submission to SLURM."""
        return self.scratch / PARTS / self.part.name if self.part.stage else self.scratch

    @property
    def first_phase_id(self) -> str | None:
        """Identity of the training that a second phase goes on from; None of any other."""
        first = self.train.first_phase
        return train_id(first) if first else None

    def frozen_weights(self) -> Path | None:
        """The file of the weights that a second phase goes on from, its own or the first's; None of any other.

        Raises:
            UserError: neither is there.
        """
        first, phase = self.first_phase_id, self.train.soft_tokens
        if first is None or phase is None:
            return None
        source = weights_path(self.store.scratch_folder(first), phase.after)
        own = weights_path(self.scratch, 0)
        if not own.is_file() and not source.is_file():
            raise UserError(
                f"soft_tokens: training {self.train_id} is a second phase of training {first}, whose weights of step "
                f"{phase.after:,} are not in {source.parent}; run that first, the row that is the same without "
                "soft_tokens: in the same grid, it is done before"
            )
        return own if own.is_file() else source

    @property
    def steps(self) -> int:
        """Training steps that the measurements need."""
        return max(e.step for e in self.evaluations)

    def missing(self) -> tuple[EvalSpec, ...]:
        """Return the measurements that lack what this job makes: their weights, its shard of their images, or all."""
        lacking = [e for e in self.evaluations if not self.store.measured(self.train_id, eval_id(self.train_id, e))]
        if self.part.kind == "train":
            return tuple(e for e in lacking if not weights_path(self.scratch, e.step).is_file())
        if self.part.kind == "sample":
            return tuple(e for e in lacking if not self._has_drawn(e))
        return tuple(lacking)

    def _has_drawn(self, spec: EvalSpec) -> bool:
        """Tell whether the images of a shard are all kept, or those of all shards together already."""
        from harness.engine.sample_cache import has_images

        name, mine = eval_id(self.train_id, spec), len(self._tiles(self.part, spec)) * spec.tile
        whole = has_images(self.scratch, name, len(spec.tiles) * spec.tile)
        return whole or mine == 0 or has_images(self.own_scratch, name, mine)

    def _tiles(self, part: JobPart, spec: EvalSpec) -> range:
        return shard_of(spec.tiles, part.shard, part.shards)

    def ready(self) -> tuple[EvalSpec, ...]:
        """Return the missing measurements that need no training: the weights are kept."""
        return tuple(e for e in self.missing() if weights_path(self.scratch, e.step).is_file())

    def left(self) -> WorkLeft:
        """Return what is left to do, by what the folders hold."""
        from harness.engine.sample_cache import saved_images

        missing, drawn = self.missing(), Counter[str]()
        for place in (self.scratch, *part_folders(self.scratch)):
            drawn.update(saved_images(place))
        untrained = [e.step for e in missing if not weights_path(self.scratch, e.step).is_file()]
        reached, again = latest_step(self.scratch), latest_step(self.scratch / BEHIND)
        steps = max((step - reached for step in untrained), default=0)
        steps_again = max((step - again for step in untrained if step < reached), default=0)
        images = [e.evaluation.samples - drawn[f"samples-{eval_id(self.train_id, e)}.json"] for e in missing]
        return WorkLeft(max(0, steps) + max(0, steps_again), sum(max(0, count) for count in images), len(missing))

    def missing_ids(self) -> set[str]:
        """Return the identities of what `missing` returns."""
        return {eval_id(self.train_id, e) for e in self.missing()}

    def diverged(self) -> bool:
        """Tell whether the training diverged before: it would again."""
        failure = records.Failure.read(self.store.run_folder(self.train_id))
        return failure is not None and failure.kind == "diverged"

    def parts(self) -> list["Job"]:
        """Return the jobs that make this training, without those that have nothing to do: this one, or its parts.

        What comes after the training is for one process each, and no shard has less than a tile.
        """
        return [job for job in self.in_parts(self.division()) or [self] if job.missing()]

    def in_parts(self, parts: Iterable[JobPart]) -> list["Job"]:
        """Return the jobs of some parts of this training's work."""
        return [replace(self, part=p, resources=self.alone if p.stage else self.resources) for p in parts]

    @property
    def alone(self) -> Resources:
        """What is asked of one process and at most one GPU."""
        return self.resources.model_copy(update={"nodes": 1, "processes": 1, "gpus": min(self.resources.gpus, 1)})

    def division(self) -> list[JobPart]:
        """Return into which parts the resources divide this training's work; none where it is one job."""
        shards = self.resources.sample_shards
        return division(min(shards, max(len(e.tiles) for e in self.evaluations))) if shards > 1 else []

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
                self.load_plugins()
                with recording.run_lock(self.own_scratch, world):
                    self._work(world, deadline)
                if self.part.stage and world.decide(self.diverged):
                    return RunStatus("diverged", "what it was good for before was drawn and measured")
                return RunStatus("done")
            except OutOfTime:
                return RunStatus("interrupted", STOPPED)
            except Timeout:
                return RunStatus("skipped", "another job is at work on this training")
            except Exception as error:  # whatever went wrong in this run must not stop its neighbours
                status = self.fail(error) if world.leads else RunStatus("diverged", str(error))
                if world.size > 1 and not isinstance(error, Diverged):  # what diverges does so in all of them
                    raise
                return status

    def load_plugins(self) -> None:
        """Execute the files of plug-ins, and look whether all that the runs need are those that they were made of.

        Raises:
            UserError: a file cannot be executed, or a plug-in is missing or another one.
        """
        for path in self.plugins:
            plugins.load_file(path, "plug-in")
        plugins.check(self.train.plugins, plugins.MEASURING if self.part.stage else plugins.GROUPS)
        for evaluation in self.evaluations:
            plugins.check(evaluation.plugins)

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

        from harness.engine import train as _train  # noqa: F401 - so that what it imports is there by now
        from harness.measure import evaluate as _evaluate  # noqa: F401

        torch.set_num_threads(self.threads)
        keep_freed_memory()
        keep_imports()
        if not world.leads:
            return self._make(world, lambda phase, step: None, deadline)
        remove_temporaries(self.own_scratch)  # what a killed job has left and nobody needs
        for path in records.measurement_paths(self.store.run_folder(self.train_id)):
            measuring.forget_samples(self.own_scratch, path.stem)
        if self.part.stage:
            self._take_over()
        heard_by = () if self.part.kind == "sample" else self.resources.tracking
        trackers = tracking.tracked(heard_by, self.folder, self.scratch.parent, self.train)
        attempt = self.folder, self.train, self.steps, self.threads, world.size, self.part, self.resources.compile
        with recording.record_attempt(*attempt, self.sharing) as say, trackers:
            packages = plugins.packages(self.train.plugins)
            code_version.remember(self.store.root, recording.last_source(self.folder), packages)
            self._make(world, say, deadline)

    def _take_over(self) -> None:
        """Look for what the parts before this one were to make, and put the images of shards together to be measured.

        Raises:
            UserError: something is not there, and its training did not diverge; nothing is measured then.
        """
        if len(self.ready()) < len(self.missing()) and not self.diverged():
            raise UserError("weights that are to be measured are not kept: the training has not come so far")
        if self.part.kind == "measure":
            for spec in self.ready():
                self._join_shards(spec)
            recording.take_over_attempts(self.folder)

    def _join_shards(self, spec: EvalSpec) -> None:
        from harness.engine.sample_cache import has_images, join

        name, shards = eval_id(self.train_id, spec), [p for p in division(self.part.shards) if p.kind == "sample"]
        if has_images(self.scratch, name, len(spec.tiles) * spec.tile):
            return
        counts = {self.scratch / PARTS / part.name: len(self._tiles(part, spec)) * spec.tile for part in shards}
        if lacking := join(self.scratch, name, weights_path(self.scratch, spec.step), counts):
            words = ", ".join(JobPart.named(folder.name).words for folder in lacking)
            raise UserError(f"{words}: the images of measurement {name} are not all there, or damaged; draw them again")

    def _make(self, world: "World", say: recording.Say, deadline: preemption.Deadline) -> None:
        """Train and measure, or do a part of it; of a training that diverges, measure what it was good for before."""
        diverged: Diverged | None = None
        try:
            if self.part.stage == 0:
                self._train(world, say, deadline)
        except Diverged as error:
            diverged = error
        for spec in world.decide(self.ready) if self.part.kind != "train" else ():
            if self.part.kind == "sample":
                self._draw_shard(spec, world, say, deadline)
            else:
                self._evaluate(spec, world, say, deadline)
        if diverged:
            raise diverged

    def _draw_shard(self, spec: EvalSpec, world: "World", say: recording.Say, deadline: preemption.Deadline) -> None:
        measurement = measuring.Measuring(self.store, self.data, self.train, spec)

        def on_progress(images: int) -> None:
            say(f"sampling, {images:,} images of {self.part.words} drawn", self.steps)

        with preemption.PreemptionHandler(world, deadline) as handler:
            listeners = {"on_progress": on_progress, "on_step": handler.on_step, "compiled": self.resources.compile}
            sampler = measurement.sampler(world=world, tiles=self._tiles(self.part, spec), **listeners)
            sampler.draw_shard(self.scratch, self.own_scratch)

    def _train(self, world: "World", say: recording.Say, deadline: preemption.Deadline) -> None:
        from harness.data.datasets import load_training
        from harness.engine.second_phase import SecondPhaseTrainer
        from harness.engine.train import Trainer, train
        from harness.networks.checkpoint import keep_frozen
        from harness.networks.published_weights import place

        if frozen := world.decide(self.frozen_weights):
            world.decide(lambda: keep_frozen(frozen, self.scratch))
        elif self.train.weights:
            world.decide(lambda: place(self.train, self.weights, self.scratch))
        steps = {e.step for e in world.decide(self.missing)}
        dataset = load_training(self.train.data, self.train.seed, self.data)
        encoder = self._encoder(steps, world)
        scratch, log, progress = self.scratch, self.folder / records.LOG, partial(say, "training")
        try:
            with preemption.PreemptionHandler(world, deadline) as handler:
                listeners = progress, world, encoder, handler.on_step
                trainer = SecondPhaseTrainer if frozen else Trainer
                train(self.train, dataset, scratch, log, steps, self.resources, *listeners, trainer=trainer)
        except Diverged as error:
            traceback.clear_frames(error.__traceback__)  # they hold the network
            raise
        finally:
            release_memory()

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
            listeners = {"on_progress": on_progress, "on_step": handler.on_step, "compiled": self.resources.compile}
            samples = measurement.draw(world=world, **listeners)
        samples, sampled = measurement.everywhere(samples, world), time.perf_counter()
        say("measuring", self.steps)
        measured = measurement.measure(samples, world=world)
        if not world.leads:
            return
        seconds = {"sample": samples.earlier + sampled - start, "measure": time.perf_counter() - sampled}
        measured["seconds"] = {what: round(value, 2) for what, value in seconds.items()}
        measured |= {"nfe": samples.nfe, "thumbnails": measuring.THUMBNAILS}
        if code := recording.code_of(self.folder):
            measured["protocol"]["code"] = code
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
    """Gather runs into jobs, one for each training with all the measurements that any table wants of it.

    Second phases come after all others.
    """
    jobs, weights = [], imported_weights.folder().absolute()
    files = tuple(file.path for file in plugins.files())
    for same in study.runs_by_training(runs).values():
        evaluations = sorted((run.evaluation for run in same), key=lambda e: (e.step, canonical(e)))
        first, resources = same[0], same[0].resources
        job = Job(store, data, first.train, tuple(evaluations), resources, threads or resources.cpus, weights)
        jobs.append(replace(job, plugins=files))
    return sorted(jobs, key=lambda job: job.first_phase_id is not None)
