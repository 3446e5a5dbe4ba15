"""Where the tests find the project's own files."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
GRIDS = ROOT / "grids"
GOLDEN = ROOT / "tests" / "golden"
PAPER_GRIDS = ("convergence", "figure4", "table2", "table3", "table4", "table5", "table6", "table7a", "table7b")
