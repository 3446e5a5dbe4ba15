"""The report in a real browser: no error on its console, and no request that leaves the file."""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from support import synthetic_study as synthetic
from support.places import ROOT

from harness.report.analysis.pivot import Estimate
from harness.report.analysis.statistics import change_between
from harness.report.analysis.text import estimate, percent_change
from harness.report.rendering.page import make_report, report
from harness.store.store import Store

pytestmark = pytest.mark.integration
ENTER = "\ue007"


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


def open_page(
    browser: Any, page: Path, width: int = 1100, scheme: str = "light", height: int = 900
) -> tuple[list[str], list[str]]:
    """Open the page; return the addresses it asked for and what stands on its console."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(page.as_uri())
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return requests, [entry["message"] for entry in browser.get_log("browser")]


def test_the_page_opens_from_disk_without_an_error_or_a_request(browser: Any, page: Path) -> None:
    requests, console = open_page(browser, page)
    assert requests[0] == page.as_uri()
    assert [url for url in requests[1:] if not url.startswith("data:")] == []
    assert console == []
    assert browser.title == "Dispersive Loss: study synthetic"


def test_the_watch_for_requests_and_errors_sees_them(browser: Any, page: Path) -> None:
    """The same page with an outside picture and a broken script: the test above must be able to fail."""
    spoilt = page.with_name("spoilt.html")
    html = page.read_text(encoding="utf-8")
    policy = html[html.index("<meta http-equiv") : html.index("<link rel")]
    outside = '<img src="http://127.0.0.1:9/x.png" alt=""><script>undefinedFunction()</script></main>'
    spoilt.write_text(html.replace(policy, "").replace("</main>", outside), encoding="utf-8")
    requests, console = open_page(browser, spoilt)
    assert "http://127.0.0.1:9/x.png" in requests
    assert any("undefinedFunction" in line for line in console)
    spoilt.write_text(html.replace("</main>", outside), encoding="utf-8")
    _, console = open_page(browser, spoilt)
    assert any("Content Security Policy" in line for line in console)


def unfold(browser: Any, sections: str = "details") -> None:
    browser.execute_script(f"document.querySelectorAll('{sections}').forEach(part => {{ part.open = true; }})")


def test_pictures_and_mathematics_are_drawn(browser: Any, page: Path) -> None:
    open_page(browser, page)
    unfold(browser)
    sizes = browser.execute_script(
        "return [...document.querySelectorAll(':is(.table, #objectives) :is(img, svg, math)')].map(e => {"
        " const box = e.getBoundingClientRect();"
        " return [e.tagName.toLowerCase(), box.width, box.height, e.naturalWidth ?? 1]; })"
    )
    kinds = [kind for kind, *_ in sizes]
    # Two of the five strips are of runs without samples; every table has three rows of pairs, a figure and a plane.
    assert (kinds.count("img"), kinds.count("svg")) == (3 + 4 * 3, 4 * 2 + 1)
    assert kinds.count("math") > 10
    assert [size for size in sizes if size[1] < 4 or size[2] < 4 or not size[3]] == []


@pytest.mark.parametrize("width", [390, 1100])
def test_nothing_sticks_out_of_the_window(browser: Any, page: Path, width: int) -> None:
    open_page(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [390, 1100])
def test_no_table_that_stands_open_needs_to_be_scrolled(browser: Any, page: Path, width: int) -> None:
    open_page(browser, page, width)
    unfold(browser, "#objectives details")
    widths = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter(e => !e.closest('details:not([open])'))"
        ".map(e => [e.ariaLabel, e.scrollWidth - e.clientWidth])"
    )
    assert ["Table 1", 0] in widths
    assert [label for label, excess in widths if excess > 0] == []


@pytest.mark.slow
def test_the_report_of_the_digits_is_short_and_begins_with_its_answer(browser: Any, tmp_path: Path) -> None:
    """Screens of 1440 × 900 and words before anything is unfolded; digits are drawn at 8 times their size."""
    page = report(Store(ROOT / "results", tmp_path, "digits"), tmp_path / "reports")
    for width, height in ((390, 844), (1920, 1080), (1440, 900)):
        requests, console = open_page(browser, page, width, height=height)
        assert ([url for url in requests[1:] if not url.startswith("data:")], console) == ([], [])
        answer = browser.find_element("id", "answer")
        assert answer.find_element("class name", "verdict").text.startswith(
            "Here the paper’s loss makes FID worse by 27 %"
        )
        tiles = browser.execute_script(
            "return [...document.querySelectorAll('.seen .row')].map(row => {"
            " return row.getBoundingClientRect().height / row.firstChild.naturalHeight; })"
        )
        assert tiles == [8, 8, 8]  # real, without and with the loss
        silent = browser.execute_script(
            "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 3"
            " && !getComputedStyle(e, '::before').content.includes('right')).map(e => e.ariaLabel)"
        )
        assert silent == []  # what scrolls sideways says so
    findings = [finding.text for finding in browser.find_elements("css selector", ".finding")]
    assert len(findings) >= 15
    assert [words for words in findings if re.search(r"[+−]\d", words)] == []  # better or worse is said, not a sign
    assert "worse" in browser.find_element("css selector", "#guidance .finding").text
    best = browser.execute_script(
        "return [...document.querySelectorAll('.pivot .tag')].map("
        "tag => getComputedStyle(tag.closest('td').querySelector('.ours')).fontWeight)"
    )
    assert len(best) > 10
    assert set(best) == {"700"}  # in every table, not in some
    badge = browser.find_element("css selector", ".pivot:not(.elsewhere) abbr.source")
    browser.execute_script("arguments[0].focus()", badge)
    said = browser.execute_script("return getComputedStyle(arguments[0], '::after').content", badge)
    assert "confidence; source: " in said  # by keyboard and touch, not under a pointer alone
    counts = browser.execute_script("""
        const words = text => text.match(/\\S+/g)?.length ?? 0, all = document.body.innerText;
        const edge = document.querySelector('#answer .first').getBoundingClientRect();
        return {
            screens: document.documentElement.scrollHeight / 900, words: words(all),
            before: words(document.querySelector('main').innerText.split('Here the paper')[0]),
            firstScreen: edge.bottom + scrollY, more: document.getElementById('answer').nextElementSibling.offsetTop,
        };""")
    assert counts["screens"] <= 12, counts
    assert counts["words"] <= 3500, counts
    assert counts["before"] <= 10, counts
    assert counts["firstScreen"] <= 900 - 20, counts
    assert counts["more"] >= 880, counts  # nothing else stands on the first screen


def shown_runs(browser: Any) -> list[list[str]]:
    """Return the visible lines of the run index: table, cell, seed, value, state."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#all-runs tbody tr')].filter(row => row.offsetParent)"
        ".map(row => [...row.cells].slice(0, 5).map(cell => cell.textContent))"
    )


