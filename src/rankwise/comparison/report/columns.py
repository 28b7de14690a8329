"""The columns of a comparison's table: what each says, and how its values are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rankwise.comparison.records import SummaryRow
from rankwise.comparison.report.comparison import Comparison
from rankwise.pages.writing import duration, negative, signed, size

ABSENT = "–"
Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Column:
    """A measured column of the results.

    Attributes:
        title: Its heading.
        meaning: What it says, shown on hover and in the legend.
        value: What a row has in it.
        write: How a value is written.
        bounds: Of the interval that stands below a value.
        absent: What is written where a method that was scored has no value.
        falling_first: Whether the first click sorts from the highest down.
    """

    title: str
    meaning: str
    value: Callable[[SummaryRow], float | None]
    write: Callable[[float], str]
    bounds: Callable[[SummaryRow], Bounds] = lambda _: (None, None)
    absent: str = ABSENT
    falling_first: bool = False


def columns(comparison: Comparison) -> list[Column]:
    """List the columns that at least one row has a value for; the first is the score."""
    known = [
        *_of_scores(comparison),
        *_of_significance(),
        *_of_choice(),
        *_of_sizes(),
        *_of_retention(comparison.summary.retention),
        *_until_baseline(comparison.baseline),
        *_of_time(),
    ]
    return [
        column for column in known if any(column.value(row) is not None for row in comparison.rows)
    ]


def _of_scores(comparison: Comparison) -> list[Column]:
    base = comparison.baseline
    return [
        Column(
            f"Test {comparison.metric}",
            "Mean over seeds on the test split, with its 95 % interval.",
            lambda row: row.score_mean,
            _score,
            bounds=lambda row: (row.score_low, row.score_high),
            falling_first=True,
        ),
        Column(
            "In the paper",
            "The score that the method's own paper reports.",
            lambda row: row.published,
            _score,
            falling_first=True,
        ),
        Column(
            f"Against {base}",
            f"The score minus that of {base} with the same seed. The interval leaves out zero "
            "where it is significant; the methods of a budget share an error of 5 % (Holm).",
            lambda row: row.difference_mean,
            signed,
            bounds=lambda row: (row.difference_low, row.difference_high),
            falling_first=True,
        ),
        Column(
            "Other rows too",
            "The same difference, with an interval that speaks of other test rows as well as of "
            "other seeds.",
            lambda row: row.difference_rows_mean,
            signed,
            bounds=lambda row: (row.difference_rows_low, row.difference_rows_high),
            falling_first=True,
        ),
    ]


def _of_significance() -> list[Column]:
    return [
        Column(
            "p",
            "Of Student's t over seeds, adjusted for the methods of the budget (Holm).",
            lambda row: row.p_value,
            _probability,
        ),
        Column(
            "Effect size",
            "The difference over its standard deviation over seeds, corrected for few (Hedges).",
            lambda row: row.effect_size,
            lambda effect: negative(f"{effect:z.1f}"),
            falling_first=True,
        ),
        Column(
            "Could be shown",
            "The smallest true difference that so many seeds show with a chance of 80 %.",
            lambda row: row.detectable_difference,
            _score,
        ),
    ]


def _of_choice() -> list[Column]:
    return [
        Column(
            "Validation",
            "Mean over seeds on the validation split, on which settings were chosen.",
            lambda row: row.score_validation,
            _score,
            falling_first=True,
        ),
        Column(
            "Learning rate",
            "The one that was chosen on validation.",
            lambda row: row.learning_rate,
            "{:g}".format,
        ),
    ]


def _of_sizes() -> list[Column]:
    return [
        Column(
            "Trainable parameters",
            "Of the adapter, without the head that every method trains.",
            lambda row: row.trainable_parameters,
            _count,
        ),
        Column("Stored", "Size of the tensors saved.", lambda row: row.stored_bytes, size),
        Column(
            "Peak memory",
            "The most that a run took, of its worker process or its accelerator.",
            lambda row: row.peak_memory_bytes,
            size,
        ),
    ]


def _of_retention(measure: str) -> list[Column]:
    return [
        Column(
            "Forgetting",
            f"What training has cost of what the base knew: {measure}. Below zero something was "
            "gained.",
            lambda row: row.forgetting_mean,
            signed,
            bounds=lambda row: (row.forgetting_low, row.forgetting_high),
        )
    ]


def _until_baseline(baseline: str) -> list[Column]:
    unreached = "not reached"
    return [
        Column(
            f"Steps to {baseline}’s score",
            f"Until the mean validation score is the one that {baseline} ends with.",
            lambda row: row.steps_to_baseline,
            _count,
            absent=unreached,
        ),
        Column(
            "Samples to it",
            "These steps times the rows of a step.",
            lambda row: row.samples_to_baseline,
            _count,
            absent=unreached,
        ),
        Column(
            "Time to it",
            "The initialization, and the share of training that these steps are.",
            lambda row: row.seconds_to_baseline,
            duration,
            absent=unreached,
        ),
    ]


def _of_time() -> list[Column]:
    return [
        Column(
            "Initialise",
            "Mean of a run, training a reference included.",
            lambda row: row.init_seconds,
            duration,
        ),
        Column(
            "Train",
            "Mean of a run; of runs trained together an equal share.",
            lambda row: row.train_seconds,
            duration,
        ),
        Column(
            "Tuning runs",
            "Made to choose the settings, of all seeds that sweep the grid.",
            lambda row: row.tuning_runs or None,
            _count,
        ),
        Column(
            "Tuning time",
            "Of these runs.",
            lambda row: row.tuning_seconds or None,
            duration,
        ),
        Column(
            "All runs",
            "Time of every run of the method, initializations and references included.",
            lambda row: row.sweep_seconds or None,
            duration,
        ),
    ]


def _score(value: float) -> str:
    return negative(f"{value:z.3f}")


def _count(value: float) -> str:
    return f"{value:,}"


def _probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
