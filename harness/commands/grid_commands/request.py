"""Which runs a command is asked for, what of them is left to do, and what is checked before anything is begun."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from harness.commands import options
from harness.commands.terminal import say
from harness.config import yaml_document
from harness.config.grid import Table, all_runs, load_table
from harness.config.named_files import find_grid
from harness.config.spec import EvalSpec, eval_id
from harness.errors import UserError
from harness.files import check_writable, share_with_group
from harness.jobs import code_version, preflight, recording
from harness.jobs.job import Job, jobs_for
from harness.launchers.launcher import Launcher
from harness.launchers.submission import QueueLauncher
from harness.plain_text import check_name
from harness.store.records import Failure, StatedClaim, utc
from harness.store.store import Store


@dataclass(frozen=True)
class Request:
    """The runs that a command is asked for: those of some grid files at one scale, and the study they belong to."""

    grids: tuple[Path, ...]
    scale: str
    overrides: tuple[str, ...]
    store: Store
    rows: options.RowChoice

    def tables(self, layer: yaml_document.Layer | None = None) -> list[Table]:
        """Expand the grid files, each under a name of its own: a study knows its tables by the names of their files.

        Raises:
            UserError: two have one name, or one is not a sound grid.
        """
        named: dict[str, Path] = {}
        for path in self.grids:
            other = named.setdefault(path.stem, path)
            if other.absolute() != path.absolute():
                raise UserError(f"{path}: {other} has the same name, and a study would forget one of them; rename it")
        return self.rows.of([load_table(path, self.scale, self.overrides, layer) for path in self.grids])

    def with_grids(self, tables: Sequence[Table]) -> list[tuple[Path, Table]]:
        """Return each table with its grid file."""
        paths = {path.stem: path for path in self.grids}
        return [(paths[table.name], table) for table in tables]


def requested(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which runs, and pass them to it as one Request."""

    @wraps(command)
    def with_request(grids: tuple[Path, ...], scale: str, study: str | None, overrides: tuple[str, ...],
                     rows: tuple[str, ...], results: Path, scratch: Path, **arguments: Any) -> None:  # fmt: skip
        check_name("--scale", scale)
        store = Store(results, scratch, study or scale)
        store.check_new_name()
        share_with_group(results, scratch)
        command(Request(tuple(map(find_grid, grids)), scale, overrides, store, options.RowChoice(rows)), **arguments)

    for option in reversed((
        click.argument("grids", nargs=-1, required=True, type=options.FILE),
        click.option("--scale", required=True,
                     help="How large all is: smoke, digits, cifar10, imagenet256, …, or the name of a file in "
                          "grids/scales."),
        click.option("--study", help="Name of the study's folder; by default the scale's name."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
                     help="Override a setting; over table, scale and row. Repeatable."),
        click.option("--rows", multiple=True, metavar="AXIS=LABEL",
                     help="Only the rows with this label, and their baselines. Repeatable: of one axis any of the "
                          "labels, of several one of each."),
        options.plugin, options.results, options.scratch,
    )):  # fmt: skip
        with_request = option(with_request)
    return with_request


def lacking(request: Request, tables: Sequence[Table], data: Path, threads: int | None) -> tuple[list[Job], list[str]]:
    """Return the jobs that lack something, without what diverged before, for the same seed would diverge again; and
    the trainings that are left out, or a measurement of them that cannot be read: nothing is to be written over what
    others may read."""
    todo, left_out = [], []
    for job in jobs_for(all_runs(tables), request.store, data, threads):
        whole = _readable(job)
        diverged = whole is not None and bool(whole.missing()) and whole.diverged()
        if whole is not job or diverged:
            left_out.append(job.train_id)
        if diverged:
            again = f"delete {job.folder / Failure.FILE} to try it again"
            say(f"{job.train_id} diverged before and is left out; {again}", err=True)
        elif whole and whole.missing():
            todo.append(whole)
    return todo, left_out


def _readable(job: Job) -> Job | None:
    """Return a job, or what it is without the measurements that cannot be read, each of which is told; None where
    nothing is left of it."""
    try:
        job.missing()
        return job
    except UserError:
        kept = tuple(filter(partial(_can_be_read, job), job.evaluations))
        return replace(job, evaluations=kept) if kept else None


def _can_be_read(job: Job, evaluation: EvalSpec) -> bool:
    try:
        job.store.measured(job.train_id, eval_id(job.train_id, evaluation))
    except UserError as error:
        say(f"{job.train_id}: a measurement is left out: {error}; mend or remove its file, and give the same command "
            "again", err=True)  # fmt: skip
        return False
    return True


def record(
    request: Request,
    tables: Sequence[Table],
    jobs: Sequence[Job],
    data: Path,
    processes: int | None = None,
    launcher: Launcher | None = None,
) -> None:
    """Check everything that can be checked before anything runs or is written; then take the grids into the study.

    launcher: refuse a machine without it; after mistakes on any machine, and before data sets are converted.
    """
    store = request.store
    warn_of_other_code(store)
    for path, table in request.with_grids(tables):
        store.check_grid(table.name, path, request.scale, list(request.overrides))
    check_writable("--results", store.root)
    check_writable("--scratch", store.scratch / store.study)
    preflight.convert_folders(tables, data)
    if isinstance(launcher, QueueLauncher):
        preflight.check_unconverted(jobs)
        launcher.check_here()
    preflight.check(jobs, processes)
    for path, table in request.with_grids(tables):
        words = _with_seeds_of_before(request, path, table)
        store.record_grid(table.name, path, request.scale, words, table.plugins, _claims(table))


def _claims(table: Table) -> list[StatedClaim]:
    """Return the claims of a table as they are stated now, before its runs begin."""
    if not table.tested_claims:
        return []
    now, code = utc(time.time()), recording.commit()
    return [StatedClaim(claim=claim.words, stated=now, **code) for claim in table.tested_claims]


def warn_of_other_code(store: Store) -> None:
    """Say with which other versions of the code a study was begun, and what differs from the one here."""
    for words in code_version.other_versions(store.root):
        here = f"this is {code_version.version()}; a cell of both has no mean"
        say(f"{store.root}: was begun with other code, {words}; {here}", err=True)


def _with_seeds_of_before(request: Request, grid: Path, table: Table) -> list[str]:
    """Return what is to be recorded of a grid's overrides: seeds that the study has already stay beside new ones."""
    words, record = list(request.overrides), request.store.recorded_grid(table.name)
    before = load_table(grid, record.scale, record.overrides).seeds if record and record.overrides != words else ()
    if set(before) <= set(table.seeds):
        return words
    seeds = sorted({*before, *table.seeds})
    say(f"{request.store.root}: {table.name} keeps the seeds it had; they are {seeds} now", err=True)
    return [word for word in words if not word.startswith("seeds=")] + [f"seeds={seeds}".replace(" ", "")]
