"""The commands that take grid files: what would run, run it here, or send it to a cluster."""

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any, NoReturn

import click

from harness import plugins
from harness.commands import console, options
from harness.commands.report import following_report, write_and_tell
from harness.commands.result_listing import SeedBySeed, show_tables
from harness.commands.terminal import say, words_of
from harness.config import cluster_profile, yaml_document
from harness.config.grid import Table, all_runs, load_table
from harness.config.named_files import find_grid
from harness.config.spec import EvalSpec, eval_id
from harness.errors import UserError
from harness.files import check_writable, share_with_group
from harness.jobs import code_version, local_pool, preflight, recording
from harness.jobs.job import Job, WorkLeft, jobs_for
from harness.jobs.preemption import Deadline
from harness.launchers import submission
from harness.launchers.launcher import Launcher, launcher_of
from harness.launchers.local_launcher import LocalLauncher
from harness.launchers.private import remember
from harness.launchers.submission import QueueLauncher
from harness.plain_text import check_name
from harness.planning import budget, cost
from harness.process_group import place_from_torchrun
from harness.slurm.last_job import last_text, send_last
from harness.slurm.slurm_launcher import SlurmLauncher
from harness.store.records import Failure, StatedClaim, SubmitOptions, utc
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


@click.command()
@requested
@click.option("--gpu", default="H200", help="GPU whose speed is assumed where no earlier run has measured one.")
@click.option("--utilisation", type=options.FiniteRange(0, 1, min_open=True),
              help="Share of its peak that is assumed; else 0.3 in bf16, 0.6 in fp32.")  # fmt: skip
@click.option("--gpu-hour-price", "price", type=options.HOURS, help="Price of a GPU-hour, in any currency.")
@options.filtered
@options.gpu_hours
@click.option("--fit", "hours", type=options.HOURS, help="Propose the rows that fit in so many GPU-hours.")
def plan(request: Request, gpu: str, utilisation: float | None, price: float | None, only: options.Filter,
         limit: float | None, hours: float | None) -> None:  # fmt: skip
    """List every run of GRIDS, and what they cost.

    Of each run: why it would run, that it is done, or which other table shares its training. Into a file or a pipe it
    writes tabs between the columns, and # before what is no row.

    \b
    harness plan grids/table2.yaml --scale digits
    harness plan grids/*.yaml --scale imagenet256 --gpu A100 --fit 500
    harness plan grids/*.yaml --scale digits --table 2 --arm dispersive
    """
    tables = only.of(request.tables())
    _warn_of_other_code(request.store)
    done = console.print_plan(tables, request.store, only.failed)
    prices = cost.Prices(all_runs(tables), request.store, cost.Assumption(gpu, utilisation))
    console.print_cost(tables, prices, price)
    console.print_next(done, options.words_for(request.store), "the same after 'harness run', or 'harness submit'")
    if hours is not None:
        console.print_selection(budget.select_rows(tables, prices, hours), prices, hours)
    if limit is not None:
        prices.refuse_beyond(limit)


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
    todo, left_out = _lacking(request, tables, data, 1 if workers > 1 else None)
    _record(request, tables, todo, data, place.world_size if place else None)
    page = reports if reported else None
    if todo:
        pool = LocalLauncher(cluster_profile.LocalProfile(jobs=workers), deadline, alone=place is None)
        pool.check(todo)
        _run_here(todo, request.store, tables, pool, page)
    else:
        say(f"{request.store.root}: everything {'else ' if left_out else ''}is done already.")
        _show_results(request.store, tables, page)
        if place:
            local_pool.run_inline([], lambda *_: None)  # for the others wait to be told
    _end_without(left_out, request.store)


