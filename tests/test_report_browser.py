"""The report in a real browser: no error on its console, and no request that leaves the file."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import synthetic_study as synthetic

from harness.report.page import make_report

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def browser(needs: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    needs("chromium", "chromedriver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with every table, and one run of each kind of gap."""
    folder = tmp_path_factory.mktemp("study")
    store = synthetic.new_store(folder)
    tables = [synthetic.table_of(name) for name in ("table2", "table3", "table4", "convergence")]
    synthetic.full_study(store, tables)
    runs = [run for loss in ("Hinge", "Covariance") for run in synthetic.cell_of(tables[0], loss, "dispersive").runs]
    for run in runs:
        store.eval_path(run.train_id, run.eval_id).unlink()
    synthetic.write_error(store, runs[0], "error", "<img src=https://example.org/x.png onerror=alert(1)>")
    synthetic.write_error(store, runs[1], "diverged", "the loss was nan")
    synthetic.write_heartbeat(store, runs[2])
    return make_report(store, tables, folder / "reports" / store.study)


def open_page(browser: Any, page: Path, width: int = 1100, scheme: str = "light") -> tuple[list[str], list[str]]:
    """Open the page; return the addresses it asked for and what stands on its console."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(page.as_uri())
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return asked, [entry["message"] for entry in browser.get_log("browser")]


def test_the_page_opens_from_disk_without_an_error_or_a_request(browser: Any, page: Path) -> None:
    asked, console = open_page(browser, page)
    assert asked[0] == page.as_uri()
    assert [url for url in asked[1:] if not url.startswith("data:")] == []
    assert console == []
    assert browser.title == "Dispersive Loss: study synthetic"


def test_the_watch_for_requests_and_errors_sees_them(browser: Any, page: Path) -> None:
    """The same page with an outside picture and a broken script: the test above must be able to fail."""
    spoilt = page.with_name("spoilt.html")
    html = page.read_text(encoding="utf-8")
    policy = html[html.index("<meta http-equiv") : html.index("<link rel")]
    outside = '<img src="http://127.0.0.1:9/x.png" alt=""><script>undefinedFunction()</script></main>'
    spoilt.write_text(html.replace(policy, "").replace("</main>", outside), encoding="utf-8")
    asked, console = open_page(browser, spoilt)
    assert "http://127.0.0.1:9/x.png" in asked
    assert any("undefinedFunction" in line for line in console)
    spoilt.write_text(html.replace("</main>", outside), encoding="utf-8")
    _, console = open_page(browser, spoilt)
    assert any("Content Security Policy" in line for line in console)


def test_pictures_and_mathematics_are_drawn(browser: Any, page: Path) -> None:
    open_page(browser, page)
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('img, svg, math')].map(e => {"
        " const box = e.getBoundingClientRect();"
        " return [e.tagName.toLowerCase(), box.width, box.height, e.naturalWidth ?? 1]; })"
    )
    kinds = [kind for kind, *_ in sizes]
    assert (kinds.count("img"), kinds.count("svg")) == (3, 4)  # two of the five strips are of runs without samples
    assert kinds.count("math") > 10
    assert all(width > 5 and height > 5 and natural > 0 for _, width, height, natural in sizes)


@pytest.mark.parametrize("width", [390, 1100])
def test_nothing_sticks_out_of_the_window(browser: Any, page: Path, width: int) -> None:
    open_page(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_no_table_needs_to_be_scrolled_in_a_wide_window(browser: Any, page: Path) -> None:
    open_page(browser, page, 1100)
    widths = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].map(e => [e.ariaLabel, e.scrollWidth - e.clientWidth])"
    )
    assert widths[0][0] == "Table 1"
    assert [label for label, excess in widths if excess > 0] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast_in_both_themes(browser: Any, page: Path, scheme: str) -> None:
    """WCAG 2: at least 4.5 between text and page, for the colours that text is set in."""
    open_page(browser, page, scheme=scheme)
    ratios = browser.execute_script("""
        const style = getComputedStyle(document.documentElement), canvas = document.createElement('canvas');
        const context = canvas.getContext('2d', {willReadFrequently: true});
        const luminance = name => {
            context.fillStyle = style.getPropertyValue(name); context.fillRect(0, 0, 1, 1);
            const linear = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map(value => {
                const c = value / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]; };
        const contrast = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
            return (x + 0.05) / (y + 0.05); };
        return Object.fromEntries(['--ink', '--muted', '--better', '--worse', '--alarm'].map(
            name => [name, contrast(name, '--paper')]));
    """)
    assert len(ratios) == 5
    assert min(ratios.values()) >= 4.5, ratios
