"""What the command line does with a cluster."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from harness.commands.options import data_option, results_option, scratch_option, words_of
from harness.errors import UserError
from harness.jobs.failures import CAUSES

if TYPE_CHECKING:
    from harness.config.cluster_profile import Profile, SlurmProfile
    from harness.config.yaml_document import Layer
    from harness.jobs.job import Job
    from harness.store.store import Store

profile_option = click.option("--profile", envvar="HARNESS_PROFILE",
                              help="Name of a file in clusters/; without it, SLURM with its own defaults.")  # fmt: skip
only_option = click.option("--only", type=click.Choice(["eval"]),
                           help="eval: only measure what is trained already, as jobs of one process.")  # fmt: skip
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the sbatch files; send and write nothing.")


def show_texts(profile: "Profile", jobs: Sequence["Job"], store: "Store", grids: Collection[Path]) -> list[str]:
    """Return what a submission would send, for a person to read; refuses what the profile's cluster cannot give."""
    from harness.config.cluster_profile import LocalProfile
    from harness.slurm.submission import texts

    if not jobs:
        return [f"{store.root}: everything is done already."]
    if isinstance(profile, LocalProfile):
        return [f"{len(jobs)} trainings on this machine, {profile.jobs} at once"]
    return list(texts(jobs, profile, grids))


def send(profile: "SlurmProfile", todo: Sequence["Job"], store: "Store", grids: Collection[Path]) -> None:
    """Send the jobs to SLURM, and say what became of them; `grids`: the folders of their grid files."""
    from harness.slurm.submission import submit

    sent = submit(todo, profile, grids)
    if sent.known:
        click.echo(f"{len(sent.known)} trainings are in the queue already and were left there")
    if sent.without:
        click.echo(
            f"{len(sent.without)} of these were sent before some of their measurements were asked for; "
            "give the same command again when they are done", err=True,
        )  # fmt: skip
    if sent.ids:
        count = len(sent.arrays)
        bound = _bound(profile, {job.train_id for job in (*sent.known, *sent.later)}, todo)
        click.echo(f"Submitted {len(sent.ids)} trainings as {count} array(s): {', '.join(sent.arrays)}{bound}")
    if sent.later:
        click.echo(f"{len(sent.later)} more when there is room (max_submitted): the same command sends them")
    click.echo(f"Watch them with: harness status {words_of(store)}")


def _bound(profile: "SlurmProfile", others: Collection[str], jobs: Sequence["Job"]) -> str:
    """Say what all jobs but `others` cost, if they ran to their time limits; nothing where they ask for no GPU."""
    asked = [job.resources for job in jobs if job.train_id not in others]
    hours, price = sum(r.hours * r.gpus * r.nodes for r in asked), profile.gpu_hour_price
    priced = f", at {price:g} each {hours * price:,.0f}" if price else ""
    return f"; their time limits allow {hours:,.1f} GPU-hours{priced}" if hours else ""


def print_conditions(store: "Store") -> None:
    """Print which trainings of a study wait in SLURM's queue, and why others failed and what mends them."""
    from dataclasses import replace

    from harness.jobs.failures import remedy
    from harness.slurm.logs import grid_words
    from harness.slurm.status import conditions, held_for_no_grid

    jobs = _jobs(store)
    found = conditions(jobs)
    waiting = [condition.slurm_job or "" for condition in found if condition.state == "queued"]
    if waiting:
        click.echo(f"{len(waiting)} trainings in SLURM's queue: {', '.join(waiting[:8])}{' …' * (len(waiting) > 8)}")
    if others := held_for_no_grid(store, {job.train_id for job in jobs}):
        click.echo(f"{others} jobs in SLURM's queue are of trainings that no grid of this study wants any more")
    kinds: dict[str, None] = {}
    if held := [condition for condition in found if condition.state == "held"]:
        click.echo(f"{len(held)} trainings are held in SLURM's queue: {held[0].message}")
        kinds[f"scontrol release {','.join(condition.slurm_job or '' for condition in held)}"] = None
    for condition in found:
        if condition.kind:
            job = f", SLURM job {condition.slurm_job}" if condition.slurm_job else ""
            click.echo(f"{condition.job.train_id} failed: {condition.kind}{job}: {condition.message}")
            verb, other = "submit" if condition.slurm_job else "run", words_of(replace(store, study=f"{store.study}-2"))
            grids = grid_words(store, condition.job.train_id) if condition.kind == "diverged" else ()
            again = [f"harness {verb} {words} --study {other}" for words in grids]
            kinds[remedy(condition.kind, words_of(store), again)] = None
    for words in kinds:
        click.echo(f"→ {words}")


def _jobs(store: "Store", overrides: Sequence[str] = (), layer: "Layer | None" = None,
          data: Path = Path("data")) -> list["Job"]:  # fmt: skip
    """Return the jobs of a study's grids, with further `--set` words of what the cluster is asked."""
    from harness.config.grid import load_table
    from harness.jobs.job import jobs_for

    tables = [
        load_table(Path(grid["grid"]), grid["scale"], [*grid["set"], *overrides], layer) for grid in store.grids()
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
    from dataclasses import replace

    from harness.slurm.client import cancel as end
    from harness.slurm.client import queued
    from harness.slurm.submission import submissions, write_submission
    from harness.store.store import Store

    store = Store(results, scratch, study)
    records = submissions(store)
    if not records:
        next(store.grids())  # a study that there is not is refused
    held = {job.place: job for job in queued()}
    found = {id: (record, job) for id, record in records.items() if (job := held.get(record.place))}
    if not found:
        click.echo(f"{store.root}: SLURM holds none of its jobs.")
        return
    if not yes:
        click.confirm(f"End {len(found)} jobs of {study}?", abort=True)
    for id, (record, _) in found.items():  # before they end: what is queued again in between must know it
        write_submission(store, id, replace(record, cancelled=True))
    end({job.id for _, job in found.values()})
    click.echo(f"Ended {len(found)} jobs. Bring them back with: harness retry {words_of(store)} --only cancelled")


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
    from harness.config.cluster_profile import load_slurm_profile
    from harness.jobs.preflight import check
    from harness.slurm.status import conditions
    from harness.slurm.submission import check_slurm, read_sent
    from harness.store.store import Store

    if failed == bool(only):
        raise UserError("retry: say either --failed or --only CLASS")
    for word in overrides:
        if not word.startswith("resources."):
            raise UserError(f"--set {word}: a retry may change resources.… only; anything else is another run")
    check_slurm()
    store = Store(results, scratch, study).absolute()
    sent = read_sent(store)
    said, layer = load_slurm_profile(profile or sent.get("profile"))
    if context.get_parameter_source("data") is ParameterSource.DEFAULT:
        data = Path(sent.get("data", data))
    wanted = {only} if only else set(CAUSES)
    todo = [c.job for c in conditions(_jobs(store, overrides, layer, data.absolute())) if c.kind in wanted]
    if not todo:
        click.echo(f"{store.root}: no training failed so.")
        return
    check(todo)
    nodes = _failed_nodes(todo)
    said = said.model_copy(update={"exclude": (*said.exclude, *nodes)})
    send(said, todo, store, {Path(grid["grid"]).parent for grid in store.grids()})


def _failed_nodes(jobs: Sequence["Job"]) -> list[str]:
    """Return the nodes that failed under earlier jobs of some trainings, and tell of them."""
    from harness.slurm.client import failed_nodes
    from harness.slurm.submission import read_submission

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
    from harness.store.store import Store

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
