"""`harness submit`: grids to a cluster's queue, and all that is printed of it."""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from harness import plugins
from harness.commands import console, options
from harness.commands.grid_commands.request import Request, lacking, record, requested
from harness.commands.grid_commands.run_grids import end_without, run_here
from harness.commands.terminal import say, words_of
from harness.config import cluster_profile
from harness.config.grid import Table, all_runs
from harness.errors import UserError
from harness.files import check_writable
from harness.jobs import preflight
from harness.jobs.job import Job
from harness.launchers import submission
from harness.launchers.launcher import launcher_of
from harness.launchers.local_launcher import LocalLauncher
from harness.launchers.private import remember
from harness.launchers.submission import QueueLauncher
from harness.planning import cost
from harness.slurm.last_job import last_text, send_last
from harness.slurm.slurm_launcher import SlurmLauncher
from harness.store.records import SubmitOptions
from harness.store.store import Store


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
    if report and not isinstance(launcher, SlurmLauncher):
        raise UserError(f"--report: {launcher.title} has no last job; harness report makes it, also meanwhile")
    store, folders = request.store, {path.parent for path in request.grids}
    tables = request.tables(layer)
    if limit is not None:
        cost.Prices(all_runs(tables), store, _assumed(cluster, tables)).refuse_beyond(limit)
    threads = 1 if isinstance(cluster, cluster_profile.LocalProfile) and cluster.jobs > 1 else None
    todo, left_out = lacking(request, tables, data, threads)
    todo = submission.measurement_jobs(todo) if measure_only else todo
    launcher.check(todo)
    if report:
        check_writable("--reports", reports)
    page = reports.absolute() if report else None
    if not dry_run:
        record(request, tables, todo, data, launcher=launcher)
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
            run_here(todo, store, tables, launcher)
    end_without(left_out, store)


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


def _assumed(cluster: cluster_profile.LauncherProfile, tables: Sequence[Table]) -> cost.Assumption:
    """Return what is assumed of the GPUs of the partition that runs are sent to."""
    runs = [run for run in all_runs(tables) if run.resources.on_gpu]
    if not runs:
        return cost.Assumption()
    return cost.Assumption(cluster.gpu(runs[0].resources) or cost.Assumption.gpu)


def _plugin_paths() -> list[str]:
    return [str(file.path) for file in plugins.files()]


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
        UserError: SLURM refuses it.
    """
    if not isinstance(launcher, SlurmLauncher):
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