def test_the_run_index_filters_and_sorts(browser: Any, page: Path) -> None:
    open_page(browser, page)
    unfold(browser, "#index details")
    everything = shown_runs(browser)
    browser.find_element("id", "filter-words").send_keys("table 2 HINGE dispersive")
    assert [(run[1], run[4]) for run in shown_runs(browser)] == [
        ("Hinge · dispersive", "failed"), ("Hinge · dispersive", "diverged"),
    ]  # fmt: skip
    assert browser.find_element("id", "filter-count").text == f"2 of {len(everything)} runs"
    browser.find_element("id", "filter-none").send_keys(ENTER)
    assert shown_runs(browser) == everything
    browser.find_element("id", "filter-state").send_keys("failed")
    assert {run[4] for run in shown_runs(browser)} == {"failed"}
    browser.find_element("id", "filter-none").send_keys(ENTER)
    head = browser.find_element("css selector", "#all-runs th:nth-child(4)")
    for direction in ("ascending", "descending"):
        head.find_element("css selector", "button").send_keys(ENTER)
        assert head.get_attribute("aria-sort") == direction
        values = [run[3] for run in shown_runs(browser)]
        numbers = [float(value) for value in values if value]
        assert numbers == sorted(numbers, reverse=direction == "descending")
        assert values[len(numbers) :] == [""] * (len(values) - len(numbers))
        assert sorted(shown_runs(browser)) == sorted(everything)


def focused(browser: Any) -> str:
    return browser.execute_script("return document.activeElement.textContent")


def until(browser: Any, holds: Callable[[], object]) -> None:
    """Wait until something holds; fail where it does not."""
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, 30).until(lambda _: holds())


