"""The page of federations: what came of each strategy, over bytes, by round and by client.

It is made from records alone, so it can be made again where there is no model, data or Flower.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rankwise.federated.report import tables
from rankwise.federated.report.reported import Reported
from rankwise.federated.table import remarks, split_name
from rankwise.pages.frame import require_extra, write_page
from rankwise.training.federation_records import FederationRecord

PAGE = "federated.html"


def write_report(records: Sequence[FederationRecord], path: Path) -> None:
    """Write the page of federations, at least one, to ``path``.

    Raises:
        SettingsError: The optional extra is not installed.
    """
    require_extra("federated")
    # These need the optional extra.
    from rankwise.federated.report.charts import CHARTS
    from rankwise.pages.chart import shown_charts

    reported = Reported(records)
    federated = reported.first.plan.federated
    columns = tables.columns(reported)
    write_page(
        path,
        package=__package__ or "",
        template="federated.html.j2",
        charts=shown_charts(CHARTS, reported),
        colours=reported.colours,
        context={
            "reported": reported,
            "federated": federated,
            "task": reported.first.plan.run.task.name,
            "split": split_name(federated),
            "strategies": tables.meanings(reported),
            "columns": columns,
            "results": tables.results(reported, columns),
            "clients": tables.clients(reported),
            "rounds": {name: tables.rounds(record) for name, record in reported.named},
            "round_headings": tables.ROUND_HEADINGS,
            "troubles": remarks(records),
            "plans": {name: record.plan.model_dump(mode="json") for name, record in reported.named},
        },
    )
