"""The page of one run: what it was, what came of it, and its curves.

It is made from the run's record and the reading of test alone, so it can be made where there is no
model, data or accelerator.
"""

from __future__ import annotations

from pathlib import Path

from rankwise.pages.frame import require_extra, write_page
from rankwise.pages.writing import duration, size
from rankwise.tasks.duplicates import told_duplicates
from rankwise.training.folder import RunFolder
from rankwise.training.records import FailedRun, RunRecord, TestResult, read_run


def write_run_report(folder: RunFolder) -> Path:
    """Write ``report.html`` into the folder of a run that came to its end; return its path.

    Raises:
        SettingsError: The optional extra is not installed.
        AdapterError: There is no record, or it is damaged.
    """
    require_extra("report")
    # These need the optional extra.
    from rankwise.pages.chart import shown_charts
    from rankwise.training.report.charts import CHARTS, COLOURS

    run = read_run(folder.record)
    test = TestResult.read(folder.test) if folder.test.exists() else None
    page = folder.path / "report.html"
    write_page(
        page,
        package=__package__ or "",
        template="run.html.j2",
        charts=shown_charts(CHARTS, run) if isinstance(run, RunRecord) else [],
        colours=COLOURS,
        context={
            "run": run,
            "facts": facts_of(run, test),
            "error": run.error if isinstance(run, FailedRun) else None,
            "has_steps": isinstance(run, RunRecord) and bool(run.steps),
        },
    )
    return page


def facts_of(run: RunRecord | FailedRun, test: TestResult | None) -> dict[str, str]:
    """Return what a run was and what came of it, in words."""
    settings = run.run_settings()
    facts = {
        "method": run.method.label,
        "task": settings.task.name,
        "learning rate": f"{run.learning_rate:g}",
        "seed": str(run.seed),
    }
    if isinstance(run, FailedRun):
        return facts
    facts |= {f"{run.metric} on validation": f"{run.score_validation:.4f} (step {run.step_kept})"}
    if test is not None:
        facts |= {f"{run.metric} on test": f"{test.score_test:.4f}"}
    if duplicates := told_duplicates(run.data):
        facts |= {"rows in two splits": "; ".join(duplicates)}
    return facts | {
        "trainable parameters": f"{run.trainable_parameters:,}"
        + (f" beside a head of {run.head_parameters:,}" if run.head_parameters else ""),
        "stored": size(run.stored_bytes),
        "time": f"{duration(run.seconds.total)}, of it {duration(run.seconds.init)} of "
        f"initialization and {duration(run.seconds.train)} of training",
        "peak memory": size(run.peak_memory_bytes) if run.peak_memory_bytes else "not measured",
    }
