"""A comparison's own table, logged to the trackers that its runs report to, by Accelerate."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankwise.comparison.folder import report_file, summary_file
from rankwise.comparison.records import Summary, SummaryRow

NAME = "comparison"
_COLUMNS = {
    "budget": "budget",
    "trainable parameters": "trainable_parameters",
    "learning rate": "learning_rate",
    "test": "score_mean",
    "test, low": "score_low",
    "test, high": "score_high",
    "difference": "difference_mean",
    "difference, low": "difference_low",
    "difference, high": "difference_high",
    "p": "p_value",
}


def log_summary(summary: Summary, output: Path, trackers: Sequence[str]) -> list[str]:
    """Log the table of a comparison to each tracker, and say of each whether it went well.

    Scores become metrics. Weights & Biases and Trackio get a table as well, TensorBoard a text,
    MLflow the files ``summary.json`` and ``report.html``. A tracker that fails is told, and takes
    nothing from the others or from the comparison, which is on disk.

    Args:
        summary: Of the comparison.
        output: Its folder.
        trackers: Names as in ``training.report_to``.
    """
    return [_logged(name, summary, output) for name in trackers if name != "none"]


def _logged(name: str, summary: Summary, output: Path) -> str:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind: Any = LOGGER_TYPE_TO_CLASS.get(name)
    if kind is None:
        known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
        return f"the table is not logged to {name}: Accelerate logs to {known}"
    PartialState()  # which its trackers ask for the main process
    try:
        tracker = kind(**_place(name, output))
        if hasattr(tracker, "start"):  # before Accelerate had it, a tracker was started at once
            tracker.start()
        try:
            _log(tracker, summary, output)
        finally:
            tracker.finish()
    except Exception as error:  # whatever a service or its client says
        return f"the table could not be logged to {name}: {type(error).__name__}: {error}"
    return f"the table is logged to {name}"


def _place(name: str, output: Path) -> dict[str, Any]:
    """Return what a tracker is made with, so that the table stands beside the runs."""
    if name == "tensorboard":
        return {"run_name": NAME, "logging_dir": str(output)}
    if name == "mlflow":  # the experiment that the environment names comes first
        return {"experiment_name": "Default", "run_name": f"{output.name} {NAME}"}
    if name == "wandb":
        project = os.environ.get("WANDB_PROJECT", "huggingface")
        return {"run_name": project, "name": f"{output.name} {NAME}", "job_type": NAME}
    return {"run_name": NAME}


def _log(tracker: Any, summary: Summary, output: Path) -> None:
    columns, rows = table_of(summary)
    tracker.log(_scores(summary), step=0)
    if hasattr(tracker, "log_table"):
        tracker.log_table(NAME, columns=columns, data=rows)
    elif tracker.name == "tensorboard":
        tracker.log({NAME: f"{summary.headline}\n\n{_markdown(columns, rows)}"}, step=0)
    elif hasattr(tracker, "log_artifact"):
        for file in filter(Path.exists, (summary_file(output), report_file(output))):
            tracker.log_artifact(str(file))


def table_of(summary: Summary) -> tuple[list[str], list[list[Any]]]:
    """Return the names of the columns and a row a method; what there is none of is None."""
    rows = [
        [row.label, *(getattr(row, field) for field in _COLUMNS.values())]
        for row in summary.methods
    ]
    return ["method", *_COLUMNS], rows


def _scores(summary: Summary) -> dict[str, float]:
    """Return the numbers of each method that was scored, under names that all trackers take."""
    numbers = {
        f"{_name(_title(row, summary))}/{column.replace(',', '')}": getattr(row, field)
        for row in summary.methods
        for column, field in _COLUMNS.items()
        if row.is_scored and column != "budget"
    }
    return {name: float(value) for name, value in numbers.items() if value is not None}


def _title(row: SummaryRow, summary: Summary) -> str:
    several = len({each.budget for each in summary.methods}) > 1
    return f"{row.budget} {row.label}" if several else row.label


def _name(text: str) -> str:
    return re.sub(r"[^\w .:-]", "_", text)


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", r"\|")