@click.command()
@requested
@options.data
@options.profile
@click.option("--measure-only", is_flag=True, help="Only measure what is trained, in jobs of one process.")
@options.gpu_hours
@click.option("--watch", is_flag=True, help="Stay until all is sent, as the queue has room for it.")
@click.option("--report", is_flag=True, help="Send a last job that makes the report when the others have ended.")
@options.reports
@click.option("--dry-run", is_flag=True, help="Print the sbatch files; send and write nothing.")
def submit(request: Request, data: Path, profile: str | None, measure_only: bool, limit: float | None, watch: bool,
           report: bool, reports: Path, dry_run: bool) -> None:  # fmt: skip
    """Send GRIDS to a cluster's queue, one array for each set of equal resources; the nodes must see the folders.

    What waits in the queue or runs already is not sent again, from whichever terminal. The code is copied, so that
    editing it changes no job that waits.

    \b
    harness submit grids/table*.yaml --scale cifar10 --profile ours --dry-run
    harness submit grids/table*.yaml --scale cifar10 --profile ours
    nohup harness submit table2 --scale cifar10 --profile ours --watch &
    harness submit grids/table5.yaml --scale cifar10 --profile ours --measure-only
    """
    cluster, layer = cluster_profile.load_profile(profile) if profile else (cluster_profile.SlurmProfile(), {})
    request, data, launcher = replace(request, store=request.store.absolute()), data.absolute(), launcher_of(cluster)
    store, folders = request.store, {path.parent for path in request.grids}
    tables = request.tables(layer)
    if limit is not None:
        cost.Prices(all_runs(tables), store, _assumed(cluster, tables)).refuse_beyond(limit)
    threads = 1 if isinstance(cluster, cluster_profile.LocalProfile) and cluster.jobs > 1 else None
    todo, left_out = _lacking(request, tables, data, threads)
    todo = submission.measurement_jobs(todo) if measure_only else todo
    launcher.check(todo)
    if report:
        check_writable("--reports", reports)
    page = reports.absolute() if report else None
    if not dry_run:
        _record(request, tables, todo, data, launcher=launcher)
    if not todo:
        nothing = "nothing that is trained lacks a measurement" if measure_only else "everything is done already"
        nothing += " but what was left out" if left_out else ""
        say(f"{store.root}: {nothing}.")
    elif isinstance(launcher, QueueLauncher):
        if dry_run:
            _show_texts(launcher, todo, tables, store, folders, page)
        else:
            remember(SubmitOptions(profile=profile, data=str(data), plugins=_plugin_paths()), store)
            send(launcher, todo, store, folders, watch)
            _send_last(launcher, todo, folders, page, watch)
    elif isinstance(launcher, LocalLauncher):
        if dry_run:
            say(f"{len(todo)} trainings on {launcher.title}, {launcher.profile.jobs} at once")
        else:
            _run_here(todo, store, tables, launcher)
    _end_without(left_out, store)


def _show_texts(
    launcher: QueueLauncher, todo: Sequence[Job], tables: Sequence[Table], store: Store, grids: Collection[Path],
    reports: Path | None,
) -> None:  # fmt: skip
    """Print byte for byte what would be sent, then what that is in words."""
    texts, note = submission.texts(todo, launcher, grids)
    last = last_text(todo, launcher.profile, grids, reports) if isinstance(launcher, SlurmLauncher) else ""
    say("".join([*texts, last]), nl=False)
    for line in (*filter(None, [note]), *_in_short(todo, len(texts), tables, store, launcher.profile)):
        say(line, err=True)
    if last:
        say(
            f"then one job {'makes the report' if reports else 'tells of their end'}, when all others have ended",
            err=True,
        )


def _end_without(left_out: Collection[str], store: Store) -> None:
    """Exit with 1 where trainings were left out, and say so again: what was told of them may be far up by now."""
    if left_out:
        reasons = f"the reasons: harness status {options.words_for(store)}"
        say(f"not done, for they diverged before or cannot be read: {', '.join(left_out)}; {reasons}", err=True)
        sys.exit(1)


