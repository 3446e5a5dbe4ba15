"""`harness init`: a folder to begin a study of one's own in."""

import json
import os
from pathlib import Path

import click

from harness.commands import options
from harness.commands.terminal import say
from harness.config.named_files import SHIPPED
from harness.errors import UserError
from harness.files import check_output, make_folder
from harness.picture_folder import PictureFolder, read_folder
from harness.plain_text import check_name

SKELETON = SHIPPED / "skeleton"
# File of the skeleton → where it is written; of the two scales one.
FILES = {
    "Makefile": "Makefile",
    "methods.yaml": "grids/methods.yaml",
    "near_times.py.txt": "grids/near_times.py",
    "test_near_times.py.txt": "test_near_times.py",
}


@click.command()
@click.argument("name")
@click.option("--pictures", type=options.EXISTING, help="Folder of small pictures to train on; by default digits.")
def init(name: str, pictures: Path | None) -> None:
    """Make the folder NAME: a term of the loss, a grid, a scale and a test to start from, which run as they are.

    \b
    harness init mine
    harness init mine --pictures photos
    """
    check_name("NAME", name)
    folder = Path(name)
    if os.path.lexists(folder):
        raise UserError(f"NAME {name}: exists already; choose another name")
    check_output("NAME", folder)
    found = read_folder(pictures, None) if pictures else None
    words = {"@name@": name}
    if pictures and found:
        words |= {"@title@": json.dumps(_title(pictures, found), ensure_ascii=False)}
        words |= {"@path@": json.dumps(os.path.relpath(pictures.resolve(), folder.resolve()), ensure_ascii=False)}
    files = FILES | {f"scale-{'pictures' if pictures else 'digits'}.yaml": f"grids/scales/{name}.yaml"}
    make_folder(folder, lambda temporary: _write(temporary, files, words))
    for file in sorted(files.values()):
        say(f"{folder / file}")
    say(f"Next: cd {name} && make, which runs it on tiny networks; then make study")


def _title(pictures: Path, found: PictureFolder) -> str:
    classes = f" in {found.classes} classes" if found.classes > 1 else ""
    return f"{len(found.items):,} pictures of {pictures.resolve().name}{classes}, 32×32"


def _write(folder: Path, files: dict[str, str], words: dict[str, str]) -> None:
    for source, target in files.items():
        text = (SKELETON / source).read_text(encoding="utf-8")
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
