"""The parts of `benchmarks/gpu.py`: what must be right and how fast it is on one GPU."""

import sys
from pathlib import Path

# A bare machine has `harness` beside this folder, and not installed.
sys.path.append(str(Path(__file__).resolve().parent.parent.parent))
