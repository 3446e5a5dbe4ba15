"""The README's pictures of the report, by headless Chromium from the committed study.

Run: make screenshots, or python docs/screenshots.py [REPORT] [FOLDER]; needs chromium, chromedriver and selenium.
"""

import base64
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

REPORT, FOLDER = Path("reports/digits/index.html"), Path("docs/pictures")
WIDTH, ABOVE, BELOW = 960, 8, 8  # CSS pixels: the page's measure and a little around it
SCALE = 1.5  # pixels of a CSS pixel: letters stay sharp on fine screens
SHOTS = {  # picture → the first and the last thing to be seen in it, and what must be unfolded
    "top": ("#answer", "#answer .first", ""),
    "table2": ("#table-table2", "#table-table2 figure.plot", ""),
    "pictures": ("#table-table2 details.more h3", "#table-table2 details.more", "#table-table2 details.more"),
}


def main(report: Path = REPORT, folder: Path = FOLDER) -> None:
    """Write one PNG for each of `SHOTS`."""
    driver = browser()
    try:
        driver.get(report.absolute().as_uri())
        folder.mkdir(parents=True, exist_ok=True)
        for name, (first, last, unfolded) in SHOTS.items():
            (folder / f"{name}.png").write_bytes(taken(driver, first, last, unfolded))
            print(folder / f"{name}.png")
    finally:
        driver.quit()


def browser() -> "Chrome":
    """Return a Chromium without a window, in the light theme."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},1200")
    for flag in (*flags, f"--force-device-scale-factor={SCALE}"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver") or ""))


def taken(driver: "Chrome", first: str, last: str, unfolded: str) -> bytes:
    """Return a picture of the page from the top of one element to the bottom of another."""
    top, bottom = driver.execute_script(
        "if (arguments[2]) document.querySelector(arguments[2]).open = true;"
        "const edge = (name, side) => document.querySelector(name).getBoundingClientRect()[side] + window.scrollY;"
        "return [edge(arguments[0], 'top'), edge(arguments[1], 'bottom')];",
        first, last, unfolded,
    )  # fmt: skip
    clip = {"x": 0, "y": max(0, top - ABOVE), "width": WIDTH, "height": bottom - top + ABOVE + BELOW, "scale": 1}
    said = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    return base64.b64decode(said["data"])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
