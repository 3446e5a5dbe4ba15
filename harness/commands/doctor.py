"""`harness doctor`."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from shutil import which

import click

from harness.commands import options
from harness.commands.terminal import say
from harness.config import cluster_profile, grid, grid_file, named_files
from harness.config.spec import TrainSpec
from harness.errors import UserError, user_error
from harness.jobs import machine_check
from harness.jobs.job import jobs_for
from harness.jobs.machine_check import Finding, Gpu, Machine, examine_disk
from harness.planning import cost, memory
from harness.slurm.diagnostics import Cluster, examine_here, examine_nodes
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
    """Examine this machine, or a SLURM cluster, before the first job.

    Exits with 0 where all is well, and with 1 where something is wrong (✗). What is missing and was not asked for (–)
    is not wrong: a GPU, for instance, where GRIDS are none or compute on the CPU. Nothing is downloaded.

    Without SLURM: torch and its GPUs, a compiler for resources.compile, bf16, NCCL, which of GRIDS' networks fit into
    the GPU's free memory (without GRIDS: those of each scale for GPUs) and what to set, disk, data sets, weights.

    Where SLURM is installed, or with a profile of a cluster (and not with --profile local): asks SLURM, compares the
    profile and what GRIDS ask with what it says, and whether it would take such a job; then sends one small job to two
    nodes, which look for the same, whether files are replaced atomically between them, locked, and of the right owner
    and mode, whether their clocks agree, and whether they can add up gradients. Setup lines that fail are told.

    \b
    harness doctor
    harness doctor grids/table2.yaml --scale cifar10
    harness doctor grids/table2.yaml --scale imagenet256 --profile ours
    """
    if bool(grids) != bool(scale):
        raise UserError("doctor: GRIDS and --scale belong together")
    grids = tuple(map(named_files.find_grid, grids))
    chosen, layer = cluster_profile.load_profile(profile) if profile else (None, {})
    tables = [grid.load_table(path, str(scale), (), layer) for path in grids]
    store = Store(results, scratch, "doctor").absolute()
    if not isinstance(chosen, cluster_profile.SlurmProfile | None) or (chosen is None and which("scontrol") is None):
        wrong = _print(examine_machine(machine_check.this_machine(), tables, store, data.absolute()))
    else:
        jobs = jobs_for(grid.all_runs(tables), store, data.absolute())
        cluster = Cluster(chosen or cluster_profile.SlurmProfile(), store, tuple(jobs))
        if wrong := _print(examine_here(cluster)):
            raise UserError(f"doctor: {wrong} wrong; mend them first, for the rest needs a job on the nodes")
        with user_error("doctor: the job on the nodes", kinds=(OSError, ValueError)):
            findings = examine_nodes(cluster, {path.parent for path in grids}, wait)
        wrong = _print(findings)
    if wrong:
        raise SystemExit(1)


def examine_machine(machine: Machine, tables: list[grid.Table], store: Store, data: Path) -> Iterator[Finding]:
    """Yield what is found on a machine without SLURM; without tables, of what is there whatever is needed."""
    runs = grid.all_runs(tables)
    jobs = jobs_for(runs, store, data)
    yield from machine_check.examine_devices(machine, max((job.resources.gpus for job in jobs), default=0))
    if machine.gpus:
        smallest = min(machine.gpus, key=lambda gpu: gpu.free)
        for name, specs in _ladders(tables).items():
            yield examine_ladder(name, specs, smallest, os.cpu_count() or 1, not tables)
    if machine.torch:
        yield from machine_check.examine_jobs(jobs) if tables else machine_check.examine_data(data)
    room = cost.Prices(runs, store, cost.Assumption()).cost(runs, left=True).bytes if runs else 0
    yield examine_disk("--results", store.results)
    yield examine_disk("--scratch", store.scratch, room)


def _ladders(tables: list[grid.Table]) -> dict[str, dict[str, TrainSpec]]:
    """Return the networks by name: of each table, or of each scale for GPUs, with their smallest patches."""
    if tables:
        return {t.name: {c.settings.model: run.train for c in t.cells for run in c.runs} for t in tables}
    ladders = {}
    for name in sorted(named_files.files_by_name(named_files.SCALES)):
        scale, document = grid_file.read_scale(name)
        if scale.settings.get("resources", {}).get("gpus", 0):
            specs = grid.model_specs(scale, document, ["SiT"])
            ladders[name] = {model: spec for model, spec in specs.items() if model.endswith("/2")}
    return ladders


def examine_ladder(name: str, specs: dict[str, TrainSpec], gpu: Gpu, cores: int, optional: bool) -> Finding:
    """Look which networks fit into a GPU's free memory, and say what to set for each."""
    words, too_large = [], False
    for model, spec in specs.items():
        fit = None if spec.process == "meanflow" else memory.fit(spec, gpu.free, cores)
        if spec.process == "meanflow":
            words.append(f"{model} not estimated")
        else:
            words.append(f"{model} {fit.words(spec.batch) if fit else 'does not fit'}")
            too_large |= fit is None
    batches = ", ".join(str(batch) for batch in sorted({spec.batch for spec in specs.values()}))
    return Finding(f"memory for {name}, batch {batches}", not too_large, "; ".join(words), optional)


def _print(findings: Iterable[Finding]) -> int:
    """Print findings as they come, and return how many are of something wrong."""
    wrong = 0
    for finding in findings:
        wrong += finding.wrong
        mark = "✓" if finding.well else "✗" if finding.wrong else "–"
        say(f"{mark} {finding.subject}: {' '.join(finding.message.split())}")
    return wrong
