"""The page as a reader meets it, in a real Chromium."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.browser

DESK = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
CHARTS = [
    "learning-curves",
    "score-by-parameters",
    "score-by-time",
    "score-by-memory",
    "score-by-forgetting",
    "score-by-learning-rate",
    "relative-norm",
    "captured-share",
    "batch-loss",
    "distribution",
]


def column(page, heading, budget=1):
    """What one column shows in one budget, from top to bottom."""
    return page.evaluate(
        """([heading, budget]) => {
          const table = document.querySelector("#results table");
          const cells = [...table.tHead.rows[0].cells];
          const at = cells.findIndex(cell => cell.textContent.trim() === heading);
          return [...table.tBodies[budget].rows].slice(1).map(row => row.cells[at].dataset.value);
        }""",
        [heading, budget],
    )


def drawn(page, chart):
    """The number of lines and markers that a chart shows."""
    return page.locator(f"#{chart} .trace path, #{chart} .trace text").count()


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def colour(text):
    return text.evaluate("element => getComputedStyle(element).fill")


def overhang(page):
    """By how many pixels the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


@pytest.mark.parametrize("options", [{"viewport": DESK}, {"viewport": PHONE, "is_mobile": True}])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_are_drawn_without_complaint_or_request(visit, report, options, scheme):
    with visit(color_scheme=scheme, **options) as open_page:
        for chart in CHARTS:
            assert drawn(open_page.page, chart) > 5
        assert overhang(open_page.page) <= 0
        assert open_page.complaints == []
        assert open_page.requests == [report.as_uri()]


def test_dark_and_light_follow_the_reader_while_the_page_is_open(visit):
    with visit(color_scheme="light", viewport=DESK) as open_page:
        page = open_page.page
        tick = page.locator("#learning-curves .ytick text").first
        light = background(page), colour(tick)
        page.emulate_media(color_scheme="dark")
        for _ in range(100):
            if colour(tick) != light[1]:
                break
            page.wait_for_timeout(50)
        else:
            pytest.fail("the charts kept the colours of the light page")
        assert background(page) != light[0]
        assert open_page.complaints == []


def test_a_click_sorts_within_each_budget_and_a_second_one_turns_the_order(visit):
    with visit(viewport=DESK) as open_page:
        page = open_page.page
        button = page.get_by_role("button", name="Trainable parameters")
        before = column(page, "Trainable parameters")
        button.click()
        rising = column(page, "Trainable parameters")
        assert rising == sorted(before, key=lambda text: (text == "", float(text or 0)))
        assert rising != before
        button.click()
        falling = column(page, "Trainable parameters")
        measured = [float(text) for text in falling if text]
        assert measured == sorted(measured, reverse=True)
        assert falling[-1] == ""  # what failed stays at the end
        heading = page.locator("th[aria-sort]")
        assert heading.count() == 1
        assert heading.get_attribute("aria-sort") == "descending"


def test_the_keyboard_sorts_and_a_screen_reader_is_told(visit):
    with visit(viewport=DESK) as open_page:
        page = open_page.page
        page.locator("#results .scroll").focus()
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.textContent.trim()")
        assert focused == "Method"
        page.keyboard.press("Enter")
        names = column(page, "Method")
        assert names == sorted(
            names, key=lambda name: [int(n) if n.isdigit() else n for n in re.split(r"(\d+)", name)]
        )
        assert page.locator("#sorted").inner_text().startswith("Sorted by Method, ascending")
        page.keyboard.press("Space")
        assert column(page, "Method") == names[::-1]


def test_the_keyboard_chooses_a_budget_and_highlights_a_method(visit):
    with visit(viewport=DESK) as open_page:
        page = open_page.page
        before = page.locator("#learning-curves .js-line").count()
        page.get_by_role("radio", name="300").focus()
        page.keyboard.press("ArrowRight")
        assert page.get_by_role("radio", name="1200").is_checked()
        assert page.locator("#learning-curves").inner_text().count("lora") > 0
        page.get_by_role("checkbox", name="delora").focus()
        page.keyboard.press("Space")
        faded = page.locator("#learning-curves .trace").evaluate_all(
            "traces => traces.filter(trace => Number(getComputedStyle(trace).opacity) < 0.5).length"
        )
        assert faded > 0
        assert before > 0
        assert open_page.complaints == []


def test_print_has_light_colours_and_no_controls_that_paper_cannot_use(visit):
    with visit(color_scheme="dark", viewport=DESK) as open_page:
        page = open_page.page
        page.emulate_media(media="print")
        assert not page.locator("nav").is_visible()
        assert page.locator("#results table").is_visible()
        ink = page.evaluate("getComputedStyle(document.body).color")
        assert sum(int(part) for part in re.findall(r"\d+", ink)[:3]) < 200
        assert len(page.pdf(format="A4")) > 50_000
        assert open_page.complaints == []


@pytest.mark.parametrize("width", [964, 1032])  # Letter and A4 on their sides, without margins
def test_the_table_fits_on_paper(visit, width):
    with visit(viewport={"width": width, "height": 700}) as open_page:
        open_page.page.emulate_media(media="print")
        assert overhang(open_page.page) <= 0


def test_every_control_has_a_name_and_every_chart_a_description(visit):
    with visit(viewport=DESK) as open_page:
        page = open_page.page
        tree = page.locator("main").aria_snapshot()
        assert not re.search(r"- (button|radio|checkbox)(?! \")", tree)
        for title in (
            "Learning curves",
            "What parameters buy",
            "How much the learning rate matters",
        ):
            assert page.get_by_role("img", name=title).count() == 1


@pytest.mark.parametrize("width", [660, 1280])
def test_no_name_in_a_chart_is_cut_off(visit, width):
    with visit(viewport={"width": width, "height": 900}) as open_page:
        outside = open_page.page.evaluate(
            """() => [...document.querySelectorAll(".chart")].flatMap(chart => {
              const frame = chart.getBoundingClientRect();
              return [...chart.querySelectorAll(".textpoint text, .xtick text, .ytick text")]
                .filter(text => {
                  const box = text.getBoundingClientRect();
                  return box.left < frame.left - 1 || box.right > frame.right + 1;
                }).map(text => text.textContent);
            })"""
        )
        assert outside == []