CELL = "#table-table2 tbody tr:nth-child(2) td:nth-child(4) .behind"  # InfoNCE, ℓ2 · dispersive


@pytest.mark.waits
def test_by_keyboard_a_number_opens_what_is_behind_it_and_the_page_stays(browser: Any, page: Path) -> None:
    open_page(browser, page)
    link = browser.find_element("css selector", CELL)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", link)
    browser.execute_script("arguments[0].focus()", link)
    place = pytest.approx(browser.execute_script("return scrollY"), abs=5)
    link.send_keys(ENTER)
    panel = browser.find_element("id", "panel")
    until(browser, panel.is_displayed)
    assert focused(browser).startswith("Table 2, InfoNCE, ℓ2 · dispersive")
    assert browser.execute_script("return scrollY") == place
    seeds = panel.find_elements("css selector", ".seeds button")
    assert [button.text for button in seeds] == ["0: 4.20", "1: 4.40"]
    choices = "return document.querySelectorAll('#panel option').length"
    assert browser.execute_script(choices) == 2  # a study has hundreds of cells, which only a comparison asks for
    panel.find_element("css selector", "select").send_keys("")
    assert browser.execute_script(choices) == 2 + len(browser.find_elements("css selector", "#all-runs tr[id]"))
    words = ("seeds=0", "FID\n4.20", "precision\n0.500", "classifier-digits-1a2b3c4d5e6f", "results/synthetic/", "Copy")
    for word in (*words, "harness run grids/table2.yaml --scale digits --study synthetic"):
        assert word in panel.text
    pictures = "return [...document.querySelectorAll('#panel img')].map(i => [i.naturalWidth, i.offsetWidth > 80])"
    assert browser.execute_script(pictures) == [[80, True]] * 4  # the training was measured at four lengths
    seeds[1].send_keys(ENTER)
    assert [button.get_attribute("aria-pressed") for button in seeds] == ["false", "true"]
    assert "seeds=1" in panel.text
    unfold(browser, "#panel details")
    assert '"loss": "infonce-l2"' in panel.text
    assert '"method": "heun"' in panel.text
    address = browser.current_url
    assert address.endswith("#runs-table-table2-3")
    browser.switch_to.active_element.send_keys("\ue00c")  # Escape
    assert not panel.is_displayed()
    assert (browser.current_url, browser.execute_script("return scrollY")) == (page.as_uri(), place)
    assert browser.switch_to.active_element == link
    link.send_keys(ENTER)
    until(browser, panel.is_displayed)
    browser.back()
    until(browser, lambda: not panel.is_displayed())
    assert browser.switch_to.active_element == link
    browser.get("about:blank")
    browser.get(address)
    until(browser, lambda: browser.find_element("id", "panel").is_displayed())
    assert browser.get_log("browser") == []


@pytest.mark.waits
def test_by_keyboard_two_runs_stand_side_by_side(browser: Any, tmp_path: Path) -> None:
    """What differs, against the specs themselves; curves on common axes and samples, against what was stored."""
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    ours, theirs = table.cells[3].runs[1], table.cells[0].runs[1]
    for run, losses in ((ours, (4.0, 2.0)), (theirs, (3.0, 1.0))):
        lines = [{"step": step, "denoising": loss} for step, loss in zip((100, 300), losses, strict=True)]
        synthetic.write_text(store.run_folder(run.train_id) / "train.jsonl", "\n".join(map(json.dumps, lines)))
    open_page(browser, make_report(store, [table], tmp_path / "page"))
    browser.find_element("css selector", "#table-table3 tbody tr:nth-child(4) .behind").send_keys(ENTER)
    panel = browser.find_element("id", "panel")
    panel.find_elements("css selector", ".seeds button")[1].send_keys(ENTER)
    panel.find_element("css selector", "select").send_keys("its")
    until(browser, lambda: panel.find_elements("css selector", "table"))
    specs = [
        dict(flattened(spec.model_dump(mode="json", by_alias=True, exclude_none=True)))
        for run in (ours, theirs)
        for spec in (run.train, run.evaluation)
    ]
    differ = {
        key: [side.get(key, "–") for side in pair]
        for pair in (specs[::2], specs[1::2])
        for key in {*pair[0], *pair[1]}
        if pair[0].get(key) != pair[1].get(key)
    }
    shown = browser.execute_script(
        "return [...document.querySelectorAll('#panel table:first-of-type tr:has(th[scope=row])')].map("
        "row => [...row.cells].map(cell => cell.textContent))"
    )
    assert {name: values for name, *values in shown} == differ
    assert "regularizer.loss" in differ
    assert not any("seed" in name for name in differ)  # the same seed of both
    curves = panel.find_elements("css selector", ".curves polyline")
    assert [line.get_attribute("points") for line in curves] == ["0.0,0.0 280.0,60.0", "0.0,30.0 280.0,90.0"]
    samples = [image.get_attribute("src") for image in panel.find_elements("css selector", ".samples img")]
    pictures = [store.eval_path(run.train_id, run.eval_id).with_suffix(".png").read_bytes() for run in (ours, theirs)]
    assert samples == [f"data:image/png;base64,{base64.b64encode(picture).decode()}" for picture in pictures]
    panel.find_elements("css selector", ".seeds")[1].find_element("css selector", "button").send_keys(ENTER)
    assert f"Settings of the training: {len(differ) + 1} of" in panel.text  # now the seed differs too
    assert browser.get_log("browser") == []


