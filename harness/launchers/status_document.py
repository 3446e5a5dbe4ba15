"""What `harness status --json` prints, and its JSON Schema (docs/status.schema.json, which `make docs` writes)."""

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.launchers.queue_status import SlurmStatus, StudyStatus
from harness.store.records import FailureClass
from harness.store.status import State

VERSION: Literal[1] = 1


class Described(BaseModel):
    """A mapping of which every key is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SlurmWord(Described):
    """What is known of the last job of a training, or of why it failed."""

    job: str | None = Field(description="SLURM's id of the last job that was sent for it")
    user: str = Field(description="who sent it")
    failure: FailureClass | None = Field(alias="class", description="the class of its failure")
    message: str = Field(description="why it failed, or why it waits, with SLURM's own word")
    can_start: bool = Field(description="false where it waits and, as it is, never starts")
    output: str = Field(description="what its job printed last, or the traceback of its failure")


class TrainingDocument(Described):
    """One training."""

    train_id: str
    model: str
    words: str = Field(description="its cell in the first table that wants it, 'axis: label; axis: label'")
    labels: str
    seed: int
    tables: list[str]
    steps: int = Field(description="of training, in all")
    measurements: int = Field(description="that are asked for")
    state: State = Field(description="by its files and by what SLURM says of its job, joined")
    reason: str = Field(description="why it is in this state")
    phase: str = Field(description="what its job is doing")
    step: int
    epoch: float = Field(description="in the paper's epochs")
    epochs: float
    measured: int = Field(description="measurements that are done")
    images_per_second: float | None
    seconds_left: float | None = Field(description="until its last training step")
    hours: float = Field(description="spent, of `unit`s")
    unit: Literal["GPU", "core"]
    attempts: int
    warning: str = Field(description="what its log warns of; empty where it does not")
    slurm: SlurmWord


class StatusDocument(Described):
    """How a study stands. schema_version: a larger one has keys of other meanings."""

    schema_version: Literal[1] = VERSION
    study: str
    slurm_answers: bool = Field(description="false where SLURM was asked and is silent: the files alone tell then")
    trainings: list[TrainingDocument]


def status_document(study: str, status: StudyStatus) -> StatusDocument:
    """Return how a study stands as it is printed."""
    trainings = [_training(training) for training in status.trainings]
    return StatusDocument(study=study, slurm_answers=not status.silent, trainings=trainings)


def _training(s: SlurmStatus) -> TrainingDocument:
    facts = {"job": s.slurm_job, "user": s.user, "class": s.failure, "message": s.message, "output": s.output}
    return TrainingDocument.model_validate({**vars(s.training), "slurm": facts | {"can_start": not s.never}})


def schema() -> str:
    """Return the JSON Schema of what is printed."""
    return json.dumps(StatusDocument.model_json_schema(mode="serialization"), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
