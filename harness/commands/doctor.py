"""`harness doctor`."""

from collections.abc import Iterable
from pathlib import Path

import click

from harness.commands import options
from harness.commands.terminal import say
from harness.config import cluster_profile, grid
from harness.errors import UserError
from harness.jobs.job import jobs_for
from harness.slurm.diagnostics import Cluster, Finding, examine_here, examine_nodes
from harness.store.store import Store


@click.command()
@click.argument("grids", nargs=-1, type=options.FILE)
@click.option("--scale", help="Name of a file in the grids' scales/ folder; needed with GRIDS.")
@click.option(
    "--wait", type=options.FiniteRange(min=0), default=300.0, help="Seconds to wait for the job on the nodes."
)
@options.results
@options.scratch
@options.data
@options.profile
def doctor(grids: tuple[Path, ...], scale: str | None, wait: float, results: Path, scratch: Path, data: Path,
           profile: str | None) -> None:  # fmt: skip
    """Examine a SLURM cluster before the first job: exits with 1 where something is wrong.

    Asks SLURM and compares the profile with what it says; then sends one small job to two nodes, which look for GPUs,
    for what GRIDS need (data sets and weights; nothing is downloaded), whether files are replaced atomically between
    them, and whether they can add up gradients.

    \b
    harness doctor --profile ours
    harness doctor grids/table2.yaml --scale imagenet256 --profile ours
    """
    if bool(grids) != bool(scale):
        raise UserError("doctor: GRIDS and --scale belong together")
    slurm, layer = cluster_profile.load_slurm_profile(profile)
    runs = [run for path in grids for run in grid.load_table(path, str(scale), (), layer).runs]
    store = Store(results, scratch, "doctor").absolute()
    cluster = Cluster(slurm, store, tuple(jobs_for(runs, store, data.absolute())))
    if wrong := _print(examine_here(cluster)):
        raise UserError(f"doctor: {wrong} wrong; mend them first, for the rest needs a job on the nodes")
    if _print(examine_nodes(cluster, {path.parent for path in grids}, wait)):
        raise SystemExit(1)


def _print(findings: Iterable[Finding]) -> int:
    """Print findings as they come, and return how many are of something wrong."""
    wrong = 0
    for finding in findings:
        wrong += not finding.well
        say(f"{'✓' if finding.well else '✗'} {finding.subject}: {finding.message}")
    return wrong
