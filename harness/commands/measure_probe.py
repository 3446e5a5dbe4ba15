"""`harness measure`, `harness measure-study` and `harness probe`: anybody's samples against anybody's reference, and
what the networks of a study have made and learnt. What computes is imported when it is called: it loads torch."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import click
from rich.progress import track

from harness.checkpoint_paths import weights_path
from harness.commands import options
from harness.commands.options import FILE, OUTPUT, PLAIN, ReferenceWords
from harness.commands.terminal import TextTable, console, say, words_of
from harness.config.grid import Run, all_runs
from harness.errors import UserError
from harness.files import check_writable, write_json
from harness.jobs.measuring import remeasure, save_tiles
from harness.metric_definitions import DEFINITIONS, base, definition_of, spread_of
from harness.process_group import check_alone, place_from_torchrun
from harness.store.records import Probe
from harness.store.store import Store
from harness.store.study import study_tables


@click.command()
@click.argument("samples", type=FILE)
@click.option("--reference", required=True, type=ReferenceWords(),
              help="An .npz (images, or mu and sigma), a folder of pictures, or DATA_SET:SPLIT.")  # fmt: skip
@click.option("--features", default="inception-v3-compat",
              help="Or 'classifier', the data set's own, for tiny or grey images; or a model of timm.")  # fmt: skip
@click.option("--weights", type=PLAIN, help="File of the network's weights; by default the one in --data, or timm's.")
@click.option("--reference-part", "part", type=click.IntRange(min=6), metavar="N",
              help="Precision, recall, density, coverage against N of its images; by default all.")  # fmt: skip
@click.option("--json", "out", type=OUTPUT, help="Write numbers and protocol there as well.")
@click.option("--statistics", type=OUTPUT, help="Write the samples' statistics there, an .npz for a later --reference.")
@click.option("--nearest", type=OUTPUT, help="Write a PNG there: the samples nearest to reference images, above these.")
@click.option("--intervals", is_flag=True,
              help="Say how far each number would move with other samples; 20 times the metrics' work.")  # fmt: skip
@click.option("--batch", default=64, type=click.IntRange(min=1), help="Images at once.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="By default the GPU where there is one.")
@options.plugin
@options.data
@options.scratch
def measure(samples: Path, out: Path | None, statistics: Path | None, nearest: Path | None, scratch: Path,
            **request: Any) -> None:  # fmt: skip
    """Measure SAMPLES against a reference. SAMPLES: an .npz of images (arr_0, uint8 N×H×W×3) or a folder of pictures.

    Of folders all formats that Pillow reads without other programs, links too; hidden names are nothing, other files
    are counted and said, and what could be read in two ways is refused (docs/images.md).

    Gives FID and its extrapolation to infinitely many samples, sFID, KID, CMMD, Inception Score, precision, recall,
    density, coverage, Vendi score, memorisation, and FID and diversity by class where labels are known (arr_1); says
    what is missing and why, and the protocol that all belong to. Under torchrun its processes share the work.

    \b
    harness measure samples.npz --reference VIRTUAL_imagenet256_labeled.npz
    harness measure pngs/ --reference cifar10:test
    """
    place_from_torchrun()  # what a launcher has left is told at once, and not when torch is loaded
    from harness.engine.distributed import joined
    from harness.measure.evaluate import MeasureRequest, nearest_pairs
    from harness.measure.evaluate import measure as measure_images
    from harness.measure.images import of_path
    from harness.measure.reference import save_statistics

    options.check_suffix("--statistics", statistics, ".npz")
    options.check_suffix("--nearest", nearest, ".png")
    outputs = {"--json": out, "--statistics": statistics, "--nearest": nearest}
    inputs = {"SAMPLES": samples, "--reference": Path(request["reference"]), "--weights": request["weights"]}
    options.check_apart(outputs, inputs)
    what = MeasureRequest(cache=scratch / ".cache", **request)
    with joined() as world:
        images = of_path(samples)
        result, features = measure_images(images, what, world)
        if world.rank > 0:
            return
    if out is not None:
        write_json(out, result)
    if statistics is not None:
        save_statistics(statistics, features, result["protocol"]["features"])
    if nearest is not None:
        save_tiles(nearest, nearest_pairs(images, what, result))
    _print(result, samples.name)  # last: the reader of a pipe may have gone


@click.command()
@click.option("--features", help="A model of timm: measure with its features as well, beside the study's own.")
@click.option("--weights", type=PLAIN, help="File of that model's weights; by default timm's.")
@options.study
@options.plugin
@options.data
def measure_study(store: Store, features: str | None, weights: Path | None, data: Path) -> None:
    """Add to STUDY's measurements the metrics that they lack; no run is trained, and no number that is there changes.

    The same images are drawn again from the weights in --scratch and measured. Where what is known already does not
    come out the same, the measurement is left as it was. Give the command twice at once to use two cores.

    \b
    harness measure-study digits
    """
    check_alone("harness measure-study")
    other = (features, weights) if features else None
    check_writable("--results", store.root)
    done, left = remeasure(store, data, other, say)
    say(f"{store.root}: {done} measurements renewed, {left} left as they were")
    if left:
        sys.exit(1)


def _print(result: dict[str, Any], samples: str) -> None:
    rows = []
    names = {base(name): name for name in (*result["metrics"], *result["unavailable"])}
    for name in (names[metric] for metric in DEFINITIONS if metric in names):
        definition, value = definition_of(name), result["metrics"].get(name)
        words = "not available" if value is None else f"{value:.6g}{_uncertainty(result, name)}"
        how = result["unavailable"][name] if value is None else definition.definition
        rows.append({"metric": definition.heading, "value": words, "how": how})
    screen = console()
    screen.print(TextTable(f"{samples} against {result['protocol']['reference']}", rows))
    protocol, intervals = result["protocol"], result.get("intervals")
    screen.print(words_of("measured", protocol=protocol, intervals=intervals, definition_of=definition_of), end="")


def _uncertainty(result: dict[str, Any], name: str) -> str:
    """Return what stands behind a number: its interval, else its spread, else nothing."""
    interval = result.get("intervals", {}).get("found", {}).get(name)
    if interval:
        return f" [{interval[0]:.6g}, {interval[1]:.6g}]"
    spread = result["metrics"].get(spread_of(name))
    return "" if spread is None else f" ± {spread:.2g}"


@click.command()
@click.option("--run", "only", metavar="RUN", help="One training: the first letters of its name.")
@options.study
@options.plugin
@options.data
def probe(store: Store, only: str | None, data: Path) -> None:
    """Measure the representations of STUDY's networks: what each block knows of an image, and how it is spread.

    Nothing is trained. Each checkpoint that a measurement of the study was made of is probed once, and what was probed
    in the same way is not probed again; results/STUDY/RUN/probe-STEP.json holds numbers and protocol.

    \b
    harness probe digits
    """
    check_alone("harness probe")
    from harness.gpu import device
    from harness.measure import representation_probe

    @cache
    def bench(data_set: str, features: str) -> representation_probe.Bench:
        return representation_probe.bench(data_set, features, data, store.cache, device())

    check_writable("--results", store.root)
    runs, done = measured_checkpoints(store, only or ""), 0
    for run in track(runs, description="probing", console=console()):
        step, path = run.evaluation.step, store.probe_path(run.train_id, run.evaluation.step)
        images = bench(run.train.data.name, run.evaluation.evaluation.features)
        earlier = Probe.read(path)
        if earlier and earlier.protocol == images.protocol:
            continue
        try:
            numbers = representation_probe.probe(run.train, store.scratch_folder(run.train_id), step, images, device())
        except UserError as error:  # of this network alone
            say(f"{path}: {error}", err=True)
            continue
        Probe(train_id=run.train_id, step=step, **numbers).write(path)
        done += 1
    say(f"{store.root}: probed {done} of {len(runs)} checkpoints.")


def measured_checkpoints(store: Store, prefix: str) -> list[Run]:
    """Return a run of each checkpoint that the study has measured and that is still in scratch.

    prefix: how the identities of the trainings begin.

    Raises:
        UserError: there is none, or no such study.
    """
    checkpoints: dict[Path, Run] = {}
    for run in all_runs(study_tables(store)):
        path = weights_path(store.scratch_folder(run.train_id), run.evaluation.step)
        if run.train_id.startswith(prefix) and path.is_file() and store.settled(run.train_id, run.eval_id):
            checkpoints.setdefault(path, run)
    if not checkpoints:
        which = f"of training {prefix} " if prefix else ""
        raise UserError(f"{store.root}: no measured checkpoint {which}in {store.scratch / store.study}; run its grids")
    return list(checkpoints.values())
