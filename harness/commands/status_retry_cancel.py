"""The commands that take a study that was begun: how its trainings stand, why some failed, their end, and again."""

import json
import re
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource
from rich.live import Live

from harness.commands import options
from harness.commands.console import print_next, print_status, status_listing
from harness.commands.grid_commands.submit_grids import send
from harness.commands.terminal import console, say, show_note, words_of
from harness.config.cluster_profile import SlurmProfile, load_profile
from harness.config.grid import Table
from harness.config.named_files import recorded_grid
from harness.errors import UserError, closest
from harness.files import is_file, read_json
from harness.jobs import preflight
from harness.jobs.failures import CAUSES, remedy
from harness.jobs.job import Job
from harness.launchers.bootstrap import user_name
from harness.launchers.launcher import QueuedJob, launcher_named, launcher_of, unfinished
from harness.launchers.private import own_folder, remembered
from harness.launchers.queue_status import QUEUE_SECONDS, Asker, SlurmStatus, StudyStatus, log_of, slurm_status
from harness.launchers.sent_before import PATIENCE, by_launcher, note_ids
from harness.launchers.status_document import status_document
from harness.launchers.submission import QueueLauncher
from harness.plugins import load_file
from harness.slurm.client import failed_nodes, scancel
from harness.slurm.last_job import last_jobs
from harness.slurm.slurm_launcher import SlurmLauncher
from harness.store import records
from harness.store.status import measurement_fault
from harness.store.store import IDENTITY, Store
from harness.store.study import expanded, study_tables

PREFIX = re.compile("[0-9a-f]{1,12}")
IN_WORDS = ("waiting", "held", "suspended", "ending", "unknown")  # what is told of beside the failures
DOCUMENTS = (records.SpecFile.FILE, records.Environment.FILE, records.Failure.FILE)


@click.command()
@options.plugin
@options.study
@options.filtered
@click.option("--watch", is_flag=True, help="Show it again every few seconds, until all is done.")
@click.option("--json", "as_json", is_flag=True, help="Everything that is known, as JSON.")
def status(store: Store, only: options.Filter, watch: bool, as_json: bool) -> None:
    """Say how each training of STUDY stands, from its folders alone, whichever machine it runs on.

    Into a file or a pipe it writes tabs between the columns, and # before what is no row.

    \b
    harness status digits
    harness status digits --watch
    harness status digits --table 2 --failed
    """
    tables = only.of(study_tables(store))
    if watch and not as_json:
        watch_status(tables, store)
    study = slurm_status(tables, store)
    if as_json:
        say(status_document(store.study, study).model_dump_json(indent=1, by_alias=True))
        return
    if not watch:
        print_status(store.study, study.joined, only.failed)
    for line in _in_words(store, study).splitlines():
        show_note(line, whole=True)
    if not (watch or only.failed):
        left = "what began it, 'harness run' or 'harness submit', makes what is left"
        print_next(all(s.state == "done" for s in study.joined), options.words_for(store), left)


