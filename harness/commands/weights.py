"""`harness weights`: published checkpoints in and out."""

from pathlib import Path

import click

from harness.checkpoint_paths import kept_weights
from harness.commands import options
from harness.commands.options import NEW, PLAIN
from harness.commands.terminal import say
from harness.config import grid, grid_file
from harness.config import imported_weights as imported
from harness.config.settings.run_settings import Family
from harness.errors import UserError, nearest
from harness.files import check_writable
from harness.store.records import read_spec
from harness.store.store import IDENTITY, Store

PUBLISHED: tuple[Family, ...] = ("SiT", "DiT", "MF")  # families whose checkpoints are published


@click.group()
def weights() -> None:
    """Import and export published weights. They are kept in ./weights, or where HARNESS_WEIGHTS says."""


@weights.command(name="import", short_help="Keep the weights of FILE, a published checkpoint.")
@click.argument("file", type=PLAIN)
@click.option("--name", required=True, help="What `--set weights=NAME` will call them.")
@click.option("--model", help="Model of the file, for example SiT-XL/2; by default the only one that its shapes fit.")
@click.option("--scale", default="imagenet256", help="Scale that says what model names stand for.")
@click.option("--scales", type=options.FOLDER, default="grids/scales", help="Folder of the scale files.")
def import_(file: Path, name: str, model: str | None, scale: str, scales: Path) -> None:
    """Check FILE, a checkpoint of the public DiT, SiT, DispLoss or MeanFlow code, and keep its weights.

    \b
    harness weights import SiT-XL-2-256x256.pt --name sit-xl --model SiT-XL/2
    """
    specs = grid.model_specs(*grid_file.read_scale(scale, scales), PUBLISHED)
    if model is not None and model not in specs:
        raise UserError(f"--model {model}: not a model of scale {scale}{nearest(model, specs)}")
    from harness.networks.published_weights import import_file

    check_writable("HARNESS_WEIGHTS", imported.folder())
    weights = import_file(file, name, {model: specs[model]} if model else specs, imported.folder())
    say(f"{name}: {weights.label} ({weights.network}), {weights.contents}")
    for remark in weights.remarks:
        say(f"  {remark}")


@weights.command(short_help="Write imported weights, or a training's, as OUT.")
@click.argument("source")
@click.argument("out", type=NEW)
@click.option("--format", "layout", type=click.Choice(["public", "diffusers"]), default="public",
              help="A checkpoint of the public code, or a DiTTransformer2DModel folder of the EMA.")  # fmt: skip
@click.option("--step", type=click.IntRange(min=0), help="Step of a run; by default the last one kept.")
@options.results
@options.scratch
def export(source: str, out: Path, layout: str, step: int | None, results: Path, scratch: Path) -> None:
    """Write SOURCE, a name of imported weights or STUDY/TRAINING, as OUT.

    \b
    harness weights export sit-xl SiT-XL-2.pt
    harness weights export digits/1a2b3c4d5e6f ours.pt
    """
    from harness.networks import published_weights
    from harness.networks.diffusers_export import FREQUENCIES_NOTE, export_diffusers

    path, network = _weights_of(source, step, results, scratch)
    if layout == "public":
        published_weights.export(path, out)
    else:
        export_diffusers(published_weights.averaged_state(path, network), network, out)
        say(FREQUENCIES_NOTE)
    say(f"Wrote {out}")


@weights.command(name="list")
def list_() -> None:
    """List the imported weights.

    \b
    harness weights list
    """
    for name in imported.names(imported.folder()):
        weights = imported.describe(imported.folder(), name)
        say(f"{name}: {weights.label}, {weights.contents}, from {weights.origin.file}")


def _weights_of(source: str, step: int | None, results: Path, scratch: Path) -> tuple[Path, imported.Architecture]:
    """Return file and network of imported weights, or of weights that a run of ours kept.

    Raises:
        UserError: they are not here.
    """
    if "/" not in source:
        weights, path = imported.find(imported.folder(), imported.describe(imported.folder(), source).sha256)
        return path, weights.network
    study, _, identity = source.rpartition("/")
    store = Store(results, scratch, study)
    if not IDENTITY.fullmatch(identity):
        raise UserError(f"{source}: STUDY/TRAINING is expected, the training as 'harness plan' names it")
    spec, paths = read_spec(store.run_folder(identity)), kept_weights(store.scratch_folder(identity))
    chosen = max(paths, default=-1) if step is None else step
    if spec is None or chosen not in paths:
        steps = f"steps {', '.join(map(str, paths))}" if paths else "nothing"
        option = "" if step is None else f" --step {step}"
        raise UserError(f"{source}{option}: {store.scratch_folder(identity)} keeps the weights of {steps}")
    if spec.soft_tokens and chosen:
        raise UserError(f"{source}: no public layout has soft tokens; --step 0 is the network before which they stand")
    return paths[chosen], imported.architecture_of(spec)
