"""The page of federations: complete, well formed, self-contained, and deaf to hostile text."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rankwise.federated.report.page import write_report
from rankwise.federated.report.reported import Reported
from rankwise.federated.report.tables import columns
from rankwise.training.federation_records import Federations
from tests.pages.parsed_page import Page, payload_of

OLD = Path(__file__).parents[1] / "version_0_1" / "federated.json"
HOSTILE = '</script><img src=x onerror="alert(1)">'
NAMES = ["fed-rac", "fed-sb", "fed-it", "full"]


def changed(record, *, round_number=None, **values):
    """A record with other values, or with other values of one of its rounds."""
    if round_number is None:
        return record.model_copy(update=values)
    rounds = list(record.rounds)
    rounds[round_number] = rounds[round_number].model_copy(update=values)
    return record.model_copy(update={"rounds": tuple(rounds)})


@pytest.fixture(scope="module")
def records():
    """Four federations of two rounds, of version 0.1 but for the counts of examples."""
    federations = Federations.read(OLD).federations
    return [changed(each, examples={0: 300, 1: 237}) for each in federations]


def page_of(records, folder):
    write_report(records, folder / "federated.html")
    text = (folder / "federated.html").read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def rendered(records, tmp_path_factory):
    return page_of(records, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def page(rendered):
    return rendered[1]


def cells_of(section, row):
    """What the cells of a row of the table in a section say."""
    (table,) = section.all("table")
    rows = [each for body in table.all("tbody") for each in body.all("tr")]
    return [cell.text for cell in (*rows[row].all("th"), *rows[row].all("td"))]


def test_what_came_of_it_and_what_does_not_follow_comes_first(page):
    (header,) = page.all("header")
    (question,) = page.all("h1")
    assert question.text == "How well do 2 clients learn digits together?"
    assert "full has the highest test accuracy, 0.344, with 173 kB sent up and down." in header.text
    assert "fed-it sent least, 6.53 kB, and has 0.217." in header.text
    assert "no difference between strategies is tested here" in header.text
    assert "4 strategies 2 clients 2 rounds split dirichlet α = 0.5 aggregation mean" in header.text


def test_nothing_is_fetched_and_every_reference_has_its_target(page):
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.all():
        assert "src" not in element.attributes
        assert element.attributes.get("href", "#results")[1:] in ids
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(element.attributes.get(name, "").split()) <= set(ids)


def test_every_column_of_the_results_sorts_and_is_explained(page, records):
    results = page.by_id("results")
    (head,) = results.all("thead")
    titles = [column.title for column in columns(Reported(records))]
    assert [button.text for button in head.all("button")] == ["Strategy", *titles]
    (meanings,) = results.all("dl")
    assert [each.text for each in meanings.all("dt")] == [*NAMES, *titles]
    assert all(each.text for each in meanings.all("dd"))


def test_a_row_of_the_results_holds_what_the_record_says(page):
    assert cells_of(page.by_id("results"), 3)[0] == "full"
    expected = ["fed-racrac-lora, r = 1", "0.183", "0.190", "0.01", "448", "5.38 kB", "3.62 kB"]
    assert cells_of(page.by_id("results"), 0) == [*expected, "2.3e-08", "1", "1.8 s"]


def test_clients_are_listed_with_their_examples_and_the_rounds_that_used_them(page):
    clients = page.by_id("clients")
    assert cells_of(clients, 0) == ["056% of all", "300", "2", "2", "2", "2"]
    assert cells_of(clients, 1) == ["144% of all", "237", "1", "1", "1", "1"]


def test_every_round_of_every_strategy_is_there(page):
    tables = page.by_id("rounds").all("table")
    assert len(tables) == 4
    for table in tables:
        (body,) = table.all("tbody")
        assert [row.all("th")[0].text for row in body.all("tr")] == ["0", "1", "2"]


def test_charts_name_their_lines_and_are_told_in_words(page):
    payload = payload_of(page)
    assert list(payload["charts"]) == ["score-by-bytes", "score-by-round"]
    for ((view, figure),) in payload["charts"].values():
        assert view is None
        lines = [each["name"] for each in figure["data"] if each["meta"]["role"] == "line"]
        labels = [each["name"] for each in figure["data"] if each["meta"]["role"] == "label"]
        assert lines == labels == NAMES
    (by_bytes, by_round) = page.by_id("charts").all("details")
    assert "fewest bytes first. fed-it: 6.53 kB for 0.212; fed-rac" in by_bytes.text
    assert "full: 0.179 before the first round, 0.380 at the end" in by_round.text


def test_clients_that_were_left_out_or_stood_out_are_listed(records, tmp_path):
    loud = changed(records[2], round_number=2, norms={0: 1.0, 1: 400.0})
    _, page = page_of([*records[:2], loud], tmp_path)
    told = [each.text for each in page.by_id("troubles").all("li")]
    assert told[0] == "fed-rac, round 1: client 1 was left out: it failed: the power went out"
    assert told[-1] == (
        "fed-it, round 2: client 1 stood out: its update has a norm of 400, and the median of the "
        "others' is 1"
    )


def test_hostile_text_stays_text(records, tmp_path):
    left_out = {1: f"it failed: {HOSTILE}"}
    wild = changed(changed(records[0], round_number=1, left_out=left_out), metric=HOSTILE)
    text, page = page_of([wild], tmp_path)
    assert not page.all("img")
    assert HOSTILE not in text
    assert HOSTILE in page.by_id("troubles").text


def test_a_federation_that_is_alone_is_not_ranked(records, tmp_path):
    _, page = page_of(records[:1], tmp_path)
    (header,) = page.all("header")
    assert "highest" not in header.text
    assert "1 strategy" in header.text


def test_a_record_without_counts_or_distances_has_its_page(records, tmp_path):
    bare = changed(changed(records[0], examples={}), round_number=2, distance=None)
    _, page = page_of([bare], tmp_path)
    assert cells_of(page.by_id("clients"), 0)[:2] == ["0", "–"]
    assert cells_of(page.by_id("results"), 0)[7] == "–"


def test_two_federations_of_one_method_are_told_apart(records, tmp_path):
    other = records[0].plan.run.method.model_copy(update={"r": 4})
    run = records[0].plan.run.model_copy(update={"method": other})
    wider = changed(records[0], plan=records[0].plan.model_copy(update={"run": run}))
    assert Reported([records[0], wider]).names == ["fed-rac r=1", "fed-rac r=4"]
    assert Reported([records[0], records[0]]).names == ["fed-rac r=1 (1)", "fed-rac r=1 (2)"]
    assert Reported([records[3], records[3]]).names == ["full (1)", "full (2)"]


@pytest.mark.slow
@pytest.mark.processes
def test_the_page_is_made_where_flower_is_not(tmp_path):
    code = (
        "import sys; sys.modules['flwr'] = None\n"
        "from rankwise.cli.main import main\n"
        "sys.exit(main(['report', sys.argv[1]]))"
    )
    shutil.copy(OLD, tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    subprocess.run(command, check=True)
    assert (tmp_path / "federated.html").exists()
