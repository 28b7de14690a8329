"""The page of a comparison: complete, well formed, self-contained, and deaf to hostile text."""

from __future__ import annotations

import re
import shlex
import sys
from urllib.parse import unquote

import pytest
from plotly.offline import get_plotlyjs

from rankwise.comparison.records import ComparedRow, EqualRank, Summary, SummaryRow
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.curves import draw_learning_curves
from rankwise.comparison.report.formats import as_csv
from rankwise.comparison.report.page import write_report
from rankwise.core.errors import SettingsError
from rankwise.pages import palette
from rankwise.training.records import RunRecord
from tests.comparison import made_records as made
from tests.comparison.report_records import made_up_comparison, with_rows, with_runs
from tests.pages.parsed_page import Page, payload_of

HOSTILE = '</script><img src=x onerror="alert(1)">'


def page_of(comparison, folder):
    """The page as text, and parsed."""
    write_report(comparison, folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def comparison():
    return made_up_comparison()


@pytest.fixture(scope="module")
def rendered(comparison, tmp_path_factory):
    return page_of(comparison, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(rendered):
    return rendered[1]


def test_the_question_and_the_verdict_come_first(page, comparison):
    (header,) = page.all("header")
    (question,) = page.all("h1")
    assert question.text == "Which method scores best on digits?"
    assert all(sentence in header.text for sentence in comparison.summary.verdict)
    assert "360 runs, 19 failed" in header.text
    (body,) = page.all("body")
    assert [child.tag for child in body.children[:2]] == ["header", "main"]


def test_a_number_and_its_percent_sign_stay_on_one_line(rendered):
    text = re.sub(r"<(script|style).*?</\1>", "", rendered[0], flags=re.DOTALL)
    assert re.search(r"\d\N{NO-BREAK SPACE}%", text)
    assert not re.search(r"\d[ \n]%", text)


def test_nothing_is_fetched(rendered):
    text, page = rendered
    for element in page.all():
        assert "src" not in element.attributes
        assert element.attributes.get("href", "#").startswith(("#", "data:"))
    (policy,) = page.all("meta", http_equiv="Content-Security-Policy")
    assert policy.attributes["content"].startswith("default-src 'none';")
    assert "connect-src" not in policy.attributes["content"]
    assert "@import" not in text
    assert text.count(get_plotlyjs()[:2000]) == 1


def test_every_reference_inside_the_page_has_its_target(page):
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.all():
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(element.attributes.get(name, "").split()) <= set(ids)
        if "download" not in element.attributes:
            assert element.attributes.get("href", "#results")[1:] in ids


def test_a_chart_has_a_title_a_key_and_its_words(page):
    figures = page.all("figure")
    assert len(figures) == 12
    for figure in figures:
        (chart,) = figure.all(role="img")
        assert chart.attributes["id"] in payload_of(page)["charts"]
        assert page.by_id(chart.attributes["aria-labelledby"]).tag == "h3"
        assert page.by_id(chart.attributes["aria-describedby"]).text
        (words,) = figure.all("figcaption")
        assert "full: " in words.text


def test_the_figures_are_those_of_the_plots(page, comparison):
    charts = {name: dict(views) for name, views in payload_of(page)["charts"].items()}
    assert list(charts["learning-curves"]) == ["300", "1200", "papers"]
    assert list(charts["score-by-parameters"]) == [None]
    drawn = draw_learning_curves(comparison, "1200")
    lines = [trace for trace in drawn.data if trace.meta["role"] == "line"]
    shown = charts["learning-curves"]["1200"]["data"]
    assert [t["y"] for t in shown if t["meta"]["role"] == "line"] == [list(t.y) for t in lines]


def test_budgets_and_methods_are_chosen_by_native_controls(page, comparison):
    (form,) = page.all("form")
    views = [radio.attributes["value"] for radio in form.all("input", type="radio")]
    assert views == ["300", "1200", "papers"]
    chips = {box.attributes["value"] for box in form.all("input", type="checkbox")}
    assert chips == {row.name for row in comparison.rows}
    assert all(len(fieldset.all("legend")) == 1 for fieldset in form.all("fieldset"))


def test_every_column_of_the_results_sorts_by_a_button(page):
    table = page.by_id("results").all("table")[0]
    headings = table.all("th", scope="col")
    assert all(len(heading.all("button")) == 1 for heading in headings)
    for row in table.all("tr")[1:]:
        cells = [cell for cell in row.children if "data-value" in cell.attributes]
        assert len(cells) in (0, len(headings))
        for cell in cells[1:]:
            assert cell.attributes["data-value"] == "" or float(cell.attributes["data-value"]) >= -1


def test_the_table_holds_every_method_under_its_budget(page, comparison):
    table = page.by_id("results").all("table")[0]
    shown = []
    for body in table.all("tbody"):
        (heading,) = body.all("th", scope="rowgroup")
        budget = heading.text.removeprefix("Budget ")
        names = [row.attributes["data-value"] for row in body.all("th", scope="row")]
        shown += [(budget, name) for name in names]
    assert sorted(shown) == sorted((row.budget, row.label) for row in comparison.rows)


def test_the_best_of_a_budget_is_marked_in_text(page):
    bodies = page.by_id("results").all("tbody")
    marked = [[row.text for row in body.all("tr") if "best" in row.text] for body in bodies]
    assert [len(rows) for rows in marked] == [0, 1, 1, 1]


def test_failures_and_warnings_are_listed_with_their_reasons(page, comparison):
    troubles = page.by_id("troubles")
    assert "rac-lora r=2, right failed: the loss is nan at step 37" in troubles.text
    assert "lora-xs r=11 the best learning rate 0.1 is still at the edge" in troubles.text
    listed = [code.text for code in troubles.all("code")]
    assert listed == [run.run for run in comparison.failed_runs]
    assert "delora r=1 learning rate 0.1, seed 2: the loss is nan" in troubles.text


def test_the_protocol_is_complete_and_the_command_repeats_it(page, comparison):
    protocol = page.by_id("protocol")
    written = comparison.summary.protocol
    (shown,) = protocol.all("pre")
    # The page's text has its lines joined.
    assert shlex.split(shown.text.replace("\\ ", "")) == shlex.split(written.command)
    assert shown.text.count("\\ --") == written.command.count(" --") == 2
    terms = [term.text for term in protocol.all("dt")]
    for key, value in written.model_dump().items():
        assert key.replace("_", " ") in terms
        for inner in value if isinstance(value, dict) else ():
            assert inner.replace("_", " ") in terms
    values = [value.text for value in protocol.all("dd")]
    assert "0.001, 0.003, 0.01, 0.03, 0.1" in values
    assert {"none", "yes", "577"} <= set(values)
    assert all(values), "a setting without a value"


def test_starts_are_shown_only_if_an_init_reported_them(page, comparison, tmp_path):
    assert "lora-sb r=11" in page.by_id("starts").text
    _, without = page_of(with_runs(comparison, comparison.runs, init=None), tmp_path)
    assert not without.all(id="starts")


def hostile(value):
    """The records with hostile text in every place that a user or an error may fill."""
    if isinstance(value, dict):
        return {key: hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    kept = {"done", "failed", "validation"}
    return value + HOSTILE if isinstance(value, str) and value not in kept else value


def hostile_comparison(comparison):
    def changed(kind, record):
        return kind.model_validate(hostile(record.model_dump(mode="json")))

    runs = [changed(type(run), run) for run in comparison.runs]
    return Comparison(changed(Summary, comparison.summary), runs)


def test_hostile_text_stays_text(comparison, rendered, tmp_path):
    text, page = page_of(hostile_comparison(comparison), tmp_path)
    assert not page.all("img")
    assert len(page.all("script")) == len(rendered[1].all("script")) == 3
    assert HOSTILE not in text
    assert page.all("h1")[0].text == f"Which method scores best on digits{HOSTILE}?"
    assert payload_of(page)["baseline"] == "lora" + HOSTILE
    chips = [box.attributes["value"] for box in page.all("input", type="checkbox")]
    assert "cola" + HOSTILE in chips


def test_a_comparison_of_which_everything_failed_still_has_its_page(comparison, tmp_path):
    rows = [
        SummaryRow(**row.identity.model_dump(), status="failed", error="no data")
        for row in comparison.rows
    ]
    _, page = page_of(with_runs(with_rows(comparison, rows), []), tmp_path)
    assert "failed: no data" in page.by_id("troubles").text
    assert "There is nothing to draw." in page.all("figure")[0].text


def test_what_the_summary_leaves_out_is_left_out(comparison, tmp_path):
    rows = [
        made.row(row.name, r=row.r, side=row.side, budget="1200")
        for row in comparison.rows
        if row.budget == "1200"
    ]
    done = [run for run in comparison.runs if isinstance(run, RunRecord)]
    _, page = page_of(with_runs(with_rows(comparison, rows, verdict=()), done), tmp_path)
    assert not page.all(class_="verdict")
    assert not page.all(id="troubles")
    assert not page.all("input", type="radio")
    assert "Against lora" not in page.by_id("results").text


def test_the_page_and_the_charts_stand_on_the_same_ground(rendered):
    text = rendered[0].lower()
    assert f"--paper: {palette.PAPER.lower()};" in text
    assert f"--paper: {palette.DARK[palette.PAPER].lower()};" in text


@pytest.mark.parametrize("name", ["plotly", "jinja2"])
def test_a_missing_extra_is_named(name, comparison, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SettingsError, match=rf"needs {name}.*pip install 'rankwise\[report\]'"):
        write_report(comparison, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_records_of_before_have_no_charts_of_the_change(comparison, tmp_path):
    text, _ = page_of(with_runs(comparison, comparison.runs, diagnostics=()), tmp_path)
    assert 'id="relative-norm"' not in text


def test_the_view_at_equal_rank_has_its_verdict_and_its_rows(comparison, tmp_path):
    lora = ComparedRow(name="lora", r=1, trainable_parameters=302, score_mean=0.8)
    cola = ComparedRow(name="cola", r=1, score_mean=0.82, difference_mean=0.02, difference_low=0.01)
    verdict = ("Rank 1, against lora: significantly better: cola.",)
    entry = EqualRank(r=1, rows=(cola, lora), verdict=verdict)
    _, page = page_of(with_rows(comparison, comparison.rows, equal_rank=(entry,)), tmp_path)
    (section,) = page.root.all("section", id="ranks")
    assert "significantly better: cola" in section.text
    assert "+0.020" in section.text


def test_the_table_is_offered_in_other_formats(page, comparison):
    offered = [link for link in page.all("a") if "download" in link.attributes]
    links = {link.attributes["download"]: link for link in offered}
    assert list(links) == ["comparison.csv", "comparison.md", "comparison.tex"]
    kind, _, text = links["comparison.csv"].attributes["href"].partition(",")
    assert kind == "data:text/csv;charset=utf-8"
    assert unquote(text) == as_csv(comparison)


def test_columns_say_what_they_mean_on_hover_and_in_a_legend(page):
    headings = [each for each in page.by_id("results").all("th") if "title" in each.attributes]
    assert len(headings) > 10
    meanings = page.by_id("results").text
    assert all(" ".join(each.attributes["title"].split()) in meanings for each in headings)
