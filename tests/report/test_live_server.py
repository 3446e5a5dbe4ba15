"""A report that is watched: in a real Chromium while a grid runs, and what the server answers and refuses."""

import http.client
import os
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import urlsplit

import pytest
from support import synthetic_study as synthetic
from support.places import ROOT

from harness.report.live_server import Watched, serve


def harness(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1",
        "HARNESS_RESULTS": str(folder / "results"), "HARNESS_SCRATCH": str(folder / "scratch"),
        "HARNESS_REPORTS": str(folder / "reports"), "HARNESS_DATA": str(folder / "data"),
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *words], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Any, Any, str]]:
    """A study of which one run is left, and the address at which its report is served."""
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    store.eval_path(table.runs[-1].train_id, table.runs[-1].eval_id).unlink()
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    addresses, stop = Queue[str](), threading.Event()
    arguments = (store, tmp_path / "reports" / "synthetic", 0, addresses.put, 0.2, stop)
    thread = threading.Thread(target=serve, args=arguments, daemon=True)
    thread.start()
    yield store, table, addresses.get(timeout=60)
    stop.set()
    thread.join(60)


def ask(address: str, path: str, host: str | None = None) -> tuple[int, bytes]:
    """Ask for a path below the address as it is written: a client that tidies ".." away would test itself."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
    connection.putrequest("GET", where.path + path.removeprefix("/"), skip_host=True)
    connection.putheader("Host", host or where.netloc)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_only_the_report_is_served_and_only_to_this_machine(served: tuple[Any, Any, str], tmp_path: Path) -> None:
    _, _, address = served
    assert urlsplit(address).hostname == "127.0.0.1"
    status, page = ask(address, "/")
    assert (status, b"connect-src 'self'" in page) == (200, True)
    written = (tmp_path / "reports/synthetic/index.html").read_bytes()
    assert b"connect-src" not in written
    assert ask(address, "/report.json")[0] == ask(address, "/tables/table3.csv")[0] == 200
    link = tmp_path / "reports/synthetic/link.txt"
    link.symlink_to(tmp_path / "secret.txt")
    for path in (
        "/../../secret.txt", "/tables/../../../secret.txt", "/%2e%2e/%2e%2e/secret.txt", "/..%2f..%2fsecret.txt",
        "//etc/passwd", "/etc/passwd", "/link.txt", "/tables", "/tables/", "/none", "/%00", "/..\\..\\secret.txt",
    ):  # fmt: skip
        status, content = ask(address, path)
        assert (path, status, b"secret" in content) == (path, 404, False)
    assert ask(address, "/", "evil.example")[0] == 403


def test_who_does_not_know_the_address_learns_nothing(served: tuple[Any, Any, str]) -> None:
    """Whoever has an account on the machine can connect; a word of 128 random bits is what they lack."""
    _, _, address = served
    where = urlsplit(address)
    (word,) = where.path.strip("/").split("/")
    assert len(set(word)) > 8
    assert len(word) == 22
    host, other = f"http://{where.netloc}/", f"http://{where.netloc}/{word[::-1]}/"
    for place in (host, other, f"{address[:-2]}/", f"http://{where.netloc}//"):
        for path in ("", "index.html", "progress.json", "report.json", "results.csv", "tables/table3.csv", "%ff", "é"):
            status, content = ask(place, urllib.parse.quote(path, safe="/%"))
            assert (status, b"synthetic" in content, word.encode() in content) == (404, False, False)
    assert ask(host, where.path)[0] == 200


def test_a_result_that_arrives_gives_a_new_version(served: tuple[Any, Any, str]) -> None:
    store, table, address = served
    _, before = ask(address, "/progress.json")
    assert b"11 of 12 measurements done, 1 not run, time left not known yet" in before
    synthetic.write_measurement(store, table.runs[-1], 3.21)
    for _ in range(100):
        _, after = ask(address, "/progress.json")
        if b'"version": 2' in after and b"12 of 12" in after:
            break
        time.sleep(0.1)
    assert b'"share": 1.0, "words": "12 of 12 measurements done"' in after
    assert b"3.21" in ask(address, "/")[1]


def test_a_look_without_news_makes_nothing_anew(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    watched = Watched(store, tmp_path / "report")
    watched.refresh()
    page = watched.target / "index.html"
    page.unlink()
    watched.refresh()
    assert (watched.version, page.exists()) == (1, False)
    synthetic.write_heartbeat(store, table.runs[0])
    watched.refresh()
    assert (watched.version, page.exists()) == (2, True)


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.integration
def test_the_open_page_gains_results_while_a_grid_runs(browser: Any, tmp_path: Path, scratch: Path) -> None:
    grid = ("run", "grids/table3.yaml", "--scale", "smoke", "--study", "watched", "--set", "seeds=[0]")
    running = harness(tmp_path, *grid)
    record = tmp_path / "results/watched/grids/table3.json"
    processes = [running]
    try:
        wait_until(record.is_file, 240)  # it loads torch first, beside whatever else the cores do
        watching = harness(tmp_path, "report", "watched", "--watch")
        processes.append(watching)
        assert watching.stdout
        address = watching.stdout.readline().split()[3]
        browser.get(address)
        done = lambda: browser.execute_script(DONE)  # noqa: E731
        before = done()
        assert before < 6
        browser.execute_script(
            "window.sameDocument = true; const last = [...document.querySelectorAll('.training')].at(-1);"
            "location.hash = last.id; last.querySelector('details').open = true;"
            "await new Promise(resolve => addEventListener('scrollend', resolve, {once: true}));"  # smooth, to the run
            "document.getElementById('filter-words').value = 'block';"
            "document.getElementById('filter-words').dispatchEvent(new Event('input'));"
            "document.getElementById('table-table3').scrollIntoView({behavior: 'instant'});"
        )
        place = "return document.getElementById('table-table3').getBoundingClientRect().top"
        top = browser.execute_script(place)
        wait_until(lambda: done() == 6, 240)
        assert browser.execute_script("return window.sameDocument")
        assert browser.execute_script(place) == pytest.approx(top, abs=1)
        assert browser.execute_script("return document.getElementById('filter-words').value") == "block"
        shown = browser.execute_script("return document.getElementById('filter-count').textContent")
        assert shown == "5 of 6 runs"
        opened = (
            "return [...document.querySelectorAll('.training')].map(one => [one.offsetHeight > 0, one.querySelector"
        )
        trainings = browser.execute_script(f"{opened}('details').open])")
        assert trainings == [[False, False]] * 4 + [[True, True]]
        wait_until(lambda: "5 of 5 measurements done" in browser.find_element("id", "live").text)
        assert browser.get_log("browser") == []
        assert running.wait(60) == 0
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(20)


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.integration
def test_results_move_nothing_that_begins_a_fraction_above_the_window(
    browser: Any, served: tuple[Any, Any, str]
) -> None:
    """Layout has fractions of pixels, scroll positions have none; and the next section begins in the window too."""
    store, table, address = served
    for run in table.runs[1:-1]:
        store.eval_path(run.train_id, run.eval_id).unlink()
    wait_until(lambda: b"1 of 12 measurements done" in ask(address, "/progress.json")[1])
    metrics = {"width": 1100, "height": 2000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.get(address)
        wait_until(lambda: "1 of 12" in browser.find_element("id", "live").text)
        place = "return document.getElementById('table-table3').getBoundingClientRect().top"
        browser.execute_script(
            "const section = document.getElementById('table-table3');"
            "section.style.marginTop = `${40.4 - section.getBoundingClientRect().top % 1}px`;"
            "document.querySelector('main').style.paddingBottom = '3000px';"
            "scrollTo({top: Math.ceil(section.getBoundingClientRect().top), behavior: 'instant'});"
        )
        top = browser.execute_script(place)
        assert -1 < top < 0
        for run in table.runs[1:]:
            synthetic.write_measurement(store, run, 3.21)
        wait_until(lambda: browser.execute_script(DONE) == 12)
        assert browser.execute_script(place) == pytest.approx(top, abs=1)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


DONE = "return document.querySelectorAll('#all-runs tbody tr[data-state=done]').length"


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)
