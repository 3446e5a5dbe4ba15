"""The commands that take grid files: what would run, run it here, or send it to a cluster."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.costs import check_limit, fit_option, gpu_option, limit_option, price_option, utilisation_option
from harness.commands.options import data_option, results_option, scratch_option, words_of
from harness.commands.status_retry_cancel import dry_run_option, only_option, profile_option
from harness.errors import UserError
from harness.store.records import Failure
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.config.grid import Table
    from harness.config.yaml_document import Layer
    from harness.jobs.job import Job


@dataclass(frozen=True)
class Request:
    """The runs that a command is asked for: those of some grid files at one scale, and the study they belong to."""

    grids: tuple[Path, ...]
    scale: str
    overrides: tuple[str, ...]
    store: Store

    def tables(self, layer: "Layer | None" = None) -> list["Table"]:
        """Expand the grid files, each under a name of its own: a study knows its tables by the names of their files.

        Raises:
            UserError: two have one name, or one is not a sound grid.
        """
        from harness.config.grid import load_table

        named: dict[str, Path] = {}
        for path in self.grids:
            other = named.setdefault(path.stem, path)
            if other.absolute() != path.absolute():
                raise UserError(f"{path}: {other} has the same name, and a study would forget one of them; rename it")
        return [load_table(path, self.scale, self.overrides, layer) for path in self.grids]


def requested(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which runs, and pass them to it as one Request."""

    @wraps(command)
    def asked(grids: tuple[Path, ...], scale: str, study: str | None, overrides: tuple[str, ...], results: Path,
              scratch: Path, **others: Any) -> None:  # fmt: skip
        command(Request(grids, scale, overrides, Store(results, scratch, study or scale)), **others)

    for option in reversed((
        click.argument("grids", nargs=-1, required=True, type=click.Path(path_type=Path)),
        click.option("--scale", required=True, help="Name of a file in the grids' scales/ folder."),
        click.option("--study", help="Name of the study's folder; by default the scale's name."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
                     help="Override a setting; over table, scale and row. Repeatable."),
        results_option, scratch_option,
    )):  # fmt: skip
        asked = option(asked)
    return asked


@click.command()
@requested
@gpu_option
@utilisation_option
@price_option
@limit_option
@fit_option
def plan(request: Request, gpu: str, utilisation: float | None, price: float | None, limit: float | None,
         budget: float | None) -> None:  # fmt: skip
    """List every run of GRIDS: why it would run, that it is done, or which other table shares it; then what it costs.

    Of several grids, each distinct training is listed once, with the tables that share it.

    \b
    harness plan grids/table2.yaml --scale digits
    harness plan grids/*.yaml --scale imagenet256 --gpu A100 --fit 500
    """
    from harness.commands.console import print_plan, print_trainings
    from harness.commands.costs import assume, show_cost
    from harness.planning.plan import plan as make_plan
    from harness.store.study import trainings

    assumption = assume(gpu, utilisation)
    tables = request.tables()
    print_plan(make_plan(tables, request.store))
    if len(tables) > 1:
        print_trainings(trainings(tables))
    show_cost(tables, request.store, assumption, price, limit, budget)


@click.command()
@requested
@data_option
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1),
              help="Trainings to run at once, one thread each.")  # fmt: skip
def run(request: Request, data: Path, jobs: int) -> None:
    """Run GRIDS on this machine; what is done already is not done again, and what was killed goes on.

    \b
    harness run grids/table2.yaml --scale smoke
    harness run grids/table2.yaml --scale digits --study mine --set 'seeds=[0,1,2,3,4]' --jobs 2
    """
    from harness.jobs.local_pool import follow, lead
    from harness.process_group import place_from_torchrun

    place = place_from_torchrun()
    if place and jobs > 1:
        raise UserError(f"--jobs {jobs}: torchrun's processes share one training at a time; leave this out")
    if place and place.rank > 0:
        follow()
        return
    tables = request.tables()
    todo = _prepare(request, tables, data, 1 if jobs > 1 else None, place.size if place else None)
    if not todo:
        click.echo(f"{request.store.root}: everything is done already.")
        if place:
            lead([], lambda *_: None)  # for the others wait to be told
        return
    _run_here(todo, request.store, jobs, place is not None)