def flattened(value: Any, name: str = "") -> list[tuple[str, str]]:
    if not isinstance(value, dict | list):
        words = json.dumps(value)
        return [(name, words.strip('"') if "." not in words else words.removesuffix(".0"))]
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    return [pair for key, part in parts for pair in flattened(part, f"{name}.{key}" if name else str(key))]


@pytest.mark.waits
def test_a_run_of_the_index_opens_its_training_and_back_again(browser: Any, page: Path) -> None:
    open_page(browser, page)
    unfold(browser, "#index details")
    run = browser.find_element("css selector", "#all-runs tbody tr:nth-child(3) a")
    run.send_keys(ENTER)
    until(browser, lambda: visible(browser, ".training"))
    assert focused(browser).startswith(f"Training {run.text}, seed 0: ")
    browser.back()
    until(browser, lambda: not visible(browser, ".training"))
    assert browser.switch_to.active_element == run


def test_another_metric_and_fewer_seeds_change_the_tables_as_the_statistics_say(browser: Any, tmp_path: Path) -> None:
    """The page computes in a language of its own; here is what Python has for the same values."""
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3", "digits", "seeds=[0,1,2,3]")
    values, numbers = {}, np.random.default_rng(0)
    for row, cell in enumerate(table.cells):
        for run in cell.runs:
            precision = float(f"{numbers.normal(0.5 + 0.05 * row * (row != 3), 0.01 * (1 + 30 * (row == 2))):.6g}")
            values[row, run.seed] = precision
            synthetic.write_measurement(store, run, 5.0 + row, further={"precision": precision})
    open_page(browser, make_report(store, [table], tmp_path / "page"))
    unfold(browser, "#view details")
    before = shown_cells(browser)
    browser.find_element("css selector", "#metric option[value=precision]").click()
    browser.find_element("css selector", "#view input[value='1']").send_keys(" ")
    seeds, expected, plotted = (0, 2, 3), [], []
    base = {seed: values[0, seed] for seed in seeds}
    for row in range(len(table.cells)):
        sample = {seed: values[row, seed] for seed in seeds}
        change = replace(change_between(sample, base), adjusted=None) if row else None
        words = percent_change(change).replace("three seeds", "3 seeds") if change else "our baseline"
        sense = ("better" if change.percent > 0 else "worse") if change and change.beyond else "same"
        mean = estimate(Estimate(fmean(sample.values()), stdev(sample.values()), seeds), 3)
        expected.append([f"{mean} n=3", words, sense if change else "aside"])
        if change:
            ends = () if change.silent else (change.interval.low, change.interval.high)
            plotted.append((sense, words.replace("\u202f%", ""), [change.percent, *ends]))
    assert shown_cells(browser) == expected
    for plot in ("#answer", "#table-table3"):  # the plots of changes too, which say of what
        drawn = browser.execute_script(PLOTTED, plot)
        assert drawn["metric"] == "precision"
        assert drawn["ends"] == ["← worse", "better →"]
        assert [(kind, words) for kind, words, _ in drawn["rows"]] == [(kind, words) for kind, words, _ in plotted]
        places = [place for *_, row in drawn["rows"] for place in row]
        values = [value for *_, row in plotted for value in row]
        assert places == pytest.approx(np.polyval(np.polyfit(values, places, 1), values), abs=0.02)  # on one axis
        assert np.polyfit(values, places, 1)[1] == pytest.approx(drawn["zero"], abs=0.02)
    assert not browser.find_element("css selector", "#table-table3 figure.plot").is_displayed()
    assert {sense for *_, sense in expected} >= {"better", "same"}
    assert any("cannot tell" in words for _, words, _ in expected)
    browser.find_element("css selector", "#metric option[value=fid]").click()
    browser.find_element("css selector", "#view input[value='1']").send_keys(" ")
    assert shown_cells(browser) == before
    assert browser.execute_script(PLOTTED, "#answer")["metric"] == "FID"
    assert browser.find_element("css selector", "#table-table3 figure.plot").is_displayed()