def watch_status(tables: Sequence[Table], store: Store, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show how every training of a study stands, again and again, until all are done or the user stops it."""
    screen, ask = console(), Asker(QUEUE_SECONDS)
    with Live(console=screen, auto_refresh=False) as live:
        while True:
            trainings = slurm_status(tables, store, ask=ask).joined
            live.update(status_listing(store.study, trainings, most=max(1, screen.height - 4)), refresh=True)
            if all(training.state == "done" for training in trainings):
                return
            sleep(records.HEARTBEAT_SECONDS)


def _in_words(store: Store, study: StudyStatus) -> str:
    """Return which trainings of a study wait in SLURM's queue, and why others failed and what mends them."""
    of_state = {state: [s for s in study.trainings if s.state == state] for state in IN_WORDS}
    failed = [s for s in study.trainings if s.failure and s.state in ("failed", "diverged")]
    words = options.words_for(store)
    remedies = [remedy(s.failure, words, _slower(store, s)) for s in failed if s.failure]
    stuck = [s for s in study.trainings if s.mend]
    jobs = {s.mend: ",".join(other.slurm_job or "" for other in stuck if other.mend == s.mend) for s in stuck}
    mends = [mend.format(study=words, jobs=ids) for mend, ids in jobs.items()]
    reasons = {state: Counter(s.message for s in of_state[state]) for state in ("waiting", "held")}
    never = {s.message for s in study.trainings if s.never}
    facts = {"silent": study.silent, "strays": study.strays, "failed": failed, "reasons": reasons, "never": never}
    return words_of("slurm_status", remedies=[*mends, *remedies], **facts, **of_state)


def _slower(store: Store, status: SlurmStatus) -> list[str]:
    """Return the commands that make a training which diverged in a study of its own, but for its learning rate."""
    if status.failure != "diverged":
        return []
    verb, other = "submit" if status.slurm_job else "run", options.words_for(replace(store, study=f"{store.study}-2"))
    grids = _grid_words(store, status.job.train_id, without="optimizer.learning_rate")
    return [f"harness {verb} {words} --study {other}" for words in grids]


def _grid_words(store: Store, train_id: str, without: str | None = None) -> Iterator[str]:
    """Yield what a command is told of each grid that wants a training: its file, scale and overrides.

    without: the key of a setting whose overrides are left out.
    """
    for record in store.grids():
        table = expanded(record)
        if any(run.train_id == train_id for run in table.runs):
            overrides = [f"--set={word}" for word in record.overrides if word.partition("=")[0] != without]
            yield shlex.join([record.grid, "--scale", record.scale, *overrides])


@click.command()
@options.plugin
@options.study
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--all-users", is_flag=True, help="Also the jobs that others sent, for whom SLURM lets do so.")
def cancel(store: Store, yes: bool, all_users: bool) -> None:
    """End your jobs of STUDY, after a question; they do not rise again. What is stored stays.

    These are all that you sent for it, also for rows and seeds that its grids do not have any more.

    \b
    harness cancel digits
    """
    submissions = store.submissions()
    if not submissions:
        next(store.grids())  # a study that there is not is refused
    of_all = [pair for of_training in submissions.values() for pair in of_training.items()]
    sent = in_queue(of_all)
    mine, others = [s for s in sent if s.job.is_mine], [s for s in sent if not s.job.is_mine]
    whose = ", ".join(f"{count} of {name}" for name, count in Counter(user_name(s.job.uid) for s in others).items())
    asked = sent if all_users else mine
    with_slurm = any(record.launcher == SlurmLauncher.name for _, record in of_all)
    last = [job for job in last_jobs(store) if job.is_mine or all_users] if with_slurm else []
    if not asked and not last:
        hint = f"; there are {whose}: each ends their own, or who may: --all-users" if others else ""
        say(f"{store.root}: no queue holds any of {'your' if others else 'its'} jobs{hint}.")
        return
    with_others = f", {whose} among them" if all_users and others else ""
    ending = f"{len(asked)} jobs" + (" and the last job" if last else "")
    if not yes and not click.confirm(f"End {ending} of {store.study}{with_others}?"):
        say("They were left as they are.")
        return
    scancel({job.id for job in last})
    end_jobs(mine)
    if all_users:
        end_jobs(others)
    again = f"harness retry {options.words_for(store)} --class cancelled"
    say(f"Ended {ending}{with_others}. Bring them back with: {again}")
    if others and not all_users:
        say(f"Left, for they are of others: {whose}")


@dataclass(frozen=True)
class InQueue:
    """A submission that its launcher has: the folder of its record, the record, and the job."""

    folder: Path
    record: records.Submission
    job: QueuedJob


def in_queue(sent: Sequence[tuple[Path, records.Submission]]) -> list[InQueue]:
    """Return which of some submissions, with their folders, are in a queue.

    Raises:
        UserError: a launcher is not here, or does not answer.
    """
    queue = {
        job.place: job
        for name, of_one in by_launcher(record for _, record in sent).items()
        for job in unfinished(launcher_named(name).ask({record.token for record in of_one}, PATIENCE))
    }
    return [InQueue(folder, record, queue[record.place]) for folder, record in sent if record.place in queue]


def end_jobs(sent: Sequence[InQueue]) -> None:
    """End jobs, which are told so before: what is queued again in between must know it.

    Raises:
        UserError: SLURM does not let this user end them, which are told so no more; or it does not answer.
    """
    for s in sent:
        s.record.model_copy(update={"cancelled": True, "job": s.job.id}).write(s.folder)
    try:
        for name, of_one in by_launcher(s.record for s in sent).items():
            tokens = {record.token for record in of_one}
            launcher_named(name).cancel({s.job.id for s in sent if s.record.token in tokens})
    except UserError as error:  # also where one has ended in between
        refused = [s for s in in_queue([(s.folder, s.record) for s in sent]) if s.job.is_at_large]
        for s in refused:
            s.record.write(s.folder)
        if refused:
            raise UserError(f"{len(refused)} jobs were not ended: {error}") from None


@click.command()
@click.option("--failed", is_flag=True, help="All that failed, but what diverged or was cancelled.")
@click.option("--class", "failure", type=click.Choice([*CAUSES, "cancelled"]), metavar="CLASS",
              help=f"Only failures of this class: {', '.join([*CAUSES, 'cancelled'])}.")  # fmt: skip
@click.option("--set", "overrides", multiple=True, metavar="resources.KEY=VALUE",
              help="What to ask of the cluster this time. Repeatable.")  # fmt: skip
@options.study
@options.data
@options.profile
@click.pass_context
def retry(context: click.Context, store: Store, failed: bool, failure: str | None, overrides: tuple[str, ...],
          data: Path, profile: str | None) -> None:  # fmt: skip
    """Send the failed trainings of STUDY to SLURM again; they go on from their checkpoints.

    `harness status STUDY` tells why each failed, and the command that mends it. Nodes that failed are left out.
    Profile and data are those of the last submit, unless they are said.

    \b
    harness retry digits --failed
    harness retry digits --class 'out of memory' --set resources.memory_gb=64
    """
    if failed == bool(failure):
        raise UserError("retry: say either --failed or --class CLASS")
    for word in overrides:
        if not word.startswith("resources."):
            raise UserError(f"--set {word}: a retry may change resources.… only; anything else is another run")
    store = store.absolute()
    sent = remembered(store)
    for path in sent.plugins:
        load_file(Path(path), "retry: a plug-in of the last submit")
    if profile is None and sent.profile is None and own_folder(store) != store.slurm_folder:
        raise UserError("retry: say --profile; that of the last submit is its sender's alone, who is another user")
    name = profile or sent.profile
    cluster, layer = load_profile(name) if name else (SlurmProfile(), {})
    launcher = launcher_of(cluster)
    if not isinstance(launcher, QueueLauncher):
        raise UserError(f"--profile {name}: its executor is {cluster.executor}, which keeps no jobs; run does it again")
    launcher.check_here()
    launcher.await_answers(PATIENCE)  # else nobody knows which jobs failed, and how
    if context.get_parameter_source("data") is ParameterSource.DEFAULT:
        data = Path(sent.data or data)
    classes = {failure} if failure else set(CAUSES)
    tables = study_tables(store, overrides, layer)
    study = slurm_status(tables, store, data.absolute())
    todo = [status.job for status in study.trainings if status.failure in classes]
    if not todo:
        note_ids([status.job for status in study.trainings], launcher)
        say(f"{store.root}: no training failed so.")
        return
    launcher.check(todo)
    preflight.check(todo)
    if isinstance(cluster, SlurmProfile):
        launcher = SlurmLauncher(cluster.model_copy(update={"exclude": (*cluster.exclude, *_failed_nodes(todo))}))
    send(launcher, todo, store, {recorded_grid(record.grid).parent for record in store.grids()})


def _failed_nodes(jobs: Sequence[Job]) -> list[str]:
    """Return the nodes that failed under earlier jobs of some trainings, and tell of them."""
    submissions = [record for job in jobs for record in job.store.submissions_of(job.train_id).values()]
    try:
        nodes = failed_nodes([record.job for record in submissions if record.job])
    except UserError as error:
        say(f"No node is left out, for nobody tells which failed: {error}", err=True)
        return []
    if nodes:
        say(f"Left out, for they failed: {', '.join(nodes)}")
    return nodes


@click.command()
@options.plugin
@click.argument("name", metavar="RUN|STUDY")
@click.option("--failed", is_flag=True, help="The last lines of each failure of the study NAME.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is written.")
@click.option("--lines", default=30, type=click.IntRange(min=1))
@options.results
@options.scratch
def logs(name: str, failed: bool, follow: bool, lines: int, results: Path, scratch: Path) -> None:
    """Print the end of what the job of RUN wrote, or STUDY's failures. RUN: a training, as `harness status` names it.

    Of a training that is several jobs (resources.sample_shards), the one that has written last; or the part that is
    said after a slash: train, sample-2-of-3, measure-of-3.

    \b
    harness logs 1a2b3c4d5e6f -f
    harness logs 1a2b3c4d5e6f/sample-2-of-3
    harness logs --failed digits
    """
    if failed:
        say("\n\n".join(failures(Store(results, scratch, name), lines)) or "Nothing failed.")
        return
    train_id, _, part = name.partition("/")
    path = log_of(*_find_run(results, scratch, train_id), part)
    command = ["tail", "-n", str(lines), *(["--follow"] if follow else []), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", errors="replace") as program:
        try:
            for line in program.stdout or ():
                say(line, nl=False)
        finally:
            program.kill()


def failures(store: Store, lines: int) -> list[str]:
    """Return the last lines of every failure of a study, under the name of its training."""
    tables = study_tables(store)
    study = slurm_status(tables, store)
    failed = [s for s in study.trainings if s.state in ("failed", "diverged") and s.failure != "cancelled"]
    texts = [(s.output or s.message).splitlines()[-lines:] for s in failed]
    return ["\n".join([f"{s.job.train_id}: {s.failure}", *text]) for s, text in zip(failed, texts, strict=True)]


@click.command()
@click.argument("run")
@options.results
@options.scratch
def show(run: str, results: Path, scratch: Path) -> None:
    """Print what is known of a training: spec, provenance, metrics, files, and the command that makes it.

    \b
    harness show 1a2b3c4d5e6f
    """
    say(describe(*_find_run(results, scratch, run)), nl=False)


def _find_run(results: Path, scratch: Path, train_id: str) -> tuple[Store, str]:
    """Return the study that holds a training, the one written to last where several do, and the training's whole name.

    train_id: as many of the first letters of its name as tell it from others.

    Raises:
        UserError: none does, or several trainings begin so.
    """
    runs = results.glob(f"*/{train_id}*") if PREFIX.fullmatch(train_id) else ()
    studies = [(path.parent, path.name) for path in runs if IDENTITY.fullmatch(path.name)]
    names = sorted({name for _, name in studies})
    if len(names) > 1:
        raise UserError(f"{train_id}: {len(names)} trainings begin so: {', '.join(names[:5])}{' …' * (len(names) > 5)}")
    if not studies:
        near = closest(train_id, {path.parent.name for path in results.glob(f"*/*/{records.SpecFile.FILE}")})
        hint = f"; did you mean '{near}'?" if near else "; 'harness status STUDY' names them"
        raise UserError(f"{train_id}: no training of this name in {results}{hint}")
    latest, name = max(studies, key=lambda study: (study[0] / study[1]).lstat().st_mtime)
    return Store(results, scratch, latest.name), name


def describe(store: Store, train_id: str) -> str:
    """Return everything that is known of a training, and the command that makes what it lacks."""
    folder, scratch = store.run_folder(train_id), store.scratch_folder(train_id)
    return words_of(
        "training",
        train_id=train_id,
        store=store,
        documents={name: read_json(folder / name) for name in DOCUMENTS},
        measurements={path.name: records.Measurement.peek(path) for path in records.measurement_paths(folder)},
        fault=lambda name: measurement_fault(store, train_id, Path(name).stem),
        files=[path for root in (folder, scratch) for path in sorted(root.rglob("*")) if is_file(path)],
        grids=_grid_words(store, train_id),
        json=partial(json.dumps, indent=1, ensure_ascii=False),
    )
