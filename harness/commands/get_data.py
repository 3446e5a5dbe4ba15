"""`harness data` and `harness encode`: data sets, and photos packed as latents."""

from pathlib import Path

import click

from harness.commands.options import data_option


@click.group()
def data() -> None:
    """Get and check data sets."""


@data.command()
@click.argument("name")
@data_option
def get(name: str, data: Path) -> None:
    """Fetch data set NAME where that is possible, check it, and say what to do where it is not.

    \b
    harness data get digits
    harness data get inception-v3-compat
    """
    from harness.measure.fetch import get as fetch

    click.echo(fetch(name, data))


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--autoencoder", type=click.Path(path_type=Path), required=True,
              help="Its folder: diffusers' format, TAESD's two .pth files, or VAElight's two .onnx files.")  # fmt: skip
@click.option("--size", default=256, show_default=True, type=click.IntRange(min=8), help="Side of the centre crop.")
@click.option("--keep-images", is_flag=True, help="Keep the crops too: measuring needs them.")
@click.option("--workers", default=4, show_default=True, type=click.IntRange(min=0),
              help="Processes that read and crop.")  # fmt: skip
@data_option
def encode(source: Path, name: str, autoencoder: Path, size: int, keep_images: bool, workers: int,
           data: Path) -> None:  # fmt: skip
    """Pack the latents of the photos in SOURCE, and of their mirror images, as data set NAME.

    SOURCE is a folder with a folder of images for each class (ImageNet's train/), a data set of Hugging Face's
    save_to_disk, or a folder of parquet files. Killed or stopped, it goes on when the same command is given again.

    \b
    harness encode /imagenet/train imagenet256 --autoencoder /sd-vae-ft-ema --keep-images
    """
    from rich.progress import Progress

    from harness.data.encode import encode as pack

    with Progress() as progress:
        task = progress.add_task(f"encoding {name}", total=None)
        said = pack(source, name, autoencoder, data, size, keep_images, workers,
                    lambda done, total: progress.update(task, completed=done, total=total))  # fmt: skip
    click.echo(said)
