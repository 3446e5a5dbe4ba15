"""The report for every reader, in a real Chromium: axe-core's rules, print, gaps of every kind, and hostile words."""

import base64
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import synthetic_study as synthetic
from support.places import ROOT

from harness.config.grid import Run, Table, load_table
from harness.report.rendering import trainings
from harness.report.rendering.page import make_report
from harness.store.store import Store

AXE = ROOT / "build/node_modules/axe-core/axe.min.js"
HOSTILE = (
    '<img src="x" onerror="alert(1)"><script>alert(2)</script> $\\frac{1}{2}$ {{ 7 * 7 }} =1+1 javascript:alert(3)'
)
OTHER = {"features": "classifier-digits-ffffffffffff", "generated": 500}

pytestmark = pytest.mark.integration


def hostile_table(folder: Path) -> Table:
    """Table 3 with a label that is HTML, a formula and a template at once."""
    shutil.copytree(synthetic.GRIDS, folder / "grids")
    grid = folder / "grids" / "table3.yaml"
    quoted = "'" + HOSTILE + "'"
    text = grid.read_text(encoding="utf-8").replace("block: all", f"block: {quoted}").replace(", all]", f", {quoted}]")
    grid.write_text(text.replace("    all: {", f"    {quoted}: {{"), encoding="utf-8")
    return load_table(grid, "digits", ["seeds=[0,1,2,3,4]"])


def measured(store: Store, runs: list[Run], missing: list[Run]) -> None:
    for index, run in enumerate(runs):
        if run not in missing:
            picture = synthetic.noise_picture(index)
            synthetic.write_measurement(store, run, 4.0 + index % 7 * 0.1, picture=picture)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Run]]:
    """30 runs of which a fifth is missing, one diverged, one failed, one runs, and one was measured otherwise."""
    folder = tmp_path_factory.mktemp("gaps")
    store, table = synthetic.new_store(folder), hostile_table(folder)
    cells = {dict(cell.at)["block"]: list(cell.runs) for cell in table.cells}
    failed, diverged, running = cells["1 of 12"][0], cells["3 of 12 (default)"][1], cells["7 of 12"][2]
    absent = [cells["none"][4], cells["12 of 12"][3], cells[HOSTILE][4]]
    measured(store, list(table.runs), [failed, diverged, running, *absent])
    synthetic.write_error(store, failed, "error", HOSTILE, traceback=f"Traceback:\n  {HOSTILE}")
    synthetic.write_error(store, diverged, "diverged", "the loss was nan at step 300")
    synthetic.write_heartbeat(store, running)
    other = cells["12 of 12"][0]
    synthetic.write_measurement(store, other, 9.0, OTHER)
    page = make_report(store, [table], folder / "reports" / store.study)
    return page, {"failed": failed, "diverged": diverged, "running": running, "absent": absent[0], "other": other}


def rows(browser: Any) -> dict[str, list[str]]:
    return browser.execute_script(
        "return Object.fromEntries([...document.querySelectorAll('.pivot tbody tr, .pivot tfoot tr')].map("
        "row => [row.cells[0].firstChild.textContent.trim(), [...row.cells].slice(1).map(cell => cell.innerText)]))"
    )


def test_each_gap_has_its_own_mark_and_its_reason(browser: Any, study: tuple[Path, dict[str, Run]]) -> None:
    page, runs = study
    browser.get(page.as_uri())
    ours = {label: cells[0] for label, cells in rows(browser).items()}
    assert re.fullmatch(r"4\.\d\d\s±\s\d\.\d\d *a? n=4 seed 0 failed", ours["1 of 12"].replace("\n", " "))
    assert "seed 1 diverged" in ours["3 of 12 (default)"]
    assert "seed 2 running" in ours["7 of 12"]
    assert "seed 4 not run" in ours["none"]
    assert "seed 4 not run" in ours[HOSTILE]
    assert ours["12 of 12"].startswith("mixed protocols")
    assert "9.00b" in ours["12 of 12"].replace("\n", "")
    assert "seed 3 not run" in ours["12 of 12"]
    missing_words = browser.find_element("css selector", ".missing").text
    for words in (HOSTILE, "the loss was nan at step 300", "training, step 400 of 1200", "no job has begun this run"):
        assert words in missing_words
    states = browser.execute_script(
        "return [...document.querySelectorAll('#all-runs tbody tr')].map(r => r.dataset.state)"
    )
    assert {state: states.count(state) for state in states} == {
        "done": 24, "failed": 1, "diverged": 1, "running": 1, "not run": 3,
    }  # fmt: skip
    assert "This table mixes protocols." in browser.find_element("id", "table-table3").text
    browser.get(f"{page.as_uri()}#training-{runs['failed'].train_id}")
    browser.find_element("css selector", ".training.shown summary").send_keys("\ue007")
    assert f"Traceback:\n  {HOSTILE}" in browser.find_element("css selector", ".training.shown pre").text


