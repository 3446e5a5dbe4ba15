"""`harness measure`: anybody's samples against anybody's reference."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.options import data_option, scratch_option

if TYPE_CHECKING:
    from harness.measure.files import Request

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("samples", type=FILE)
@click.option("--reference", required=True,
              help="An .npz (images, or mu and sigma), a folder of pictures, or DATA_SET:SPLIT.")  # fmt: skip
@click.option("--features", default="inception-v3-compat", show_default=True,
              help="The other is 'classifier', the data set's own, for tiny or grey images.")  # fmt: skip
@click.option("--weights", type=FILE, help="File of Inception's weights; by default the one in --data.")
@click.option("--json", "out", type=FILE, help="Write numbers and protocol there as well.")
@click.option("--statistics", type=FILE, help="Write the samples' statistics there, an .npz for a later --reference.")
@click.option("--batch", default=64, show_default=True, type=click.IntRange(min=1), help="Images at once.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="By default the GPU where there is one.")
@data_option
@scratch_option
def measure(samples: Path, reference: str, features: str, weights: Path | None, out: Path | None,
            statistics: Path | None, batch: int, device: str | None, data: Path, scratch: Path) -> None:  # fmt: skip
    """Measure SAMPLES, an .npz of images (arr_0, uint8 N×H×W×3) or a folder of PNGs, against a reference.

    Gives FID, sFID, KID, Inception Score, precision, recall, density and coverage, and the protocol they belong to.
    Under torchrun its processes share the work.
    """
    from harness.engine.distributed import joined
    from harness.files import check_writable, write_json
    from harness.measure.files import Request, measure_files
    from harness.measure.reference import save_statistics

    for flag, path in (("--json", out), ("--statistics", statistics)):
        if path is not None:
            check_writable(flag, path.parent)
    with joined() as world:
        request = Request(samples, reference, features, weights, batch, device, data, scratch / ".cache")
        result, found = measure_files(request, world)
        if world.rank > 0:
            return
    _print(result, request)
    if out is not None:
        write_json(out, result)
    if statistics is not None:
        save_statistics(statistics, found)


def _print(result: dict[str, Any], request: "Request") -> None:
    from rich.console import Console
    from rich.table import Table

    from harness.measure.metrics import DIRECTIONS, PROTOCOLS, SPREADS
    from harness.report.collect import METRICS

    table = Table("metric", "value", "how", title=f"{request.samples.name} against {result['protocol']['reference']}")
    for name, direction in DIRECTIONS.items():
        title = f"{METRICS[name].title} {'↓' if direction == 'lower' else '↑'}"
        value = result["metrics"].get(name)
        if value is None:
            table.add_row(title, "not available", result["unavailable"][name])
            continue
        spread = result["metrics"].get(SPREADS.get(name, ""))
        table.add_row(title, f"{value:.6g}" + (f" ± {spread:.2g}" if spread is not None else ""), PROTOCOLS[name])
    console = Console()
    console.print(table)
    console.print(sentence(result["protocol"]), highlight=False)


def sentence(protocol: dict[str, Any]) -> str:
    """Return the protocol of a measurement in a sentence."""
    count, rows = protocol["reference_count"], protocol.get("reference_rows")
    of = f"the {count:,} images of" if count else "the statistics in"
    also = f" (KID, precision, recall, density and coverage: its {rows:,} images)" if rows else ""
    return (
        f"Protocol: {protocol['generated']:,} samples against {of} {protocol['reference']}{also}, content "
        f"{protocol['reference_content']}; features {protocol['features']}: {protocol['features_note']}."
    )
