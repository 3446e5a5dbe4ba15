"""A study for nine minutes of one card: baseline, Dispersive Loss at τ 0.5, and at a tenth of the features' distance.

    python benchmarks/gpu_study.py --ready    # what needs no card, before: looks for the data, trains the classifiers
    python benchmarks/gpu_study.py            # nine minutes; the same command goes on
    python benchmarks/gpu_study.py --tiny     # the rehearsal, on a CPU: no figure means anything

The first 5,000 images of CIFAR-10, where the baseline is to overfit, and Fashion-MNIST: grids/card.yaml at the scales
`cifar10-5000` and `fashion-mnist-card`, seed by seed as far as the time goes. Results, without the weights, lie in the
folders of `harness run` (HARNESS_RESULTS, HARNESS_SCRATCH, HARNESS_DATA). Exit code: 0 where all is done, 75 where time
was up, 2 where data is missing, which is said before anything begins, 1 where a training failed.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness.config.grid import load_table  # noqa: E402
from harness.errors import UserError  # noqa: E402
from harness.store.store import Store  # noqa: E402

GRID = ROOT / "grids" / "card.yaml"
SCALES = {"cifar10-5000": 0.6, "fashion-mnist-card": 0.4}  # with the share of the time that each may have
TINY = ("--set", "seeds=[0]", "--set", "evaluation.held_out=20")
MOST_AT_ONCE = 4
TIME_UP = 75


def folder(kind: str) -> Path:
    """Return a folder of `harness run`."""
    return Path(os.environ.get(f"HARNESS_{kind.upper()}", kind)).resolve()


def missing(scales: Iterable[str]) -> list[str]:
    """Return what is missing of the data sets, a line each."""
    from harness.data.datasets import check_source

    lines = []
    for scale in scales:
        try:
            check_source(load_table(GRID, scale).runs[0].train.data.name, folder("data"))
        except UserError as error:
            lines.append(str(error))
    return lines


def make_ready(scale: str) -> None:
    """Train the classifier whose features measure a scale's samples, where that was not done before."""
    from harness.measure.extractors.extractor import extractor

    store, name = Store(folder("results"), folder("scratch"), scale), load_table(GRID, scale).runs[0].train.data.name
    print(f"{scale}: its classifier, once", flush=True)
    print(f"{scale}: {extractor('classifier', name, folder('data'), store.cache, device='cpu').note}", flush=True)


def run(scale: str, minutes: float, more: Iterable[str]) -> int:
    """Run the grid at a scale for so long, and return the exit code of `harness run`."""
    at_once = max(1, min(MOST_AT_ONCE, os.cpu_count() or 1))
    command = [sys.executable, "-m", "harness.cli", "run", GRID, "--scale", scale, "--data", folder("data")]
    limits = ["--minutes", f"{max(minutes, 0.05):.2f}", "--jobs", at_once]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.call([*map(str, (*command, *limits)), *more], env=os.environ | {"PYTHONPATH": paths})


def main() -> int:
    """Look for the data, then run scale after scale; what one leaves of its time the next may use."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--ready", action="store_true", help="only what needs no card")
    parser.add_argument("--tiny", action="store_true", help="the rehearsal on a CPU")
    options = parser.parse_args()
    start, scales = time.monotonic(), {"smoke": 1.0} if options.tiny else SCALES
    if lines := missing(scales):
        print(*lines, sep="\n", file=sys.stderr)
        return 2
    for scale in scales:
        make_ready(scale)
    codes, left = [0], 1.0
    for scale, share in {} if options.ready else scales.items():
        minutes = options.minutes - (time.monotonic() - start) / 60
        codes.append(run(scale, minutes * share / left, TINY if options.tiny else ()))
        left -= share
    others = [code for code in codes if code not in (0, TIME_UP)]
    return others[0] if others else max(codes)


if __name__ == "__main__":
    sys.exit(main())
