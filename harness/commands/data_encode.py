"""`harness data` and `harness encode`: data sets, and photos packed as latents."""

import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from rich.progress import Progress

from harness.commands import options
from harness.commands.terminal import console, say
from harness.data import fetch
from harness.data.raw_files import PUBLISHED
from harness.errors import UserError, nearest
from harness.process_group import place_from_torchrun

if TYPE_CHECKING:
    from harness.data.encode import Encoding
    from harness.engine.distributed import World

INCEPTION = "inception-v3-compat"  # the weights of FID's network
LATENTS = ("imagenet256", "imagenet-sample")  # what our scales call them


@click.group()
def data() -> None:
    """Get and check data sets."""


@data.command(short_help="Fetch and check data set NAME.")
@click.argument("name")
@options.data
def get(name: str, data: Path) -> None:
    """Fetch data set NAME where that is possible, check it, and say what to do where it is not.

    \b
    harness data get digits
    harness data get inception-v3-compat
    """
    say(get_by_name(name, data))


def get_by_name(name: str, root: Path) -> str:
    """Fetch, check and convert what `name` stands for; return a sentence that says what was done.

    Raises:
        UserError: an unknown name, a failed download or a wrong checksum, with what to do about it.
    """
    if name in PUBLISHED:
        return fetch.get_published(name, root)
    if name in LATENTS or (root / name / "meta.json").is_file():
        return fetch.check_latents(name, root)
    if name == "digits":
        return fetch.get_digits(root)
    if name == INCEPTION:
        from harness.measure.extractors.inception import get_inception  # loads torch, which the others need not

        return get_inception(root)
    raise UserError(f"data get {name}: unknown{nearest(name, ('digits', *PUBLISHED, *LATENTS, INCEPTION))}")


@click.command()
@click.argument("source", type=options.EXISTING)
@click.argument("name")
@click.option("--autoencoder", type=options.EXISTING, required=True,
              help="Its folder: diffusers' format, TAESD's two .pth files, or what a plug-in reads.")  # fmt: skip
@click.option("--size", default=256, type=click.IntRange(min=8), help="Side of the centre crop.")
@click.option("--keep-images", is_flag=True, help="Keep the crops too: measuring needs them.")
@click.option(
    "--moments",
    default="float32",
    type=click.Choice(["float32", "float16"]),
    help="Type of the latents; half the bytes, and trainings say so too: --set data.moments=float16.",
)
@click.option("--workers", default=4, type=click.IntRange(min=0), help="Processes that read and crop.")
@options.data
@options.plugin
def encode(source: Path, name: str, autoencoder: Path, size: int, keep_images: bool,
           moments: Literal["float32", "float16"], workers: int, data: Path) -> None:  # fmt: skip
    """Pack the latents of the photos in SOURCE, and of their mirror images, as data set NAME.

    SOURCE is a folder with a folder of images for each class (ImageNet's train/), a data set of Hugging Face's
    save_to_disk, or a folder of parquet files. Classes are its folders by name; which files count is the same
    as for measure (docs/images.md). Killed or stopped, it goes on when the same command is given again. Under torchrun
    the processes of one machine share the photos, and the bytes are the same.

    \b
    harness encode /imagenet/train imagenet256 --autoencoder /sd-vae-ft-ema
    """
    place_from_torchrun()  # what a launcher has left is told at once, and not when torch is loaded
    from harness.data.encode import Encoding, Team
    from harness.engine.distributed import joined

    dtype = None if moments == "float32" else moments
    with joined() as world:
        make = partial(Encoding, source, name, autoencoder, data, size, keep_images, dtype=dtype)
        encoding = _in_turn(world, make)
        with Progress(console=console(), disable=not world.leads) as progress:
            task = progress.add_task("encoding", total=None)
            team = Team(world.rank, world.size, world.all_gather)
            tell = lambda done, total: progress.update(task, completed=done, total=total)  # noqa: E731
            summary = encoding.run(workers, tell, team=team)
        if world.leads:
            say(summary)


def _in_turn(world: "World", make: Callable[[], "Encoding"]) -> "Encoding":
    """Open the photos in each process of one machine, first in the leading one, which may have to unpack them.

    Raises:
        UserError: they cannot be opened, or there are several machines: one alone writes into a part of a file.
    """
    if len(set(world.all_gather(platform.node()))) > 1:
        raise UserError("encode: its processes are to be of one machine; start torchrun with --nnodes 1")
    problem, encoding = "", None
    if world.leads:
        try:
            encoding = make()
        except UserError as error:
            problem = str(error)
    if words := world.decide(lambda: problem):
        raise UserError(words)
    return encoding or make()
