"""What a run asks of a cluster."""

from typing import Annotated, Literal

from pydantic import Field

from harness.config.settings.values import Count, Flag, Frozen, Hours, Line, Positive, Whole

Tracker = Literal["tensorboard", "wandb"]


class Resources(Frozen):
    """What a run asks of a cluster. Never hashed, and never allowed to change a number."""

    nodes: Count = Field(1, description="machines that share one training under SLURM")
    processes: Count | None = Field(
        None, description="processes on each machine that share one training; by default one for each GPU, at least one"
    )
    gpus: Whole = Field(0, ge=0, description="GPUs on each machine; 0: none is used, also where there is one")
    jobs_per_gpu: Count = Field(
        1,
        description="trainings that share one GPU: run --jobs fills each with so many, submit packs so many into a job",
    )
    trainings_at_once: Count = Field(
        1, description="trainings that a job of SLURM's does at once where it uses no GPU; on one GPU: jobs_per_gpu"
    )
    trainings_per_job: Count = Field(
        1, description="small trainings that a job of SLURM's does in all; hours are those of the whole job"
    )
    cpus: Count = Field(1, description="cores, and threads, of each process")
    memory_gb: Count = Field(4, description="memory of each process")
    micro_batch: Count | None = Field(None, description="samples in one pass of a process; by default its whole share")
    compile: Flag = Field(False, description="torch.compile of the network's blocks, sampling too: worth it on GPUs")
    checkpoint_blocks: Flag = Field(False, description="keep blocks' inputs, recompute the rest: less memory, slower")
    sample_shards: Annotated[Whole, Field(ge=1, le=1000)] = Field(
        1, description="jobs that draw a training's images, and a job after them that measures; 1: all in one job"
    )
    hours: Hours = Field(1.0, description="time limit of a job; also as SLURM writes it: D-HH:MM:SS, HH:MM:SS")
    partition: Line | None = Field(None, description="SLURM partition; by default the cluster's")
    log_every: Count = Field(100, description="training steps between two lines of the log; early steps have more")
    checkpoint_minutes: Positive = Field(10.0, description="minutes between checkpoints: what a kill may cost")
    tracking: tuple[Tracker, ...] = Field((), description="who hears a run's numbers: tensorboard, wandb (offline)")

    @property
    def on_gpu(self) -> bool:
        """Whether it is for GPUs, and not for processors."""
        return self.gpus > 0

    @property
    def at_once(self) -> int:
        """Trainings that a job of SLURM's does at once, on its GPU or beside each other on its cores."""
        return self.jobs_per_gpu if self.on_gpu else self.trainings_at_once

    @property
    def packed(self) -> int:
        """Trainings that a job of SLURM's does in all."""
        return max(self.at_once, self.trainings_per_job)

    @property
    def team(self) -> int:
        """Processes on each machine that share one training."""
        return self.processes or max(1, self.gpus)
