"""The command line. Heavy imports stay inside the commands, so that help and plans answer at once."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cluster_commands import (
    cancel,
    dry_run_option,
    logs,
    only_option,
    print_conditions,
    profile_option,
    retry,
    show,
)  # fmt: skip
from harness.data_commands import data, encode
from harness.doctor_commands import doctor
from harness.errors import UserError, nearest
from harness.measure_commands import measure, measure_study
from harness.options import data_option, reports_option, results_option, scratch_option
from harness.plan_commands import check_limit, fit_option, gpu_option, limit_option, price_option, utilisation_option
from harness.probe_commands import probe
from harness.report_commands import bundle
from harness.weights_commands import weights

if TYPE_CHECKING:
    from harness.grid import Layer, Table
    from harness.launch.job import Job
    from harness.store import Store

scale_option = click.option("--scale", required=True, help="Name of a file in the grids' scales/ folder.")
study_option = click.option("--study", help="Name of the study's folder; by default the scale's name.")
set_option = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
                          help="Override a setting; over table, scale and row. Repeatable.")  # fmt: skip
grids_argument = click.argument("grids", nargs=-1, required=True, type=click.Path(path_type=Path))
study_argument = click.argument("study")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Ablations of Dispersive Loss: plan a grid, run it here or on SLURM, and report it beside the paper's tables."""


@cli.command()
@grids_argument
@scale_option
@study_option
@set_option
@results_option
@scratch_option
@gpu_option
@utilisation_option
@price_option
@limit_option
@fit_option
def plan(grids: tuple[Path, ...], scale: str, study: str | None, overrides: tuple[str, ...], results: Path,
         scratch: Path, gpu: str, utilisation: float | None, price: float | None, limit: float | None,
         budget: float | None) -> None:  # fmt: skip
    """List every run of GRIDS: why it would run, that it is done, or which other table shares it; then what it costs.

    Of several grids, each distinct training is listed once, with the tables that share it.
    """
    from harness.launch.listing import print_plan, print_trainings
    from harness.launch.plan import plan as make_plan
    from harness.launch.plan import trainings
    from harness.plan_commands import assume, show_cost

    assumption = assume(gpu, utilisation)
    tables, store = _tables(grids, scale, overrides), _store(results, scratch, study or scale)
    print_plan(make_plan(tables, store))
    if len(tables) > 1:
        print_trainings(trainings(tables))
    show_cost(tables, store, assumption, price, limit, budget)


@cli.command()
@grids_argument
@scale_option
@study_option
@set_option
@results_option
@scratch_option
@data_option
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1),
              help="Trainings to run at once, one thread each.")  # fmt: skip
def run(grids: tuple[Path, ...], scale: str, study: str | None, overrides: tuple[str, ...], results: Path,
        scratch: Path, data: Path, jobs: int) -> None:  # fmt: skip
    """Run GRIDS on this machine; what is done already is not done again, and what was killed goes on."""
    from harness.launch.dispatch import follow, lead
    from harness.place import place_from_torchrun

    place = place_from_torchrun()
    if place and jobs > 1:
        raise UserError(f"--jobs {jobs}: torchrun's processes share one training at a time; leave this out")
    if place and place.rank > 0:
        follow()
        return
    todo, store = _prepare(
        grids, scale, study, overrides, results, scratch, data, 1 if jobs > 1 else None, place.size if place else None
    )
    if not todo:
        click.echo(f"{store.root}: everything is done already.")
        if place:
            lead([], lambda *_: None)  # for the others wait to be told
        return
    _run_here(todo, store, jobs, place is not None)


