"""The commands that take a study that was begun: how its trainings stand, why some failed, their end, and again."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from harness.commands.options import data_option, profile_option, results_option, scratch_option, study_options
from harness.errors import UserError
from harness.jobs.failures import CAUSES, remedy
from harness.store.records import HEARTBEAT_SECONDS
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.config.yaml_document import Layer
    from harness.jobs.job import Job
    from harness.slurm.status import SlurmStatus


@click.command()
@click.argument("study")
@results_option
@scratch_option
@click.option("--watch", is_flag=True, help="Show it again every few seconds, until all is done.")
@click.option("--json", "as_json", is_flag=True, help="Everything that is known, as JSON.")
def status(study: str, results: Path, scratch: Path, watch: bool, as_json: bool) -> None:
    """Say how each training of STUDY stands, from its folders alone, whichever machine it runs on.

    \b
    harness status digits
    harness status digits --watch
    """
    from harness.commands.console import console, status_json, status_table
    from harness.store.study import study_tables, training_statuses

    store = Store(results, scratch, study)
    tables = study_tables(store)
    if as_json:
        click.echo(status_json(study, training_statuses(tables, store)))
        return
    if watch:
        watch_status(store)
    else:
        console().print(status_table(study, training_statuses(tables, store)))
    _print_slurm(store)


def watch_status(store: Store, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show how every training of a study stands, again and again, until all are done or the user stops it."""
    from rich.live import Live

    from harness.commands.console import console, status_table
    from harness.store.study import study_tables, training_statuses

    tables, screen = study_tables(store), console()
    with Live(console=screen, auto_refresh=False) as live:
        while True:
            trainings = training_statuses(tables, store)
            live.update(status_table(store.study, trainings, most=max(1, screen.height - 4)), refresh=True)
            if all(training.state == "done" for training in trainings):
                return
            sleep(HEARTBEAT_SECONDS)


def _print_slurm(store: Store) -> None:
    """Print which trainings of a study wait in SLURM's queue, and why others failed and what mends them."""
    from harness.slurm.status import queued_for_no_grid, slurm_status

    jobs = _jobs(store)
    statuses = slurm_status(jobs)
    queued = [status.slurm_job or "" for status in statuses if status.state == "queued"]
    if queued:
        click.echo(f"{len(queued)} trainings in SLURM's queue: {', '.join(queued[:8])}{' …' * (len(queued) > 8)}")
    if others := queued_for_no_grid(store, {job.train_id for job in jobs}):
        click.echo(f"{others} jobs in SLURM's queue are of trainings that no grid of this study wants any more")
    remedies: dict[str, None] = {}
    if on_hold := [status for status in statuses if status.state == "held"]:
        click.echo(f"{len(on_hold)} trainings are held in SLURM's queue: {on_hold[0].message}")
        remedies[f"scontrol release {','.join(status.slurm_job or '' for status in on_hold)}"] = None
    for status in statuses:
        if status.failure:
            job = f", SLURM job {status.slurm_job}" if status.slurm_job else ""
            click.echo(f"{status.job.train_id} failed: {status.failure}{job}: {status.message}")
            remedies[remedy(status.failure, study_options(store), _slower(store, status))] = None
    for words in remedies:
        click.echo(f"→ {words}")


def _slower(store: Store, status: "SlurmStatus") -> list[str]:
    """Return the commands that make a training which diverged in a study of its own, but for its learning rate."""
    from harness.slurm.logs import grid_options

    if status.failure != "diverged":
        return []
    verb, other = "submit" if status.slurm_job else "run", study_options(replace(store, study=f"{store.study}-2"))
    grids = grid_options(store, status.job.train_id, without="optimizer.learning_rate")
    return [f"harness {verb} {words} --study {other}" for words in grids]


def _jobs(store: Store, overrides: Sequence[str] = (), layer: "Layer | None" = None,
          data: Path = Path("data")) -> list["Job"]:  # fmt: skip
    """Return the jobs of a study's grids, with further `--set` words of what the cluster is asked."""
    from harness.config.grid import load_table
    from harness.jobs.job import jobs_for

    tables = [
        load_table(Path(record.grid), record.scale, [*record.overrides, *overrides], layer) for record in store.grids()
    ]
    return jobs_for((run for table in tables for run in table.runs), store, data)


