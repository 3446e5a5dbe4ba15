"""Where the tests find the project's own files."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
GRIDS = ROOT / "grids"
GOLDEN = ROOT / "tests" / "golden"