@click.command()
@requested
@data_option
@profile_option
@only_option
@limit_option
@dry_run_option
def submit(request: Request, data: Path, profile: str | None, only: str | None, limit: float | None,
           dry_run: bool) -> None:  # fmt: skip
    """Send GRIDS to a cluster's queue, one array for each set of equal resources; the nodes must see the folders.

    What waits in the queue or runs already is not sent again, from whichever terminal. The code is copied, so that
    editing it changes no job that waits.

    \b
    harness submit grids/table*.yaml --scale cifar10 --profile ours --dry-run
    harness submit grids/table*.yaml --scale cifar10 --profile ours
    harness submit grids/table5.yaml --scale cifar10 --profile ours --only eval
    """
    from harness.commands.status_retry_cancel import send, show_texts
    from harness.config.cluster_profile import LocalProfile, SlurmProfile, load_profile
    from harness.jobs.job import jobs_for
    from harness.slurm.measurements import measurements
    from harness.slurm.submission import check_slurm, write_sent

    said, layer = load_profile(profile) if profile else (SlurmProfile(), {})
    store, data = request.store.absolute(), data.absolute()
    tables = request.tables(layer)
    if limit is not None:
        check_limit(tables, store, limit)
    jobs = jobs_for((run for table in tables for run in table.runs), store, data)
    places = {path.parent for path in request.grids}
    missing = [job for job in jobs if job.missing()]
    show = show_texts(said, measurements(missing) if only else missing, store, places)
    if dry_run:
        click.echo("\n".join(show))
        return
    if isinstance(said, SlurmProfile):
        check_slurm()
    threads = 1 if isinstance(said, LocalProfile) and said.jobs > 1 else None
    todo = _prepare(replace(request, store=store), tables, data, threads)
    todo = measurements(todo) if only else todo
    if not todo:
        click.echo(
            f"{store.root}: {'nothing that is trained lacks a measurement' if only else 'everything is done already'}."
        )
    elif isinstance(said, LocalProfile):
        _run_here(todo, store, said.jobs)
    else:
        write_sent(store, profile, data)
        send(said, todo, store, places)


def _prepare(request: Request, tables: Sequence["Table"], data: Path, threads: int | None = None,
             processes: int | None = None) -> list["Job"]:  # fmt: skip
    """Check everything that can be checked before anything runs or is written; return the jobs that lack something."""
    from harness.files import check_writable
    from harness.jobs.job import jobs_for
    from harness.jobs.preflight import check

    store, said = request.store, (request.scale, list(request.overrides))
    for path, table in zip(request.grids, tables, strict=True):
        store.check_grid(table.name, path, *said)
    check_writable("--results", store.results)
    check_writable("--scratch", store.scratch)
    runs = [run for table in tables for run in table.runs]
    todo = _would_run([job for job in jobs_for(runs, store, data, threads) if job.missing()])
    check(todo, processes)
    for path, table in zip(request.grids, tables, strict=True):
        store.record_grid(table.name, path, request.scale, _with_seeds_of_before(request, path, table))
    return todo


def _with_seeds_of_before(request: Request, grid: Path, table: "Table") -> list[str]:
    """Return what is to be recorded of a grid's overrides: seeds that the study has already stay beside new ones."""
    from harness.config.grid import load_table

    words, held = list(request.overrides), request.store.recorded_grid(table.name)
    before = load_table(grid, held["scale"], held["set"]).seeds if held and held["set"] != words else ()
    if set(before) <= set(table.seeds):
        return words
    seeds = sorted({*before, *table.seeds})
    click.echo(f"{request.store.root}: {table.name} keeps the seeds it had; they are {seeds} now", err=True)
    return [word for word in words if not word.startswith("seeds=")] + [f"seeds={seeds}".replace(" ", "")]


def _run_here(todo: list["Job"], store: Store, jobs: int, lead_others: bool = False) -> None:
    """Run on this machine, and exit with 1 where something is not done in the end."""
    from harness.commands.progress_bar import Watch
    from harness.jobs.local_pool import lead, needs_workers, run_inline, run_pool

    with Watch(todo) as watch:
        if lead_others:
            lead(todo, watch.tell)
        elif jobs > 1 or needs_workers(todo):
            run_pool(todo, jobs, watch.tell)
        else:
            run_inline(todo, watch.tell)
    left = sum(bool(job.missing()) for job in todo)
    if left:
        told = f"the reasons: harness status {words_of(store)}"
        click.echo(f"{left} of {len(todo)} trainings are not done; {told}", err=True)
        sys.exit(1)


def _would_run(jobs: list["Job"]) -> list["Job"]:
    """Leave out what diverged before, and say so: the same seed would diverge again."""
    for job in jobs:
        if job.diverged():
            error = job.store.run_folder(job.train_id) / Failure.FILE
            click.echo(f"{job.train_id} diverged before and is left out; delete {error} to try it again", err=True)
    return [job for job in jobs if not job.diverged()]
