"""What the tests share."""

import fcntl
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from pathlib import Path

import pytest

CHROMIUM_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


def pytest_addoption(parser):
    parser.addoption("--repeat", type=int, default=1, help="run each test that waits that often")
    parser.addoption("--hours", type=float, default=0, help="of new inputs, shared by all tests marked fuzz")


def pytest_configure(config):
    """One thread: small networks gain nothing from more, and there may be as many processes of tests as cores.

    Compiled modules are kept wherever the tests are called: some hundred processes import them, and each process of
    tests all tests, with their assertions rewritten. While these are imported next to nothing becomes garbage.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    gc.disable()
    os.environ.pop("COLUMNS", None)  # readline, which pytest loads, tells it to the processes that xdist starts


def pytest_generate_tests(metafunc):
    waits = any(mark.name == "waits" for mark in metafunc.definition.iter_markers())
    if waits and metafunc.config.option.repeat > 1:
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(metafunc.config.option.repeat), indirect=True)


@pytest.fixture
def repetition(request):
    """Return how often a test has run before."""
    return request.param


def pytest_collection_modifyitems(items):
    """Begin with the files of which most tests take long: what of them waits ends beside the others."""
    long = Counter(item.path for item in items if any(map(item.get_closest_marker, ("slow", "integration"))))
    items.sort(key=lambda item: -long[item.path])


def pytest_collection_finish():
    gc.enable()


def pytest_terminal_summary(terminalreporter):
    """Say how many inputs each kind of fuzz has tried."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "inputs" and report.when == "call":
                terminalreporter.write_line(f"{report.nodeid}: {value} inputs")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a skipped test is a failure: what it needs can be installed there."""
    report = (yield).get_result()
    if report.skipped and os.environ.get("HARNESS_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {report.longrepr}"


@pytest.fixture(scope="session")
def needs():
    """Skip a test whose program is not installed; CI turns the skip into a failure."""

    def need(*programs: str) -> None:
        missing = [program for program in programs if shutil.which(program) is None]
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)}")

    return need


@pytest.fixture(scope="session")
def chromium(needs, tmp_path_factory):
    """A real Chromium that keeps a log of its console and of every request."""
    needs("chromium", "chromedriver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*CHROMIUM_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium):
    """The Chromium of all tests; no page of another one's still asks a server that has ended."""
    yield chromium
    chromium.get("about:blank")
    chromium.get_log("browser")


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Return a folder in which the digits' classifier is trained once for all tests that run jobs."""
    return folder_of_all(tmp_path_factory, "cache")


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """Return a folder in which the digits become arrays once, so that others need not load scikit-learn."""
    return folder_of_all(tmp_path_factory, "converted")


def folder_of_all(tmp_path_factory, name):
    """Return a folder that all processes of tests share."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # beside the folders of the other processes
        folder = folder.parent
    (folder / name).mkdir(exist_ok=True)
    return folder / name


@pytest.fixture
def scratch(tmp_path, cache, converted):
    """Return a scratch folder, tmp_path / "scratch", in which the digits' classifier need not be trained again.

    Beside it, in tmp_path / "data", the digits are arrays.
    """
    folder = tmp_path / "scratch"
    folder.mkdir()
    (folder / ".cache").symlink_to(cache)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".converted").symlink_to(converted)
    return folder


@pytest.fixture
def cluster(needs, request):
    """The real SLURM; for a test alone that `disturbs` it, as where nodes, daemons or the accounting go down."""
    needs("sbatch", "sinfo")
    disturbs = request.node.get_closest_marker("disturbs")
    with Path(tempfile.gettempdir(), f"tests-of-the-cluster-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if disturbs else fcntl.LOCK_SH)
        if subprocess.run(["sinfo", "-h"], capture_output=True).returncode != 0:
            pytest.skip("SLURM does not answer; tests/cluster/cluster.sh up starts one")
        yield


@pytest.fixture
def study(cluster, tmp_path, scratch):
    """A folder to work in and a study's name that SLURM has not heard yet; what is left of its jobs is ended."""
    from support.real_slurm import copy_inputs, queued_jobs, wait_for

    from harness.slurm.client import scancel

    copy_inputs(tmp_path)
    name = f"t{uuid.uuid4().hex[:8]}"
    yield name
    scancel({job.id.partition("_")[0] for job in queued_jobs(name)})
    wait_for(lambda: not queued_jobs(name))
