"""Optional trackers, told what a run's own files say: TensorBoard and Weights & Biases, both offline.

They hear nothing that is not in the files, and nothing waits for them: a run is the same with and without. A thread
follows train.jsonl; what is measured is told in the end.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.config.settings.resources import Tracker as TrackerName
from harness.config.spec import TrainSpec
from harness.errors import UserError
from harness.files import read_jsonl
from harness.jobs.recording import repeating
from harness.store.records import LOG, Measurement, measurement_paths

SECONDS = 5.0


class TensorBoard:
    """Event files in a folder of the run's own, which begins anew with each attempt: the log is told from its start."""

    def __init__(self, folder: Path, name: str, train: TrainSpec) -> None:
        from torch.utils.tensorboard import SummaryWriter

        here = folder / "tensorboard" / name
        for old in here.glob("events.*"):
            old.unlink(missing_ok=True)
        self.writer = SummaryWriter(str(here))
        self.writer.add_text("spec", f"```\n{train.model_dump_json(indent=1, exclude_none=True)}\n```")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write a scalar for each number of a training step; steps come in order."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)

    def close(self, step: int, results: Mapping[str, float]) -> None:
        """Write what was measured in the end at the last step, and bring everything to the disk."""
        self.log(step, results)
        self.writer.close()


class WeightsAndBiases:
    """A run of W&B under the training's identity; offline unless WANDB_MODE says otherwise."""

    def __init__(self, folder: Path, name: str, train: TrainSpec) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project="dispersive-harness", id=name, name=name, group=folder.parent.name, dir=str(folder),
            mode=os.environ.get("WANDB_MODE", "offline"), resume="allow", config=train.model_dump(mode="json"),
            settings=wandb.Settings(silent=True),
        )  # fmt: skip

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log the numbers of a training step; steps come in order."""
        self.run.log(dict(numbers), step=step)

    def close(self, step: int, results: Mapping[str, float]) -> None:
        """Put what was measured in the end into the run's summary, and bring everything to the disk."""
        import wandb

        self.run.summary.update(dict(results))
        self.run.finish()
        wandb.teardown()  # finish() leaves the run's file to W&B's service; it is whole when the service has ended


Tracker = TensorBoard | WeightsAndBiases
TRACKERS: dict[TrackerName, type[Tracker]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}  # by their package


def check_trackers(names: Sequence[TrackerName]) -> None:
    """Refuse a wish for a tracker that is not installed.

    Raises:
        UserError: naming what to install.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"resources.tracking: '{name}' needs the package '{name}': pip install -e '.[tracking]'")


@contextmanager
def tracked(names: Sequence[TrackerName], run: Path, scratch: Path, train: TrainSpec) -> Iterator[None]:
    """Tell trackers what a run's folder says while a job works in it; they write below `scratch`."""
    if not names:
        yield
        return
    feed = LogFeed(run / LOG, [TRACKERS[name](scratch / "tracking", run.name, train) for name in names])
    try:
        with repeating(SECONDS, feed.update):
            yield
    finally:
        feed.update()
        feed.call("close", max(0, feed.step), results(run))


class LogFeed:
    """Brings a log to trackers. A step is told once, also where a resumed training writes it again."""

    def __init__(self, log: Path, trackers: Sequence[Tracker]) -> None:
        self.log, self.trackers, self.step = log, list(trackers), -1

    def update(self) -> None:
        """Tell what is new."""
        with suppress(OSError):  # a tracker is not worth a run
            for line in read_jsonl(self.log):
                step = line.pop("step")
                if step > self.step:
                    self.step = step
                    self.call("log", step, line)

    def call(self, method: str, step: int, numbers: Mapping[str, float]) -> None:
        """Call every tracker; one that fails is left out from then on, and the run goes on without it."""
        for tracker in list(self.trackers):
            try:
                getattr(tracker, method)(step, numbers)
            except (Exception, SystemExit) as error:  # W&B's service raises SystemExit where it fails
                self.trackers.remove(tracker)
                print(f"{type(tracker).__name__} is told no more: {error!r}", file=sys.stderr)


def results(run: Path) -> dict[str, float]:
    """Return every number that was measured of a run: "<eval_id>/<metric>"."""
    return {
        f"{path.stem}/{name}": float(value)
        for path in measurement_paths(run)
        if (measurement := Measurement.read(path))
        for name, value in measurement.metrics.items()
        if isinstance(value, int | float)
    }