def test_hostile_words_are_shown_as_text_and_nothing_of_them_runs(browser: Any, study: tuple[Path, Any]) -> None:
    from selenium.common.exceptions import NoAlertPresentException

    page, _ = study
    browser.get_log("browser")
    browser.get(page.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    with pytest.raises(NoAlertPresentException):
        _ = browser.switch_to.alert.text
    assert HOSTILE in browser.find_element("id", "table-table3").text
    sources = browser.execute_script("return [...document.querySelectorAll('[src], [href]')].map(e => e.src || e.href)")
    assert [s for s in sources if isinstance(s, str) and not s.startswith(("data:", "file:"))] == []
    assert browser.execute_script("return document.querySelectorAll('script, [onerror], iframe, object').length") == 1
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1100])
def test_axe_finds_no_serious_fault(browser: Any, study: tuple[Path, Any], scheme: str, width: int) -> None:
    if not AXE.is_file():
        pytest.skip("not installed: npm install --no-save --prefix build axe-core")
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    page, runs = study
    browser.get("about:blank")  # else only the place in the page would change
    browser.get(f"{page.as_uri()}#training-{runs['other'].train_id}")
    assert faults(browser) == []
    browser.execute_script("document.querySelector('.pivot th').style.color = 'var(--rule)'")
    assert [fault for fault, _ in faults(browser)] == ["color-contrast"]  # it would have found one


def faults(browser: Any) -> list[tuple[str, list[str]]]:
    """Return what axe-core calls serious or critical, with everything that is folded opened."""
    browser.execute_script(
        "document.querySelectorAll('main > section details, .shown details').forEach(d => d.open = true)"
    )
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    browser.set_script_timeout(120)
    violations = browser.execute_async_script(
        "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(result => done("
        "result.violations.filter(v => ['serious', 'critical'].includes(v.impact))"
        ".map(v => [v.id, v.nodes.map(n => n.html)])))"
    )
    return [(name, nodes) for name, nodes in violations]


def test_print_cuts_no_table_and_leaves_out_what_is_folded(
    browser: Any, tmp_path: Path, needs: Callable[..., None]
) -> None:
    """Each table's rows stand on one page of the PDF, though the pages before it are filled to any height."""
    needs("pdftotext")
    store = synthetic.new_store(tmp_path)
    tables = [synthetic.table_of(name) for name in ("table2", "table3", "table4", "figure4", "convergence")]
    synthetic.full_study(store, tables)
    page = make_report(store, tables, tmp_path / "report")
    browser.get(page.as_uri())
    shown = browser.execute_script(
        "return [...document.querySelectorAll('.pivot:not(.elsewhere) tbody, .pivot tfoot')].map("
        "part => [...part.querySelectorAll('th[scope=row]')].map(head => head.firstChild.textContent.trim()))"
    )
    assert len(shown) >= 5
    pages = printed(browser, tmp_path)
    for labels in shown:
        assert any(in_order(labels, text) for text in pages), labels
    assert not any("more pictures" in text or "Every run" in text for text in pages)
    assert sum(text.count("Table 4. ") for text in pages) == 1
    assert any("H" in text and "high" in text for text in pages)


def printed(browser: Any, folder: Path) -> list[str]:
    """Print to PDF on A4 and return the text of each page."""
    size = {"paperWidth": 8.27, "paperHeight": 11.69}
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", size)["data"])
    (folder / "report.pdf").write_bytes(pdf)
    words = ["pdftotext", "-layout", str(folder / "report.pdf"), "-"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\f")


def in_order(labels: list[str], text: str) -> bool:
    """Tell whether the labels begin lines of the text, one after the other."""
    lines = iter(line.strip() for line in text.splitlines())
    return all(any(line.startswith(label) for line in lines) for label in labels)


@pytest.mark.waits
def test_a_heavy_study_has_pages_of_trainings_and_leads_there_and_back(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    target = tmp_path / "report"
    light = make_report(store, [table], target).read_text(encoding="utf-8")
    assert not (target / "runs").exists()
    monkeypatch.setattr(trainings, "IN_PAGE", 1000)
    monkeypatch.setattr(trainings, "A_PAGE", 20000)
    page = make_report(store, [table], target)
    assert len(list((target / "runs").glob("*.html"))) > 1
    assert "<article" in light
    assert "<article" not in page.read_text(encoding="utf-8")
    browser.get_log("browser")
    browser.get(page.as_uri())
    browser.execute_script("document.querySelector('#index details').open = true")
    run = browser.find_elements("css selector", "#all-runs tbody a")[-1]
    name = run.text
    run.send_keys("\ue007")
    assert "/report/runs/" in browser.current_url
    shown = [a.text for a in browser.find_elements("css selector", ".training") if a.is_displayed()]
    assert [text.partition(",")[0] for text in shown] == [f"Training {name}"]
    assert browser.execute_script("return document.querySelector('.training:target img').naturalWidth") == 80
    browser.find_element("css selector", ".training:target dd a").send_keys("\ue007")
    assert browser.current_url.startswith(f"{page.as_uri()}#runs-")
    browser.back()
    browser.back()
    assert browser.current_url == page.as_uri()
    assert browser.get_log("browser") == []
    monkeypatch.undo()
    assert make_report(store, [table], target).read_text(encoding="utf-8") == light
    assert list((target / "runs").glob("*.html")) == []
