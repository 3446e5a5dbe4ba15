"""`harness probe`: what the networks of a study have learnt, measured on the checkpoints that are there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands import options
from harness.config.spec import TrainSpec
from harness.errors import UserError
from harness.store.records import Probe
from harness.store.store import Store

if TYPE_CHECKING:
    import torch

    from harness.config.grid import Run
    from harness.measure.representation_probe import Bench


@dataclass(frozen=True)
class Checkpoint:
    """Kept weights of a training, and the features that its samples were measured by."""

    train_id: str
    train: TrainSpec
    step: int
    features: str


@click.command()
@click.option("--only", metavar="RUN", help="One training: the first letters of its folder's name.")
@options.study
@options.data
def probe(store: Store, only: str | None, data: Path) -> None:
    """Measure the representations of STUDY's networks: what each block knows of an image, and how it is spread.

    Nothing is trained. Each checkpoint that a measurement of the study was made of is probed once, and what was probed
    in the same way is not probed again; results/STUDY/RUN/probe-STEP.json holds numbers and protocol.

    \b
    harness probe digits
    """
    from harness.engine.distributed import device
    from harness.measure.representation_probe import probe as probe_weights
    from harness.measure.representation_probe import protocol

    where = device()
    selected = list(checkpoints(store, only))
    benches: dict[tuple[str, str], Bench] = {}
    done = 0
    for checkpoint in _shown(selected):
        key = checkpoint.train.data.name, checkpoint.features
        if key not in benches:
            benches[key] = _bench(*key, data, store.cache, where)
        path = store.probe_path(checkpoint.train_id, checkpoint.step)
        earlier = Probe.read(path)
        if earlier and earlier.protocol == protocol(benches[key]):
            continue
        folder = store.scratch_folder(checkpoint.train_id)
        try:
            numbers = probe_weights(checkpoint.train, folder, checkpoint.step, benches[key], where)
        except UserError as error:  # of this network alone
            click.echo(f"{path}: {error}", err=True)
            continue
        Probe(train_id=checkpoint.train_id, step=checkpoint.step, **numbers).write(path)
        done += 1
    click.echo(f"{store.root}: probed {done} of {len(selected)} checkpoints.")


def checkpoints(store: Store, only: str | None) -> Iterator[Checkpoint]:
    """Yield the checkpoints that the study has measured and that are still in scratch, each once.

    Raises:
        UserError: there is none, or no such study.
    """
    from harness.checkpoint_paths import weights_path
    from harness.config.grid import all_runs
    from harness.store.study import study_tables

    measured: dict[tuple[str, int], Run] = {}
    for run in all_runs(study_tables(store)):
        if run.train_id.startswith(only or "") and store.measured(run.train_id, run.eval_id):
            measured.setdefault((run.train_id, run.evaluation.step), run)
    checkpointed = [key for key in measured if weights_path(store.scratch_folder(key[0]), key[1]).is_file()]
    if not checkpointed:
        which = f"of training {only} " if only else ""
        raise UserError(f"{store.root}: no measured checkpoint {which}in {store.scratch / store.study}; run its grids")
    for train_id, step in checkpointed:
        run = measured[train_id, step]
        yield Checkpoint(train_id, run.train, step, run.evaluation.evaluation.features)


def _bench(name: str, features: str, data: Path, cache: Path, where: "torch.device") -> "Bench":
    from harness.measure.representation_probe import bench

    return bench(name, features, data, cache, where)


def _shown(selected: list[Checkpoint]) -> Iterator[Checkpoint]:
    from rich.progress import track

    yield from track(selected, description="probing")
