"""A real Chromium, and the page of a made-up comparison in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Page, sync_playwright

from rankwise.comparison.report.page import write_report
from tests.comparison.report_records import made_up_comparison


@pytest.fixture(scope="session")
def chromium():
    """The browser; without one these tests fail, so that nobody takes a skip for a success."""
    program = os.environ.get("RANKWISE_CHROMIUM") or shutil.which("chromium")
    if program is None:
        pytest.fail(
            "no Chromium: install the package chromium, set RANKWISE_CHROMIUM to a program, "
            "or leave these tests out with -m 'not browser'"
        )
    with sync_playwright() as playwright:
        # CI runs as root, where Chromium has no sandbox.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """The file of the page."""
    file = tmp_path_factory.mktemp("report") / "report.html"
    write_report(made_up_comparison(), file)
    return file


@dataclass
class Visit:
    """A page that is open, and what it said and asked for meanwhile."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def visit(chromium, report):
    """Open the page; ``options`` are those of a context: colour scheme, viewport, and so on."""

    @contextmanager
    def opened(**options) -> Iterator[Visit]:
        context = chromium.new_context(**options)
        visit = Visit(context.new_page())
        visit.page.on("console", lambda message: visit.complaints.append(message.text))
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.on("request", lambda request: visit.requests.append(request.url))
        visit.page.goto(report.as_uri())
        # The last chart is drawn last. A function to wait for would need what the page forbids.
        visit.page.locator(".chart .overplot").last.wait_for(state="attached", timeout=10_000)
        yield visit
        context.close()

    return opened
