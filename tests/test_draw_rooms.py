"""The picture in CONTRIBUTING.md is that of today's code."""

import subprocess
import sys

from support.places import ROOT


def test_the_picture_of_the_rooms_is_drawn_from_this_code(tmp_path):
    drawn = tmp_path / "rooms.svg"
    subprocess.run([sys.executable, "docs/draw_rooms.py", drawn], cwd=ROOT, check=True)
    assert drawn.read_bytes() == (ROOT / "docs" / "pictures" / "rooms.svg").read_bytes(), (
        "python docs/draw_rooms.py draws it again"
    )
