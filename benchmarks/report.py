"""A report of many runs: seconds to collect and to write it, the weight of its page, and how fast Chromium opens it and
the panel behind a number.

The study is made from a stored one: its tables with more seeds, each a copy of a stored seed with other numbers.
Run: OMP_NUM_THREADS=1 python benchmarks/report.py --runs 500
"""

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.config.grid import Run, Table, load_table
from harness.files import read_json
from harness.report.reading.collect import collect
from harness.report.reading.tidy import tidy_table
from harness.report.rendering.page import make_report
from harness.store.records import write_spec
from harness.store.store import Store
from harness.store.study import study_tables

OPENED = """
const [opened] = performance.getEntriesByType("navigation");
const paint = performance.getEntriesByName("first-contentful-paint")[0];
return [opened.loadEventEnd, paint ? paint.startTime : NaN];
"""

NUMBERS = 'main a[href^="#runs-"]'
CLICKED = """
const panel = document.getElementById("panel"), link = document.querySelectorAll(arguments[0])[arguments[1]];
link.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
panel.getBoundingClientRect(); // lays the page out
return panel.querySelectorAll("*").length;
"""


def main() -> None:
    """Print what was measured, in one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="at least so many measurements")
    parser.add_argument("--tables", nargs="*", help="of these tables alone; by default of all")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--study", default="digits")
    parser.add_argument("--opened", type=int, default=5, help="how often Chromium opens the page")
    arguments = parser.parse_args()
    source = Store(arguments.results, Path("scratch"), arguments.study)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "results", Path(folder) / "scratch", "many")
        tables = many(source, arguments.tables)(arguments.runs)
        written = copied(source, store, tables)
        print(f"{written} measurements of {len({run.train_id for t in tables for run in t.runs})} trainings")
        print(f"collect: {timed(lambda: tidy_table(collect(store, tables)))}")
        page = Path(folder) / "report" / "index.html"
        print(f"collect and report: {timed(lambda: make_report(store, tables, page.parent))}")
        others = [path.stat().st_size for path in (page.parent / "runs").glob("*.html")]
        print(f"page {page.stat().st_size / 1e6:.2f} MB; {len(others)} pages beside it, {sum(others) / 1e6:.2f} MB")
        opened = [open_in_chromium(page, folder) for _ in range(arguments.opened)]
        if opened:
            loaded, painted, busy = map(statistics.median, list(zip(*opened, strict=True))[:3])
            print(f"Chromium: loaded after {loaded:.0f} ms, painted after {painted:.0f} ms, {busy:.0f} CPU-ms")
            clicks = [click for *_, of_page in opened for click in of_page]
            taken, layouts, elements = zip(*clicks, strict=True)
            print(f"panel: {statistics.median(taken):.0f} CPU-ms, the slowest of {len(taken)} clicks {max(taken):.0f}; "
                  f"at most {max(layouts):.0f} layouts and {max(elements)} elements")  # fmt: skip


def timed(work: Callable[[], object]) -> str:
    """Do it and say how long it took by the clock and of the processor, with the processes that it begins: on a shared
    machine the two differ."""
    begun, busy = time.perf_counter(), sum(os.times()[:4])
    work()
    return f"{time.perf_counter() - begun:.2f} s, {sum(os.times()[:4]) - busy:.2f} CPU-s"


def many(source: Store, names: Sequence[str] | None) -> Any:
    """Return a function of how many measurements are wanted, which expands the study's tables to as many seeds."""
    known = [table for table in study_tables(source) if not names or table.name in names]
    records = {Path(record.grid).stem: record for record in source.grids()}

    def expand(seeds: int) -> list[Table]:
        said = f"seeds={list(range(seeds))}"
        return [
            load_table(Path(records[t.name].grid), t.scale.scale, [*records[t.name].without_seeds().overrides, said])
            for t in known
        ]

    def at_least(runs: int) -> list[Table]:
        of_one = len({run.eval_id for table in expand(1) for run in table.runs})
        return expand(-(-runs // of_one))

    return at_least


def copied(source: Store, store: Store, tables: Sequence[Table]) -> int:
    """Write every run of the tables as a copy of a stored seed of its cell; return how many measurements there are."""
    stored = {table.name: table for table in study_tables(source)}
    generator, written = random.Random(0), set()
    for table in tables:
        store.record_grid(table.name, Path("grids") / f"{table.name}.yaml", table.scale.scale, [])
        for cell in table.cells:
            known = stored[table.name].cell(cell.at)
            assert known
            for index, run in enumerate(cell.runs):
                if run.eval_id not in written:
                    _copy(source, store, known.runs[index % len(known.runs)], run, generator)
                    written.add(run.eval_id)
    return len(written)


def _copy(source: Store, store: Store, old: Run, new: Run, generator: random.Random) -> None:
    folder, target = source.run_folder(old.train_id), store.run_folder(new.train_id)
    if not target.is_dir():
        (target / "evals").mkdir(parents=True)
        write_spec(target, new.train)
        for name in ("train.jsonl", "env.json", "facts.json"):
            if (folder / name).is_file():
                shutil.copy(folder / name, target / name)
    content = read_json(source.eval_path(old.train_id, old.eval_id))
    spec = new.evaluation.model_dump(mode="json", by_alias=True, exclude_none=True)
    content |= {"train_id": new.train_id, "eval_id": new.eval_id, "spec": spec}
    content["metrics"]["fid"] *= generator.uniform(0.95, 1.05)
    path = store.eval_path(new.train_id, new.eval_id)
    path.write_text(json.dumps(content), encoding="utf-8")
    shutil.copy(source.eval_path(old.train_id, old.eval_id).with_suffix(".png"), path.with_suffix(".png"))


def open_in_chromium(page: Path, folder: str) -> tuple[float, float, float, list[tuple[float, float, int]]]:
    """Return milliseconds until loaded, until something is seen, and of the processor, in a fresh Chromium; and what
    `clicked` does.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tempfile.mkdtemp(dir=folder)}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver") or ""))
    try:
        driver.get("about:blank")
        before = cpu_seconds(folder)
        driver.get(page.as_uri())
        loaded, painted = driver.execute_script(OPENED)
        busy = 1000 * (cpu_seconds(folder) - before)
        return float(loaded), float(painted), busy, clicked(driver)
    finally:
        driver.quit()


def clicked(driver: Any, most: int = 30) -> list[tuple[float, float, int]]:
    """Click on numbers all over the page; return of each the CPU-milliseconds until the panel behind it is laid out,
    how often the page was laid out, and the elements of the panel.
    """
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> tuple[float, float]:
        metrics = {m["name"]: m["value"] for m in driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]}
        return 1000 * metrics["TaskDuration"], metrics["LayoutCount"]

    count, clicks = driver.execute_script("return document.querySelectorAll(arguments[0]).length", NUMBERS), []
    for place in range(0, count, -(-count // most)):
        before = spent()
        elements = driver.execute_script(CLICKED, NUMBERS, place)
        taken, layouts = (now - then for now, then in zip(spent(), before, strict=True))
        clicks.append((taken, layouts, elements))
    return clicks


def cpu_seconds(word: str) -> float:
    """Return the processor time of all processes that have a word in their command line."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if word in (path / "cmdline").read_text(encoding="utf-8", errors="replace"):
                ticks += sum(map(int, (path / "stat").read_text().rpartition(")")[2].split()[11:13]))
        except OSError:
            continue  # it ended meanwhile
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
