"""Who hears of a study's end, and of what fails in it: `notify:` of a cluster's profile."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from harness.config.sbatch_options import final
from harness.config.settings import Frozen, Line

Event = Literal["failure", "end", "completion"]


class Notify(Frozen):
    """Who hears of what. A secret, such as a webhook's address, lies in a file of the user's own, and nowhere else."""

    on: tuple[Event, ...] = Field(
        ("failure", "end", "completion"),
        description="failure: a training has failed; end: no job is left but work; completion: none is",
    )
    command: tuple[Annotated[Line, AfterValidator(final)], ...] = Field(
        (),
        description="a program and its words, without a shell; {event}, {study}, {text} stand for these; text on stdin",
    )
    webhook: Annotated[Line, AfterValidator(final)] | None = Field(
        None, description='file of mode 0600 with the https address that is sent {"text": …, "event": …, "study": …}'
    )

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.command and not self.webhook:
            raise ValueError("a command or a webhook is needed")
        return self
