"""What federations came to, as tables for the terminal: one of all, and one by round."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from rankwise.federated.strategies import FEDERATED_NAMES
from rankwise.training.records import FederationRecord
from rankwise.training.settings.federated import FederatedSettings


def federations_table(records: Sequence[FederationRecord]) -> Table:
    """Return one row a method: scores, what a client sends a round, all bytes, how far off."""
    plan = records[0].plan
    title = (
        f"{plan.run.task.name}: {plan.federated.clients} clients, "
        f"{plan.federated.rounds} rounds, split {split_name(plan.federated)}"
    )
    table = _table(
        title,
        "strategy",
        *("method", "r", "lr", "valid.", "test"),
        *("sent/round", "bytes up", "bytes down", "distance", "s"),
    )
    for record in records:
        run, rounds = record.plan.run, record.rounds
        table.add_row(
            strategy_name(record),
            run.method.name,
            "–" if run.method.rank is None else str(run.method.rank),
            f"{run.training.learning_rate:g}",
            f"{record.score_validation:.3f}",
            f"{record.score_test:.3f}",
            f"{record.trained_numbers:,}",
            f"{sum(each.bytes_up for each in rounds):,}",
            f"{sum(each.bytes_down for each in rounds):,}",
            f"{max(each.distance for each in rounds):.1e}",
            f"{sum(each.seconds for each in rounds):.0f}",
        )
    return table


def rounds_table(records: Sequence[FederationRecord]) -> Table:
    """Return one row a round: for each method its score, bytes up and down, and distance."""
    table = _table("validation score · bytes up · bytes down · distance, by round", "round")
    for record in records:
        table.add_column(strategy_name(record), justify="right", no_wrap=True)
    for rows in zip(*(record.rounds for record in records)):
        cells = [
            f"{row.score:.3f} {row.bytes_up:>8,} {row.bytes_down:>8,} {row.distance:.0e}"
            for row in rows
        ]
        table.add_row(str(rows[0].number), *cells)
    return table


def remarks(records: Sequence[FederationRecord]) -> list[str]:
    """Return one sentence for each client that was left out of a round."""
    return [
        f"{strategy_name(record)}, round {row.number}: client {client} was left out: {reason}"
        for record in records
        for row in record.rounds
        for client, reason in row.left_out.items()
    ]


def strategy_name(record: FederationRecord) -> str:
    """Return what the federated form of the record's method is called."""
    name = record.plan.run.method.name
    return FEDERATED_NAMES.get(name, name)


def split_name(federated: FederatedSettings) -> str:
    """Return the split, with the concentration of its law if it has one."""
    law = f" α = {federated.alpha:g}" if federated.split == "dirichlet" else ""
    return federated.split + law


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in (first, *columns):
        justify = "left" if column in ("strategy", "method") else "right"
        table.add_column(column, justify=justify, no_wrap=True)
    return table
