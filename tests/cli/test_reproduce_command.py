"""`rankwise reproduce`: all tasks of a table, resumable, and the table beside the published one."""

from __future__ import annotations

import pytest

from rankwise.cli.main import main
from rankwise.comparison.effort import training_seconds
from rankwise.comparison.experiments import EXPERIMENTS, Experiment
from rankwise.comparison.records import Protocol, Summary, SummaryRow
from rankwise.comparison.reproduced import reproduced, reproduced_text
from rankwise.training.settings.recipe import load_recipe
from tests.tasks.idx_files import write_mnist

pytestmark = pytest.mark.runs

SHORT = [
    *["--training.epochs", "1", "--task.pretrain_epochs", "1", "--workers", "1"],
    *["--compare.seeds", "0", "--compare.sweep_seeds", "1", "--compare.learning_rates", "0.01"],
    *["--compare.methods", "lora", "--compare.widenings", "0"],
]


def summary(task, **scores):
    rows = tuple(
        SummaryRow(name=name.replace("_", "-"), r=8, score_mean=score)
        for name, score in scores.items()
    )
    return Summary(task=task, protocol=Protocol(baseline="lora"), methods=rows)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_table_names_a_recipe_its_tasks_and_its_methods(name):
    experiment = EXPERIMENTS[name]
    for task in experiment.tasks or (load_recipe(experiment.recipe).task.name,):
        recipe = load_recipe(
            experiment.recipe, {"task": {"name": task}}, variant=experiment.variant
        )
        labels = {
            method.title if method.rank is None else f"{method.title} r={method.rank}"
            for method in recipe.compare.methods
        }
        # PEFT's IA3 has no rank of its own; its row bears the recipe's.
        named = {label.partition(" ")[0] for label in labels}
        for label in experiment.published:
            assert label in labels or label.partition(" ")[0] in named


@pytest.mark.parametrize("name", ["sb-glue", "sb-arithmetic", "rac-mnist"])
def test_a_dry_run_says_steps_memory_and_hours(name, capsys):
    assert main(["reproduce", name, "--dry-run", "--gpu", "a100"]) == 0
    text = capsys.readouterr().out
    assert "hours on one a100 at 40% of its peak" in text
    assert "lora r=" in text


@pytest.mark.processes
@pytest.mark.usefixtures("forked_workers")
def test_it_runs_each_task_and_writes_the_table(tmp_path, capsys):
    root = write_mnist(tmp_path / "data")
    words = ["reproduce", "rac-mnist", *SHORT, "--task.data_root", str(root)]
    words += ["--compare.budgets", "rank 1", "--output", str(tmp_path / "out")]
    assert main(words) == 0
    assert "Table 3" in capsys.readouterr().out
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| lora-gaussian r=1, both |" in table or "| lora r=1 |" in table
    first = (tmp_path / "out" / "mnist" / "summary.json").stat().st_mtime_ns
    assert main(words) == 0  # resumed: all runs are there
    assert (tmp_path / "out" / "mnist" / "summary.json").stat().st_mtime_ns >= first


def test_a_table_or_a_task_that_is_none_is_refused(capsys):
    assert main(["reproduce", "sb-gleu"]) == 2
    assert "no table 'sb-gleu'; did you mean 'sb-glue'" in capsys.readouterr().err
    assert main(["reproduce", "sb-glue", "--tasks", "mprc", "--dry-run"]) == 2
    assert "no task 'mprc'; did you mean 'mrpc'" in capsys.readouterr().err


def test_scores_stand_beside_the_published_ones_and_means_need_all():
    experiment = Experiment(
        "A table",
        "sb-glue",
        ("cola", "rte"),
        published={
            "lora r=8": {"cola": 0.5, "rte": 0.7},
        },
    )
    summaries = {"cola": summary("cola", lora=0.6, delora=0.4), "rte": summary("rte", lora=0.8)}
    lora, delora = reproduced(experiment, summaries, {})
    assert lora.cells == {"cola": (0.6, 0.5), "rte": (0.8, 0.7)}
    assert lora.means() == pytest.approx((0.7, 0.6))
    assert delora.cells == {"cola": (0.4, None), "rte": (None, None)}
    assert delora.means() == (None, None)
    assert "| lora r=8 | 0.600 (0.500) | 0.800 (0.700) | 0.700 (0.600) |" in reproduced_text(
        "A table", [lora, delora]
    )


def test_benchmarks_are_the_columns_where_a_table_is_of_them():
    experiment = Experiment("A table", "sb-arithmetic", questions=("gsm8k",))
    rows = reproduced(
        experiment,
        {"metamathqa": summary("metamathqa", lora=0.1)},
        {
            "lora r=8": {"gsm8k": 0.6},
        },
    )
    assert rows[0].cells == {"gsm8k": (0.6, None)}


def test_hours_grow_with_weights_and_tokens():
    few = {"weights": 10**9, "tokens": 10**6, "gpu": "h100", "in_bfloat16": True}
    frozen = training_seconds(**few, is_full=False)
    assert frozen == pytest.approx(4e15 / (989e12 * 0.4))
    assert training_seconds(**few, is_full=True) == pytest.approx(1.5 * frozen)