@cli.command()
@grids_argument
@scale_option
@study_option
@set_option
@results_option
@scratch_option
@data_option
@profile_option
@only_option
@limit_option
@dry_run_option
def submit(grids: tuple[Path, ...], scale: str, study: str | None, overrides: tuple[str, ...], results: Path,
           scratch: Path, data: Path, profile: str | None, only: str | None, limit: float | None,
           dry_run: bool) -> None:  # fmt: skip
    """Send GRIDS to a cluster's queue, one array for each set of equal resources; the nodes must see the folders.

    What waits in the queue or runs already is not sent again, from whichever terminal. The code is copied, so that
    editing it changes no job that waits.

    \b
    harness submit grids/table*.yaml --scale cifar10 --profile ours --dry-run
    harness submit grids/table*.yaml --scale cifar10 --profile ours
    harness submit grids/table5.yaml --scale cifar10 --profile ours --only eval
    """
    from harness.cluster_commands import send, show_texts
    from harness.launch.job import jobs_for
    from harness.launch.measurements import measurements
    from harness.launch.profile import LocalProfile, SlurmProfile, load_profile
    from harness.launch.submission import check_slurm

    said, layer = load_profile(profile) if profile else (SlurmProfile(), {})
    folders = (results.absolute(), scratch.absolute(), data.absolute())
    tables, store = _tables(grids, scale, overrides, layer), _store(*folders[:2], study or scale)
    if limit is not None:
        check_limit(tables, store, limit)
    jobs = jobs_for((run for table in tables for run in table.runs), store, folders[2])
    places = {path.parent for path in grids}
    missing = [job for job in jobs if job.missing()]
    show = show_texts(said, measurements(missing) if only else missing, store, places)
    if dry_run:
        click.echo("\n".join(show))
        return
    if isinstance(said, SlurmProfile):
        check_slurm()
    threads = 1 if isinstance(said, LocalProfile) and said.jobs > 1 else None
    todo, store = _prepare(grids, scale, study, overrides, *folders, threads, layer=layer)
    todo = measurements(todo) if only else todo
    if not todo:
        click.echo(
            f"{store.root}: {'nothing that is trained lacks a measurement' if only else 'everything is done already'}."
        )
    elif isinstance(said, LocalProfile):
        _run_here(todo, store, said.jobs)
    else:
        send(said, todo, store, places)


@cli.command()
@study_argument
@results_option
@scratch_option
@click.option("--watch", is_flag=True, help="Show it again every few seconds, until all is done.")
@click.option("--json", "as_json", is_flag=True, help="Everything that is known, as JSON.")
def status(study: str, results: Path, scratch: Path, watch: bool, as_json: bool) -> None:
    """Say how each training of STUDY stands, from its folders alone, whichever machine it runs on."""
    from harness.status_commands import show_status

    show_status(_store(results, scratch, study), watch, as_json)
    if not as_json:
        print_conditions(_store(results, scratch, study))


@cli.command()
@study_argument
@results_option
@scratch_option
@reports_option
def collect(study: str, results: Path, scratch: Path, reports: Path) -> None:
    """Write STUDY's results as one tidy CSV (and Parquet where pyarrow is installed)."""
    from harness.files import check_writable
    from harness.report.page import collect_study

    store = _store(results, scratch, study)
    check_writable("--reports", reports)
    click.echo(collect_study(store, reports))


@cli.command()
@click.argument("study", required=False)
@click.option("--compare", "compared", nargs=2, metavar="A B", help="Set two studies side by side instead.")
@click.option("--watch", is_flag=True, help="Serve it on this machine's loopback, and take in results as they arrive.")
@click.option("--pdf", is_flag=True, help="Write each figure as PDF too, beside its SVG.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port for --watch; by default a free one.")
@results_option
@scratch_option
@reports_option
def report(study: str | None, compared: tuple[str, str] | None, watch: bool, pdf: bool, port: int, results: Path,
           scratch: Path, reports: Path) -> None:  # fmt: skip
    """Write STUDY's report: the paper's tables with our numbers beside the paper's. STUDY may be a bundle, STUDY.zip.

    Beside the page lie its tables as LaTeX, Markdown and CSV, its figures as SVG, all that it says as report.json, and
    summary.md.

    \b
    harness report digits --pdf
    harness report digits --watch
    harness report --compare digits demo
    """
    from harness.report_commands import make_reports

    make_reports(study, compared, port if watch else None, pdf, results, scratch, reports)