# A plot of changes: its metric, the names of its ends, where zero is, and of each row its kind, words and places.
PLOTTED = """
    const table = document.querySelector(`${arguments[0]} .forest table`);
    const at = (part, name) => parseFloat(part.getAttribute(name));
    return {
        metric: table.querySelector('.metric').textContent,
        ends: [...table.querySelectorAll('.ends span')].map(end => end.textContent),
        zero: at(table.querySelector('.zero'), 'x1'),
        rows: [...table.querySelectorAll('tr:has(svg)')].map(row => {
            const line = row.querySelector('.interval:not(.silent)');
            return [row.className, row.cells[2].textContent,
                [at(row.querySelector('circle:last-child'), 'cx'), ...(line ? [at(line, 'x1'), at(line, 'x2')] : [])]];
        }),
    };
"""


def shown_cells(browser: Any) -> list[list[str]]:
    """Return our value, our change and the class of the change in each row of Table 3, in the order of its cells."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#table-table3 .pivot tbody tr')].map(row => ["
        "[...row.querySelectorAll('.ours, .count')].map(part => part.textContent).join(' '),"
        "row.cells[2].firstElementChild.textContent, row.cells[2].firstElementChild.className])"
    )


def test_every_mark_says_what_it_is_and_leads_to_its_run(browser: Any, page: Path) -> None:
    """Against the list of runs: each seed's mark has its name and value, and no mark of any figure is without words."""
    open_page(browser, page)
    unfold(browser, ".more")
    loose, seeds, astray = browser.execute_script("""
        const row = mark => document.getElementById(mark.getAttribute('href').slice(1))?.closest('#all-runs tr');
        const marks = [...document.querySelectorAll('.plot svg a')], fid = run => JSON.parse(run.dataset.metrics).fid;
        const title = mark => mark.querySelector('title').textContent;
        const base = (run, seed) => run.dataset.base
            && document.getElementById(`${run.dataset.base}-${seed}`).parentElement;
        const change = (run, other) => other ? (100 * (fid(run) / fid(other) - 1)).toFixed(1) : '';
        return [
            document.querySelectorAll('.plot [data-series] use:not(a use)').length,
            marks.filter(mark => title(mark).includes(', seed ')).map(mark => [
                title(mark), ...[2, 3].map(column => row(mark).cells[column].textContent.split(' ')[0]),
                change(row(mark), base(row(mark), row(mark).cells[2].textContent))]),
            marks.filter(mark => !row(mark) || !title(mark).startsWith(row(mark).cells[1].textContent)).map(title)];
    """)
    assert (loose, astray) == (0, [])
    unfold(browser, "#index details")
    valued = [run for run in shown_runs(browser) if run[3]]
    assert len(seeds) == len([run for run in valued if run[0] != "Table 4"])  # its figure has a tile for each cell
    for words, seed, value, change in seeds:
        from_base = re.search(rf": FID {value}(?:, ([+−]?[0-9.]+)\u202f% from seed {seed} of the baseline)?$", words)
        assert from_base, words
        assert float((from_base[1] or "0").replace("−", "-")) == pytest.approx(float(change or 0), abs=0.051)
    assert sum("from seed" in words for words, *_ in seeds) > 30