@click.command()
@click.argument("study")
@results_option
@scratch_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def cancel(study: str, results: Path, scratch: Path, yes: bool) -> None:
    """End STUDY's jobs in SLURM, after a question; they do not rise again. What is stored stays.

    These are all that were sent for it, also for rows and seeds that its grids do not have any more.

    \b
    harness cancel digits
    """
    from harness.slurm.client import scancel, unfinished_jobs
    from harness.store.submissions import submissions, write_submission

    store = Store(results, scratch, study)
    records = submissions(store)
    if not records:
        next(store.grids())  # a study that there is not is refused
    queue = {job.place: job for job in unfinished_jobs()}
    mine = {id: record for id, record in records.items() if record.place in queue}
    if not mine:
        click.echo(f"{store.root}: SLURM holds none of its jobs.")
        return
    if not yes:
        click.confirm(f"End {len(mine)} jobs of {study}?", abort=True)
    for id, record in mine.items():  # before they end: what is queued again in between must know it
        write_submission(store, id, replace(record, cancelled=True))
    scancel({queue[record.place].id for record in mine.values()})
    click.echo(f"Ended {len(mine)} jobs. Bring them back with: harness retry {study_options(store)} --only cancelled")


@click.command()
@click.argument("study")
@click.option("--failed", is_flag=True, help="All that failed, but what diverged or was cancelled.")
@click.option("--only", type=click.Choice([*CAUSES, "cancelled"]), help="Only failures of this class.")
@click.option("--set", "overrides", multiple=True, metavar="resources.KEY=VALUE",
              help="What to ask of the cluster this time. Repeatable.")  # fmt: skip
@results_option
@scratch_option
@data_option
@profile_option
@click.pass_context
def retry(context: click.Context, study: str, failed: bool, only: str | None, overrides: tuple[str, ...],
          results: Path, scratch: Path, data: Path, profile: str | None) -> None:  # fmt: skip
    """Send the failed trainings of STUDY to SLURM again; they go on from their checkpoints.

    `harness status STUDY` tells why each failed, and the command that mends it. Nodes that failed are left out.
    Profile and data are those of the last submit, unless they are said.

    \b
    harness retry digits --failed
    harness retry digits --only 'out of memory' --set resources.memory_gb=64 --profile ours
    """
    from harness.commands.plan_run_submit import send
    from harness.config.cluster_profile import load_slurm_profile
    from harness.jobs.preflight import check
    from harness.slurm.status import slurm_status
    from harness.slurm.submission import check_slurm
    from harness.store.submissions import read_sent

    if failed == bool(only):
        raise UserError("retry: say either --failed or --only CLASS")
    for word in overrides:
        if not word.startswith("resources."):
            raise UserError(f"--set {word}: a retry may change resources.… only; anything else is another run")
    check_slurm()
    store = Store(results, scratch, study).absolute()
    sent = read_sent(store)
    cluster, layer = load_slurm_profile(profile or sent.get("profile"))
    if context.get_parameter_source("data") is ParameterSource.DEFAULT:
        data = Path(sent.get("data", data))
    classes = {only} if only else set(CAUSES)
    statuses = slurm_status(_jobs(store, overrides, layer, data.absolute()))
    todo = [status.job for status in statuses if status.failure in classes]
    if not todo:
        click.echo(f"{store.root}: no training failed so.")
        return
    check(todo)
    cluster = cluster.model_copy(update={"exclude": (*cluster.exclude, *_failed_nodes(todo))})
    send(cluster, todo, store, {Path(record.grid).parent for record in store.grids()})


def _failed_nodes(jobs: Sequence["Job"]) -> list[str]:
    """Return the nodes that failed under earlier jobs of some trainings, and tell of them."""
    from harness.slurm.client import failed_nodes
    from harness.store.submissions import read_submission

    records = [read_submission(job.store, job.train_id) for job in jobs]
    try:
        nodes = failed_nodes([record.job for record in records if record and record.job])
    except UserError as error:
        click.echo(f"No node is left out, for nobody tells which failed: {error}", err=True)
        return []
    if nodes:
        click.echo(f"Left out, for they failed: {', '.join(nodes)}")
    return nodes


@click.command()
@click.argument("name", metavar="RUN|STUDY")
@click.option("--failed", is_flag=True, help="The last lines of each failure of the study NAME.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is written.")
@click.option("--lines", default=30, show_default=True, type=click.IntRange(min=1))
@results_option
@scratch_option
def logs(name: str, failed: bool, follow: bool, lines: int, results: Path, scratch: Path) -> None:
    """Print the end of what the job of RUN wrote (a training, as `harness status` names it), or STUDY's failures.

    \b
    harness logs 1a2b3c4d5e6f -f
    harness logs --failed digits
    """
    from harness.slurm.logs import failures, find_run, follow_file, log_of

    if failed:
        click.echo("\n\n".join(failures(Store(results, scratch, name), lines)) or "Nothing failed.")
        return
    path = log_of(find_run(results, scratch, name), name)
    for line in follow_file(path, lines, follow):
        click.echo(line, nl=False)


@click.command()
@click.argument("run")
@results_option
@scratch_option
def show(run: str, results: Path, scratch: Path) -> None:
    """Print what is known of a training: spec, provenance, metrics, files, and the command that makes it.

    \b
    harness show 1a2b3c4d5e6f
    """
    from harness.slurm.logs import describe, find_run

    click.echo(describe(find_run(results, scratch, run), run))
