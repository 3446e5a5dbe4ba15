"""`harness run`: grids on this machine, and what is shown in the end."""

import os
import sys
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NoReturn

import click

from harness.commands import console, options
from harness.commands.grid_commands.request import Request, lacking, record, requested
from harness.commands.report import following_report, write_and_tell
from harness.commands.result_listing import SeedBySeed, show_tables
from harness.commands.terminal import say
from harness.config import cluster_profile
from harness.config.grid import Table
from harness.errors import UserError
from harness.files import check_writable
from harness.jobs import local_pool
from harness.jobs.job import Job, WorkLeft
from harness.jobs.preemption import Deadline
from harness.launchers.local_launcher import LocalLauncher
from harness.process_group import place_from_torchrun
from harness.store.records import Failure
from harness.store.store import Store


@click.command()
@requested
@options.data
@click.option("--jobs", "workers", default=1, type=click.IntRange(min=1), help="Trainings at once, one thread each.")
@click.option(
    "--minutes",
    type=options.FiniteRange(min=0, min_open=True),
    help="Stop at a checkpoint after so long, and exit with 75; a measurement that has begun is ended first.",
)
@click.option(
    "--report",
    "reported",
    is_flag=True,
    help="Serve the report meanwhile, to this machine alone, and leave its page in the end.",
)
@options.reports
def run(request: Request, data: Path, workers: int, minutes: float | None, reported: bool, reports: Path) -> None:
    """Run GRIDS on this machine; what is done already is not done again, and what was killed goes on.

    Seed by seed: the tables are shown when all rows have one seed, and again with each further one. The exit code is 0
    when everything is done, 1 where a run failed or diverged, now or before, and 75 where --minutes were up and the
    same command goes on.

    \b
    harness run grids/table2.yaml --scale smoke
    harness run grids/table2.yaml --scale digits --set 'seeds=[0,1,2]' --jobs 2
    harness run grids/table2.yaml --scale digits --minutes 50 --report
    """
    if reported:
        check_writable("--reports", reports)
    deadline, place = Deadline.after(minutes), place_from_torchrun()
    if place and workers > 1:
        raise UserError(f"--jobs {workers}: torchrun's processes share one training at a time; leave this out")
    if place and place.rank > 0:
        local_pool.run_inline([], lambda *_: None, deadline)
        return
    tables = request.tables()
    todo, left_out = lacking(request, tables, data, 1 if workers > 1 else None)
    record(request, tables, todo, data, place.world_size if place else None)
    page = reports if reported else None
    if todo:
        pool = LocalLauncher(cluster_profile.LocalProfile(jobs=workers), deadline, alone=place is None)
        pool.check(todo)
        run_here(todo, request.store, tables, pool, page)
    else:
        say(f"{request.store.root}: everything {'else ' if left_out else ''}is done already.")
        _show_results(request.store, tables, page)
        if place:
            local_pool.run_inline([], lambda *_: None)  # for the others wait to be told
    end_without(left_out, request.store)


def run_here(
    todo: Sequence[Job], store: Store, tables: Sequence[Table], launcher: LocalLauncher, reports: Path | None = None
) -> None:
    """Run here, print the tables, and exit: with 1 where something is not done, with 75 for want of time.

    reports: where the study's report is kept up meanwhile.
    """
    before = [job.left() for job in todo]
    by_seed = sorted(todo, key=lambda job: job.train.seed)  # so that the first tables have all rows
    jobs = [part for job in by_seed for part in job.parts()]
    kept_up = following_report(store, reports) if reports else nullcontext()
    with kept_up, console.ProgressBar(jobs) as bar:
        on_change = SeedBySeed(jobs, partial(show_tables, store, tables), bar.on_change)
        launcher.send_once(jobs, (), on_change, wait=True)
    _show_results(store, tables, reports)
    left = [job for job in todo if job.missing()]
    if any(Failure.peek(job.folder) is None for job in left) and launcher.deadline.passed:
        _end_in_time(todo, before)
    if left:
        reasons = f"the reasons: harness status {options.words_for(store)}"
        say(f"{len(left)} of {len(todo)} trainings are not done; {reasons}", err=True)
        sys.exit(1)


def _show_results(store: Store, tables: Sequence[Table], reports: Path | None) -> None:
    """Print what the study has of some tables, and where its report is, or the command that makes it."""
    show_tables(store, tables)
    if reports:
        write_and_tell(store, reports)
    else:
        say(f"Next: harness report {options.words_for(store)}")


def _end_in_time(todo: Sequence[Job], before: Sequence[WorkLeft]) -> NoReturn:
    """Say what is left when the time is up, and exit; with 75 (EX_TEMPFAIL) where the same command helps."""
    after = [job.left() for job in todo]
    if after == list(before):
        say("--minutes: nothing was gained in this time; allow more of it", err=True)
        sys.exit(1)
    steps, images, measurements = (sum(column) for column in zip(*after, strict=True))
    left = f"{steps:,} training steps, {images:,} images to draw and {measurements:,} measurements"
    trainings = sum(work.measurements > 0 for work in after)
    say(f"--minutes: the time is up. {trainings} of {len(todo)} trainings are left, with {left}; "
        "the same command goes on", err=True)  # fmt: skip
    sys.exit(os.EX_TEMPFAIL)


def end_without(left_out: Collection[str], store: Store) -> None:
    """Exit with 1 where trainings were left out, and say so again: what was told of them may be far up by now."""
    if left_out:
        reasons = f"the reasons: harness status {options.words_for(store)}"
        say(f"not done, for they diverged before or cannot be read: {', '.join(left_out)}; {reasons}", err=True)
        sys.exit(1)
