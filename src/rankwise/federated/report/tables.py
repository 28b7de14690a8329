"""The tables of the page: results with what each column means, clients, and rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rankwise.federated.report.reported import Reported
from rankwise.federated.table import distance_text, largest_distance, strategy_name
from rankwise.pages.writing import duration, size
from rankwise.training.federation_records import FederationRecord, Round

ABSENT = "–"


@dataclass(frozen=True)
class Column:
    """A column: its heading, what it means, its value, and how that is written."""

    title: str
    meaning: str
    value: Callable[[FederationRecord], float | None]
    write: Callable[[float], str]
    falling_first: bool = False


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and what it sorts by; ``None`` sorts last."""

    text: str
    value: float | None


@dataclass(frozen=True)
class Line:
    """A row: what it is of, what is said beside the name, and its cells."""

    name: str
    aside: str
    cells: list[Cell]


_COSTS = [
    Column(
        "Numbers sent",
        "by one client in one round: what trains",
        lambda it: it.trained_numbers,
        "{:,}".format,
    ),
    Column(
        "Bytes up",
        "from all clients to the server in all rounds, without what Flower and HTTP add, and "
        "without updates that were refused",
        lambda it: sum(each.bytes_up for each in it.rounds),
        size,
    ),
    Column(
        "Bytes down",
        "from the server to all clients, counted alike; a client keeps what it has received",
        lambda it: sum(each.bytes_down for each in it.rounds),
        size,
    ),
    Column(
        "Distance",
        "of the change that the server applied from the weighted mean of the clients’ changes, "
        "relative to it, in the worst round: rounding, or how far averaging is from exact",
        largest_distance,
        lambda value: distance_text(value, ".1e"),
    ),
    Column(
        "Left out",
        "updates of clients that were not used, over all rounds; the reasons are below",
        lambda it: sum(len(each.left_out) for each in it.rounds),
        "{:,}".format,
    ),
    Column(
        "Time",
        "of the rounds, until the last was scored",
        lambda it: sum(each.seconds for each in it.rounds),
        duration,
    ),
]


def columns(reported: Reported) -> list[Column]:
    """Return the columns of the results."""
    metric = reported.metric
    return [
        Column(
            f"Test {metric}",
            "of the server’s model after the last round; the test split was read once, then",
            lambda it: it.score_test,
            "{:z.3f}".format,
            falling_first=True,
        ),
        Column(
            f"Validation {metric}",
            "of the same model, on the split that each round is scored on",
            lambda it: it.score_validation,
            "{:.3f}".format,
            falling_first=True,
        ),
        Column(
            "Learning rate",
            "of each client’s AdamW, which begins anew in each round; constant",
            lambda it: it.plan.run.training.learning_rate,
            "{:g}".format,
        ),
        *_COSTS,
    ]


_MEANINGS = {
    "rac-lora": "each round begins with a fresh frozen sketch, which its seed gives; clients send "
    "the other factor, which the server averages and folds into the weights",
    "lora-sb": "B and A are frozen from the start on; clients send the core R, which the server "
    "averages",
    "lora": "clients send B and A, each of which the server averages: their product is not the "
    "average of the clients’ products",
    "full": "clients send every weight, which the server averages",
}


def meanings(reported: Reported) -> dict[str, str]:
    """Return by the name of each strategy what is sent in it, and what becomes of that."""
    return {
        strategy_name(record): _MEANINGS[name]
        for record in reported.records
        if (name := record.plan.run.method.name) in _MEANINGS
    }


def results(reported: Reported, shown: list[Column]) -> list[Line]:
    """Return one row a strategy."""
    return [
        Line(name, _aside(it), [_cell(it, column) for column in shown])
        for name, it in reported.named
    ]


def clients(reported: Reported) -> list[Line]:
    """Return one row a client: its examples, and the rounds of each strategy that used it."""
    examples = reported.first.examples
    total = sum(examples.values())
    lines = []
    for client in range(reported.first.plan.federated.clients):
        count = examples.get(client)
        share = "" if count is None else f"{count / total:.0%} of all"
        cells = [Cell(ABSENT if count is None else f"{count:,}", count)]
        for record in reported.records:
            used = sum(client in each.clients for each in record.rounds)
            cells.append(Cell(f"{used:,}", used))
        lines.append(Line(str(client), share, cells))
    return lines


def rounds(record: FederationRecord) -> list[Line]:
    """Return one row a round."""
    return [Line(str(each.number), "", _cells_of(each)) for each in record.rounds]


ROUND_HEADINGS = ("Score", "Loss", "Clients", "Left out", "Bytes up", "Bytes down", "Distance")


def _cells_of(row: Round) -> list[Cell]:
    return [
        Cell(f"{row.score:.3f}", row.score),
        Cell(f"{row.loss:.4g}", row.loss),
        Cell(f"{len(row.clients)}", len(row.clients)),
        Cell(f"{len(row.left_out)}", len(row.left_out)),
        Cell(size(row.bytes_up), row.bytes_up),
        Cell(size(row.bytes_down), row.bytes_down),
        Cell(distance_text(row.distance, ".0e"), row.distance),
    ]


def _cell(record: FederationRecord, column: Column) -> Cell:
    value = column.value(record)
    return Cell(ABSENT if value is None else column.write(value), value)


def _aside(record: FederationRecord) -> str:
    """Say of which method a strategy is the form; nothing where that is all in its name."""
    method = record.plan.run.method
    if method.rank is not None:
        return f"{method.title}, r = {method.rank}"
    return "" if method.title == strategy_name(record) else method.title