@cli.command()
@click.argument("start", default="")
@click.option("--markdown", is_flag=True, help="Print the page of documentation that lists them all.")
def keys(start: str, markdown: bool) -> None:
    """List the keys of grid files, scale files and settings that begin with START, with what may stand there.

    For example: harness keys regularizer
    """
    from harness import keys as known
    from harness.launch.listing import print_keys

    if markdown:
        click.echo(known.markdown(), nl=False)
        return
    found = {name: [key for key in known.keys(model) if key.name.startswith(start)]
             for name, model in known.MODELS.items()}  # fmt: skip
    if not any(found.values()):
        names = [key.name for model in known.MODELS.values() for key in known.keys(model)]
        raise UserError(f"keys: none begins with '{start}'{nearest(start, names)}")
    print_keys({known.TITLES[name]: rows for name, rows in found.items() if rows})


cli.add_command(data)
cli.add_command(encode)
cli.add_command(weights)
cli.add_command(measure)
cli.add_command(measure_study)
cli.add_command(probe)
cli.add_command(bundle)
for command in (logs, show, retry, cancel, doctor):
    cli.add_command(command)


def _store(results: Path, scratch: Path, study: str) -> "Store":
    from harness.store import Store

    return Store(results, scratch, study)


def _tables(grids: tuple[Path, ...], scale: str, overrides: tuple[str, ...],
            layer: "Layer | None" = None) -> list["Table"]:  # fmt: skip
    from harness.grid import load_table

    return [load_table(path, scale, overrides, layer) for path in grids]


def _prepare(grids: tuple[Path, ...], scale: str, study: str | None, overrides: tuple[str, ...], results: Path,
             scratch: Path, data: Path, threads: int | None = None,
             processes: int | None = None, layer: "Layer | None" = None) -> tuple[list["Job"], "Store"]:  # fmt: skip
    """Check everything that can be checked before anything runs or is written; return the jobs that lack something."""
    from harness.files import check_writable
    from harness.launch.check import check
    from harness.launch.job import jobs_for

    tables, store = _tables(grids, scale, overrides, layer), _store(results, scratch, study or scale)
    for path, table in zip(grids, tables, strict=True):
        store.check_grid(table.name, path, scale, list(overrides))
    check_writable("--results", results)
    check_writable("--scratch", scratch)
    runs = [run for table in tables for run in table.runs]
    todo = _would_run([job for job in jobs_for(runs, store, data, threads) if job.missing()])
    check(todo, processes)
    for path, table in zip(grids, tables, strict=True):
        store.record_grid(table.name, path, scale, list(overrides))
    return todo, store


def _run_here(todo: list["Job"], store: "Store", jobs: int, lead_others: bool = False) -> None:
    """Run on this machine, and exit with 1 where something is not done in the end."""
    from harness.launch.dispatch import lead, run_inline, run_pool
    from harness.launch.progress import Watch

    with Watch(todo) as watch:
        if lead_others:
            lead(todo, watch.tell)
        elif jobs > 1 or any(job.resources.team > 1 for job in todo):
            run_pool(todo, jobs, watch.tell)
        else:
            run_inline(todo, watch.tell)
    left = sum(bool(job.missing()) for job in todo)
    if left:
        click.echo(f"{left} of {len(todo)} trainings are not done; 'harness status {store.study}' says why", err=True)
        sys.exit(1)


def _would_run(jobs: list["Job"]) -> list["Job"]:
    """Leave out what diverged before, and say so: the same seed would diverge again."""
    for job in jobs:
        if job.diverged():
            error = job.store.run_folder(job.train_id) / "error.json"
            click.echo(f"{job.train_id} diverged before and is left out; delete {error} to try it again", err=True)
    return [job for job in jobs if not job.diverged()]


def main() -> None:
    """Run the command line; a user's mistake is told in its own words and exits with 2."""
    try:
        cli(standalone_mode=False)
    except UserError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "harness":
            raise
        click.echo(f"this command needs the package '{error.name}': pip install -e '.[train]'", err=True)
        sys.exit(2)
    except click.exceptions.Abort:
        click.echo("Stopped. Run the same command again to go on.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)


if __name__ == "__main__":
    main()