@pytest.mark.waits
def test_by_keyboard_arrows_go_from_mark_to_mark_and_a_legend_hides_series(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    open_page(browser, page)
    plot = browser.find_element("css selector", "#table-table2 .plot svg")
    (key, *_), (stop,) = (plot.find_elements("css selector", s) for s in ("[data-key=dispersive]", "a:not([tabindex])"))
    visible_marks = "return [...arguments[0].querySelectorAll('a')].filter(a => a.getClientRects().length).length"
    before = browser.execute_script(visible_marks, plot)
    browser.execute_script("arguments[0].focus()", key)
    key.send_keys(" ")
    assert (key.get_attribute("aria-pressed"), browser.execute_script(visible_marks, plot) < before) == ("false", True)
    key.send_keys(ENTER)
    assert (key.get_attribute("aria-pressed"), browser.execute_script(visible_marks, plot)) == ("true", before)
    browser.execute_script("arguments[0].focus()", stop)
    tip = browser.find_element("id", "tip")
    assert tip.text.startswith("baseline: FID 4.79 ± 0.07, n=")
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert tip.text.startswith("InfoNCE, ℓ2 · contrastive, independent noise: FID ")
    for _ in range(9 + 2):  # over the other means to the second seed
        browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert tip.text.startswith("baseline, seed 1: FID ")
    browser.switch_to.active_element.send_keys(ENTER)
    until(browser, browser.find_element("id", "panel").is_displayed)
    assert browser.current_url.endswith("#runs-table-table2-0-1")
    assert browser.find_element("css selector", "#panel .seeds [aria-pressed=true]").text.startswith("1: ")


def test_samples_are_enlarged_with_a_slider_between_without_and_with(browser: Any, page: Path) -> None:
    open_page(browser, page)
    browser.find_element("css selector", ".seen > button").send_keys(ENTER)
    slider = browser.switch_to.active_element
    assert slider.tag_name == "button"  # closes
    slider.send_keys("\ue004")  # Tab
    slider = browser.switch_to.active_element
    share = "return getComputedStyle(document.querySelector('.stage img:last-child')).clipPath"
    assert browser.execute_script(share) == "inset(0px 50% 0px 0px)"
    slider.send_keys("\ue014")  # Right
    assert browser.execute_script(share) == "inset(0px 49% 0px 0px)"


def test_a_table_is_sorted_by_any_of_its_columns(browser: Any, page: Path) -> None:
    open_page(browser, page)
    head = browser.find_element("css selector", "#table-table3 .pivot th:nth-child(3) button")
    for sign in (1, -1):
        head.send_keys(ENTER)
        changes = browser.execute_script(
            "return [...document.querySelectorAll('#table-table3 .pivot td:nth-child(3)')].map(e => e.textContent)"
        )
        numbers = [sign * float(words.partition("\u202f")[0].replace("−", "-")) for words in changes if "%" in words]
        assert len(numbers) == len(changes) - 1  # the baseline has no change
        assert numbers == sorted(numbers)


def visible(browser: Any, selector: str) -> list[str]:
    return [element.text for element in browser.find_elements("css selector", selector) if element.is_displayed()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_changes_by_keyboard_and_is_remembered(browser: Any, page: Path, scheme: str) -> None:
    open_page(browser, page, scheme=scheme)
    browser.execute_script("localStorage.clear()")
    open_page(browser, page, scheme=scheme)
    light, dark = "rgb(253, 253, 251)", "rgb(23, 24, 27)"
    before, after = (light, dark) if scheme == "light" else (dark, light)
    assert background(browser) == before
    button = browser.find_element("id", "theme")
    button.send_keys(ENTER)
    assert (background(browser), button.text) == (after, "Light theme" if after == dark else "Dark theme")
    open_page(browser, page, scheme=scheme)
    assert background(browser) == after
    browser.execute_script("localStorage.clear()")


def background(browser: Any) -> str:
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


def test_without_a_script_a_cell_still_leads_to_its_runs(browser: Any, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page.as_uri())
        target = browser.find_element("css selector", "#table-table2 .behind").get_attribute("href")
        browser.get(target)
        row = browser.find_element("id", target.partition("#")[2])
        assert row.find_element("css selector", "th").text == "baseline"
        assert not browser.find_element("id", "filters").is_displayed()
        link = row.find_element("css selector", "a").get_attribute("href")
        browser.get(link)
        assert len(visible(browser, ".training")) == 1
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


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
