"""What federations came to, as tables for the terminal: one of all, and one by round.

Cells are plain texts: names and reasons may come from strangers, and Rich would read brackets in
them as its markup.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from rankwise.core.outside_text import one_line
from rankwise.federated.acceptance import standing_out
from rankwise.federated.strategies import FEDERATED_NAMES
from rankwise.training.federation_records import FederationRecord
from rankwise.training.settings.federated import FederatedSettings


def federations_table(records: Sequence[FederationRecord]) -> Table:
    """Return one row a method: scores, what a client sends a round, all bytes, how far off."""
    plan = records[0].plan
    title = (
        f"{plan.run.task.name}: {plan.federated.clients} clients, {plan.federated.rounds} rounds, "
        f"split {split_name(plan.federated)}{aggregation_name(plan.federated)}"
    )
    table = _table(
        title,
        "strategy",
        *("method", "r", "lr", "valid.", "test"),
        *("sent/round", "bytes up", "bytes down", "distance", "s"),
    )
    for name, record in zip(strategy_names(records), records, strict=True):
        run, rounds = record.plan.run, record.rounds
        cells = (
            name,
            one_line(run.method.title),
            "–" if run.method.rank is None else str(run.method.rank),
            f"{run.training.learning_rate:g}",
            f"{record.score_validation:.3f}",
            f"{record.score_test:.3f}",
            f"{record.trained_numbers:,}",
            f"{sum(each.bytes_up for each in rounds):,}",
            f"{sum(each.bytes_down for each in rounds):,}",
            distance_text(largest_distance(record), ".1e"),
            f"{sum(each.seconds for each in rounds):.0f}",
        )
        table.add_row(*map(Text, cells))
    return table


def rounds_table(records: Sequence[FederationRecord]) -> Table:
    """Return one row a round: for each method its score, bytes up and down, and distance."""
    table = _table("validation score · bytes up · bytes down · distance, by round", "round")
    for name in strategy_names(records):
        table.add_column(Text(name), justify="right", no_wrap=True)
    for rows in zip(*(record.rounds for record in records)):
        cells = [
            f"{row.score:.3f} {row.bytes_up:>8,} {row.bytes_down:>8,} "
            f"{distance_text(row.distance, '.0e')}"
            for row in rows
        ]
        table.add_row(str(rows[0].number), *cells)
    return table


def remarks(records: Sequence[FederationRecord]) -> list[str]:
    """Return one sentence for each client that was left out of a round, stood out or outweighed.

    Where each machine has rows of its own, what a client says of its examples is its word alone.
    """
    told = []
    for name, record in zip(strategy_names(records), records, strict=True):
        total = sum(record.examples.values())
        if record.plan.federated.split == "own" and record.plan.federated.aggregation == "mean":
            told += [
                f"{name}: client {client} counts {count:,} of {total:,} examples and outweighs all "
                "others together"
                for client, count in record.examples.items()
                if 2 * count > total and len(record.examples) > 1
            ]
        for row in record.rounds:
            place = f"{name}, round {row.number}: client"
            told += [
                f"{place} {client} was left out: {one_line(reason)}"
                for client, reason in row.left_out.items()
            ]
            told += [
                f"{place} {client} stood out: {said}"
                for client, said in standing_out(row.norms).items()
                if client not in row.left_out
            ]
    return told


def strategy_names(records: Sequence[FederationRecord]) -> list[str]:
    """Return what the federated form of each record's method is called; no two are alike."""
    names = [strategy_name(record) for record in records]
    ranks = [record.plan.run.method.rank for record in records]
    told = [
        name if names.count(name) == 1 or rank is None else f"{name} r={rank}"
        for name, rank in zip(names, ranks, strict=True)
    ]
    return [
        name if told.count(name) == 1 else f"{name} ({number})"
        for number, name in enumerate(told, start=1)
    ]


def strategy_name(record: FederationRecord) -> str:
    """Return what the federated form of the record's method is called."""
    name = record.plan.run.method.name
    return FEDERATED_NAMES.get(name, one_line(name))


def split_name(federated: FederatedSettings) -> str:
    """Return the split, with the concentration of its law if it has one."""
    law = f" α = {federated.alpha:g}" if federated.split == "dirichlet" else ""
    return federated.split + law


def aggregation_name(federated: FederatedSettings) -> str:
    """Return how updates became one, for the end of a title; nothing for the plain mean."""
    return "" if federated.aggregation == "mean" else f", {federated.aggregation}"


def largest_distance(record: FederationRecord) -> float | None:
    """Return the largest distance of a round; None where one has no finite value."""
    distances = [row.distance for row in record.rounds]
    return None if None in distances else max(each for each in distances if each is not None)


def distance_text(distance: float | None, form: str) -> str:
    """Write a distance, or a dash where it has no finite value."""
    return "–" if distance is None else format(distance, form)


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in (first, *columns):
        justify = "left" if column in ("strategy", "method") else "right"
        table.add_column(column, justify=justify, no_wrap=True)
    return table