def _assumed(cluster: cluster_profile.LauncherProfile, tables: Sequence[Table]) -> cost.Assumption:
    """Return what is assumed of the GPUs of the partition that runs are sent to."""
    runs = [run for run in all_runs(tables) if run.resources.on_gpu]
    if not runs:
        return cost.Assumption()
    return cost.Assumption(cluster.gpu(runs[0].resources) or cost.Assumption.gpu)


def _plugin_paths() -> list[str]:
    return [str(file.path) for file in plugins.files()]


def _in_short(
    todo: Sequence[Job], arrays: int, tables: Sequence[Table], store: Store, cluster: cluster_profile.LauncherProfile
) -> Iterator[str]:
    """Yield what would be sent, what that costs, and what this machine lacks of what it needs."""
    prices = cost.Prices(all_runs(tables), store, _assumed(cluster, tables))
    hours = console.hours_in_words(prices.cost(prices.runs, left=True).hours)
    arrays_in_words = "1 array" if arrays == 1 else f"{arrays} arrays"
    left = f"about {hours} {prices.unit}-hours are left to do"
    yield f"{len(todo)} trainings in {arrays_in_words} of jobs; {left}; without --dry-run they are sent"
    try:
        preflight.check_unconverted(todo)
    except UserError as error:
        yield from (f"missing here: {line}" for line in error.args)


def _lacking(request: Request, tables: Sequence[Table], data: Path, threads: int | None) -> tuple[list[Job], list[str]]:
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


def _record(
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
    _warn_of_other_code(store)
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


def _warn_of_other_code(store: Store) -> None:
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


def _run_here(
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


def send(
    launcher: QueueLauncher, todo: Sequence[Job], store: Store, grids: Collection[Path], wait: bool = False
) -> None:
    """Send the jobs, and say what became of them; grids: the folders of their grid files. wait: until all are sent."""
    launcher.send_once(todo, grids, partial(_tell_sent, launcher.profile, store), wait)


def _send_last(
    launcher: QueueLauncher, todo: Sequence[Job], grids: Collection[Path], reports: Path | None, wait: bool
) -> None:
    """Send the job that ends a study, where one is asked for; wait: until the queue has room for it.

    Raises:
        UserError: SLURM refuses it; or the launcher is another one.
    """
    if not isinstance(launcher, SlurmLauncher):
        if reports:
            raise UserError(f"--report: {launcher.title} has no last job; harness report makes it, also meanwhile")
        return
    profile = launcher.profile
    while True:
        try:
            if id := send_last(todo, profile, grids, reports):
                say(f"When these have ended, job {id} {'makes the report' if reports else 'tells of it'}")
            return
        except UserError as error:
            if not wait or not submission.is_waited_for(error):
                advice = "the others are sent, and the same command sends this one"
                raise UserError(f"submit: the last job: {error}; {advice}") from None
        time.sleep(submission.PAUSES[1])


def _tell_sent(profile: cluster_profile.LauncherProfile, store: Store, sent: submission.Sent) -> None:
    """Say what became of jobs that were to be sent."""
    if sent.queued:
        say(f"{len(sent.queued)} trainings are in the queue already and were left there")
    if sent.hidden:
        say(
            f"{len(sent.hidden)} trainings were sent by others, of whose jobs SLURM tells nobody else (PrivateData); "
            "they were left to them: who sent them ends them by harness cancel, or sends them again", err=True,
        )  # fmt: skip
    if sent.with_less:
        say(
            f"{len(sent.with_less)} of these were sent before some of their measurements were asked for; "
            "give the same command again when they are done", err=True,
        )  # fmt: skip
    asked = {id: job.resources for id, job in zip(sent.ids, sent.jobs, strict=True)}  # those that share a GPU have one
    hours = {id: r.hours * r.gpus * r.nodes for id, r in asked.items()}
    prices = [price * hours[id] for id, r in asked.items() if (price := profile.price(r))]
    words = {"hours": sum(hours.values()), "price": sum(prices) if len(prices) == len(hours) else None}
    say(words_of("submitted", sent=sent, study=options.words_for(store), **words), nl=False)
