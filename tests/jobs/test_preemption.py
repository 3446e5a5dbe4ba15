"""A cluster's signals: a checkpoint between two steps, after which nothing can be told from never having stopped."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest
from support.specs import make_spec
from support.trainings import make_dataset

from harness.checkpoint_paths import latest_step
from harness.config.settings.resources import Resources
from harness.engine.distributed import ALONE, World
from harness.engine.train import train
from harness.errors import OutOfTime
from harness.files import read_jsonl
from harness.jobs.preemption import NEVER, Deadline, PreemptionHandler, WorkerSignals
from harness.networks import checkpoint

pytestmark = pytest.mark.waits
SPEC = make_spec()
SELDOM = Resources(log_every=4, checkpoint_minutes=1e9)


@pytest.fixture
def received(monkeypatch):
    """Signals' handlers as submitit leaves them, and what they received."""
    numbers: list[int] = []
    before = {n: signal.signal(n, lambda number, _: numbers.append(number)) for n in (signal.SIGUSR2, signal.SIGTERM)}
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


def run(folder: Path, on_step) -> list[dict[str, float]]:
    train(SPEC, make_dataset(32), folder, folder / "log", {10}, SELDOM, lambda _: None, on_step=on_step)
    return [line | {"images_per_second": 0} for line in read_jsonl(folder / "log")]


class Killed(Exception):
    pass


def test_a_training_that_is_told_to_end_goes_on_with_the_same_weights_and_the_same_log(tmp_path):
    attended = []

    def stop(save) -> None:
        attended.append(save)
        if len(attended) == 6:  # between the lines of steps 4 and 8
            save()
            raise Killed

    whole = run(tmp_path / "whole", lambda save: None)
    with pytest.raises(Killed):
        run(tmp_path / "stopped", stop)
    assert latest_step(tmp_path / "stopped") == 6
    assert run(tmp_path / "stopped", lambda save: None) == whole
    ours, theirs = (checkpoint.load_state(tmp_path / name) for name in ("stopped", "whole"))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_signal_is_handed_on_when_the_checkpoint_is_written(received, number):
    written: list[int] = []
    with PreemptionHandler(ALONE) as handler:
        handler.on_step(partial(written.append, 0))
        os.kill(os.getpid(), number)
        assert (written, received) == ([], [])
        handler.on_step(partial(written.append, 1))
        handler.on_step(partial(written.append, 2))
        assert (written, received) == ([1], [number])
        os.kill(os.getpid(), number)
    assert received == [number, number]  # after the last step there is nothing to write
    os.kill(os.getpid(), number)
    assert len(received) == 3


def test_the_word_that_ends_the_job_is_not_forgotten_for_another(received):
    with PreemptionHandler(ALONE) as handler:
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
        handler.on_step(lambda: None)
    assert received == [signal.SIGUSR2]


def test_a_signal_to_another_process_saves_here_too(received):
    class Other(World):
        def largest(self, here: float) -> float:
            return 1

    saved: list[int] = []
    with PreemptionHandler(Other(0, 2)) as handler:
        handler.on_step(partial(saved.append, 1))
    assert (saved, received) == ([1], [])


@pytest.mark.parametrize(("seconds", "every"), [(0.01, 16), (0.5, 4), (7.0, 1)])
def test_processes_ask_each_other_at_few_steps_and_within_seconds(received, monkeypatch, seconds, every):
    """Each asking is a wait for all: at most every 16th step asks, and of slow steps as many as two seconds have."""
    asked, written, step = [], [], 0

    class Two(World):
        def largest(self, here: float) -> float:
            asked.append(step)
            return here

    monkeypatch.setattr("harness.jobs.preemption.time.monotonic", lambda: seconds * step)
    with PreemptionHandler(Two(0, 2)) as handler:
        for step in range(1, 66):
            handler.on_step(partial(written.append, step))
        assert sorted(set(asked)) == list(range(1, 66, every))
        os.kill(os.getpid(), signal.SIGTERM)
        for step in range(66, 66 + every):
            handler.on_step(partial(written.append, step))
    assert len(written) == 1
    assert received == [signal.SIGTERM]


def test_only_a_job_of_slurms_listens(received, monkeypatch):
    os.kill(os.getpid(), signal.SIGUSR2)
    monkeypatch.delenv("SUBMITIT_EXECUTOR")
    with PreemptionHandler(ALONE):
        os.kill(os.getpid(), signal.SIGUSR2)
        assert len(received) == 2


class Ended(BaseException):
    """Stands for the end of a process."""


def end() -> None:
    raise Ended


def test_a_worker_in_a_job_of_slurms_stops_between_two_steps_and_for_good(received):
    signals, written = WorkerSignals(end), []

    def work() -> None:
        with signals.obeyed(), PreemptionHandler(ALONE) as handler:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert not written
            handler.on_step(partial(written.append, 1))

    with pytest.raises(OutOfTime):
        work()
    assert written == [1]
    os.kill(os.getpid(), signal.SIGUSR2)  # again, to a worker that is at nothing
    with pytest.raises(OutOfTime), signals.obeyed():
        pytest.fail("what comes after it is not begun")


def test_elsewhere_a_worker_ends_at_once_and_nothing_takes_it_for_a_failure(received):
    signals = WorkerSignals(end)

    def measure() -> None:
        with signals.obeyed():
            os.kill(os.getpid(), signal.SIGTERM)  # which SLURM may send and take back
            try:
                os.kill(os.getpid(), signal.SIGUSR2)
            except Exception:  # as where a file is read
                pytest.fail("it is no failure")

    with pytest.raises(Ended):
        measure()


def test_a_signal_that_comes_before_a_worker_works_is_not_forgotten(received):
    signal.pthread_sigmask(signal.SIG_BLOCK, WorkerSignals.NUMBERS)  # as it is started
    signal.raise_signal(signal.SIGUSR2)  # to this thread: another one, of the tests, may not block it
    signals = WorkerSignals(end)
    with pytest.raises(OutOfTime), signals.obeyed():
        pytest.fail("it came before")
    assert received == []


def test_the_time_counts_from_the_start_of_the_command():
    assert not Deadline.after(1).passed
    assert Deadline.after(1e-9).passed
    assert Deadline.after(None) == NEVER
