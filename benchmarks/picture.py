"""Write a chart of a comparison's page as a PNG, as the documents show it.

    python benchmarks/picture.py runs/rac-mnist score-by-rank docs/images/vision-rank.png

The page is ``report.html`` in the folder of the comparison; the chart is known by its id there. It
needs Chromium and Playwright.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

WIDTH, HEIGHT = 1000, 700


@contextmanager
def opened_page(width: int, height: int) -> Iterator[Page]:
    """Yield an empty page of a Chromium without a window."""
    program = os.environ.get("RANKWISE_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": width, "height": height})
        browser.close()


def main(words: Sequence[str] | None = None) -> None:
    """Open the page, wait until the chart is drawn, and keep what it shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comparison", type=Path, help="the folder that `rankwise compare` wrote")
    parser.add_argument("chart", help="its id, such as score-by-rank or captured-share")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--view", help="the budget to show, where the chart has several")
    arguments = parser.parse_args(words)
    with opened_page(WIDTH, HEIGHT) as page:
        page.goto((arguments.comparison / "report.html").resolve().as_uri())
        if arguments.view is not None:
            page.locator(f"input[name=view][value='{arguments.view}']").check(force=True)
        chart = page.locator(f"#{arguments.chart}")
        chart.locator(".main-svg").first.wait_for()
        chart.screenshot(path=arguments.picture)


if __name__ == "__main__":
    main()
