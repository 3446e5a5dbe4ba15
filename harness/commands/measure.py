"""`harness measure`: anybody's samples against anybody's reference."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands import options
from harness.commands.options import FILE
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.measure.user_files import MeasureRequest


@click.command()
@click.argument("samples", type=FILE)
@click.option("--reference", required=True,
              help="An .npz (images, or mu and sigma), a folder of pictures, or DATA_SET:SPLIT.")  # fmt: skip
@click.option("--features", default="inception-v3-compat", show_default=True,
              help="Or 'classifier', the data set's own, for tiny or grey images; or a model of timm.")  # fmt: skip
@click.option("--weights", type=FILE, help="File of the network's weights; by default the one in --data, or timm's.")
@click.option("--json", "out", type=FILE, help="Write numbers and protocol there as well.")
@click.option("--statistics", type=FILE, help="Write the samples' statistics there, an .npz for a later --reference.")
@click.option("--nearest", type=FILE, help="Write a PNG there: the samples nearest to reference images, above these.")
@click.option("--intervals", is_flag=True,
              help="Say how far each number would move with other samples; 20 times the metrics' work.")  # fmt: skip
@click.option("--batch", default=64, show_default=True, type=click.IntRange(min=1), help="Images at once.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="By default the GPU where there is one.")
@options.data
@options.scratch
def measure(samples: Path, reference: str, features: str, weights: Path | None, out: Path | None,
            statistics: Path | None, nearest: Path | None, intervals: bool, batch: int, device: str | None, data: Path,
            scratch: Path) -> None:  # fmt: skip
    """Measure SAMPLES, an .npz of images (arr_0, uint8 N×H×W×3) or a folder of PNGs, against a reference.

    Gives FID and its extrapolation to infinitely many samples, sFID, KID, CMMD, Inception Score, precision, recall,
    density, coverage, Vendi score, memorisation, and FID and diversity by class where labels are known (arr_1); says
    what is missing and why, and the protocol that all belong to. Under torchrun its processes share the work.

    \b
    harness measure samples.npz --reference VIRTUAL_imagenet256_labeled.npz
    harness measure pngs/ --reference cifar10:test
    """
    from harness.engine.distributed import joined
    from harness.files import check_writable, write_json
    from harness.jobs.measuring import save_tiles
    from harness.measure.reference import save_statistics
    from harness.measure.user_files import MeasureRequest, measure_files, nearest_pairs

    for flag, path in (("--json", out), ("--statistics", statistics), ("--nearest", nearest)):
        if path is not None:
            check_writable(flag, path.parent)
    with joined() as world:
        request = MeasureRequest(
            samples, reference, features, weights, batch, device, data, scratch / ".cache", intervals
        )
        result, features_ = measure_files(request, world)
        if world.rank > 0:
            return
    _print(result, request)
    if out is not None:
        write_json(out, result)
    if statistics is not None:
        save_statistics(statistics, features_)
    if nearest is not None:
        save_tiles(nearest, nearest_pairs(request, result))


@click.command()
@click.option("--features", help="A model of timm: measure with its features as well, beside the study's own.")
@click.option("--weights", type=FILE, help="File of that model's weights; by default timm's.")
@options.study
@options.data
def measure_study(store: Store, features: str | None, weights: Path | None, data: Path) -> None:
    """Add to STUDY's measurements the metrics that they lack; no run is trained, and no number that is there changes.

    The same images are drawn again from the weights in --scratch and measured. Where what is known already does not
    come out the same, the measurement is left as it was. Give the command twice at once to use two cores.

    \b
    harness measure-study digits
    """
    from harness.jobs.measuring import remeasure

    other = (features, weights) if features else None
    done, left = remeasure(store, data, other, click.echo)
    click.echo(f"{store.root}: {done} measurements renewed, {left} left as they were")
    if left:
        sys.exit(1)


def _print(result: dict[str, Any], request: "MeasureRequest") -> None:
    from rich.console import Console
    from rich.table import Table

    from harness.metric_definitions import DEFINITIONS, base, definition_of

    table = Table("metric", "value", "how", title=f"{request.samples.name} against {result['protocol']['reference']}")
    names = {base(name): name for name in (*result["metrics"], *result["unavailable"])}
    for name in (names[metric] for metric in DEFINITIONS if metric in names):
        definition, value = definition_of(name), result["metrics"].get(name)
        if value is None:
            table.add_row(definition.heading, "not available", result["unavailable"][name])
        else:
            table.add_row(definition.heading, f"{value:.6g}{_uncertainty(result, name)}", definition.definition)
    console = Console()
    console.print(table)
    console.print(sentence(result["protocol"]), highlight=False)
    if made := result.get("intervals"):
        without = "".join(f" None of {definition_of(name).title}: {why}." for name, why in made["unavailable"].items())
        console.print(f"Intervals: {made['level']:.0%}, {made['method']}.{without}", highlight=False)


def _uncertainty(result: dict[str, Any], name: str) -> str:
    """Return what stands behind a number: its interval, else its spread, else nothing."""
    from harness.metric_definitions import spread_of

    interval = result.get("intervals", {}).get("found", {}).get(name)
    if interval:
        return f" [{interval[0]:.6g}, {interval[1]:.6g}]"
    spread = result["metrics"].get(spread_of(name))
    return "" if spread is None else f" ± {spread:.2g}"


def sentence(protocol: dict[str, Any]) -> str:
    """Return the protocol of a measurement in a sentence."""
    count, rows = protocol["reference_count"], protocol.get("reference_rows")
    of = f"the {count:,} images of" if count else "the statistics in"
    also = f" (metrics that need its images: {rows:,} of them)" if rows else ""
    return (
        f"Protocol: {protocol['generated']:,} samples against {of} {protocol['reference']}{also}, content "
        f"{protocol['reference_content']}; features {protocol['features']}: {protocol['features_note']}."
    )
