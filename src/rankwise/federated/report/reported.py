"""Federations as their page sees them: a name and a colour for each, and what is said first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from rankwise.federated.table import strategy_names
from rankwise.pages.palette import colours_of
from rankwise.pages.writing import size
from rankwise.training.federation_records import FederationRecord


@dataclass(frozen=True)
class Reported:
    """The federations of one recipe, in its order; at least one."""

    records: Sequence[FederationRecord]

    @property
    def first(self) -> FederationRecord:
        """The first of them: task, clients, rounds and split are the same in all."""
        return self.records[0]

    @property
    def metric(self) -> str:
        """The metric in which all scores are."""
        return self.first.metric

    @cached_property
    def names(self) -> list[str]:
        """What each is called; no two are alike."""
        return strategy_names(self.records)

    @cached_property
    def named(self) -> list[tuple[str, FederationRecord]]:
        """Each with its name."""
        return list(zip(self.names, self.records, strict=True))

    @cached_property
    def colours(self) -> dict[str, str]:
        """The colour of each, by name."""
        return colours_of(self.names)

    @cached_property
    def verdict(self) -> list[str]:
        """What came of it, in sentences, and what does not follow from it."""
        told = []
        if len(self.records) > 1:
            best = max(self.named, key=lambda each: each[1].score_test)
            lean = min(self.named, key=lambda each: all_bytes(each[1]))
            told += [
                f"{best[0]} has the highest test {self.metric}, {best[1].score_test:.3f}, with "
                f"{size(all_bytes(best[1]))} sent up and down."
            ]
            if lean is not best:
                told += [
                    f"{lean[0]} sent least, {size(all_bytes(lean[1]))}, and has "
                    f"{lean[1].score_test:.3f}."
                ]
        return [
            *told,
            "One seed and one split of the rows: no difference between strategies is tested here.",
        ]


def all_bytes(record: FederationRecord) -> int:
    """Return the bytes that all clients sent and received in all rounds."""
    return sum(each.bytes_up + each.bytes_down for each in record.rounds)
