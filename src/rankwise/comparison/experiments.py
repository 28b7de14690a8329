"""The tables of the four papers: which recipe, tasks and questions make each, and what they report.

A score is by method and task; a method is called as its row of a comparison is, with its rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rankwise.core.errors import SettingsError, nearest_names
from rankwise.tasks.vtab.definitions import DEFINITIONS as VTAB

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Experiment:
    """A table of a paper.

    Attributes:
        source: Paper and table.
        recipe: What trains its runs.
        tasks: Of the recipe, one comparison each; none: the recipe's own alone.
        variant: The form of the recipe that follows the paper.
        questions: Benchmarks that the trained models are asked; their scores are the table's.
        published: By method, such as ``lora-sb r=24``, and task.
    """

    source: str
    recipe: str
    tasks: tuple[str, ...] = ()
    variant: str | None = None
    questions: tuple[str, ...] = ()
    published: Mapping[str, Scores] = field(default_factory=dict)


def _scores(tasks: str, **rows: str) -> dict[str, dict[str, float]]:
    """Read rows of a table in percent; a dash is a score that was not at hand."""
    return {
        name.replace("_", "-"): {
            task: round(float(score) / 100, 6)
            for task, score in zip(tasks.split(), row.split(), strict=True)
            if score != "-"
        }
        for name, row in rows.items()
    }


def _at(r: int, scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {name if name == "full" else f"{name} r={r}": row for name, row in scores.items()}


_DELORA = "mnli sst2 mrpc cola qnli qqp rte stsb"
_SB = "cola rte mrpc stsb qnli sst2"
_RAC = "mrpc cola rte stsb"

EXPERIMENTS = {
    "abm-glue": Experiment(
        "ABM-LoRA (arXiv 2511.19145): GLUE on T5-base",
        "abm-glue",
        ("mnli", "sst2", "cola", "qnli", "mrpc"),
    ),
    "abm-vtab": Experiment(
        "ABM-LoRA (arXiv 2511.19145): VTAB-1K on ViT-B/16", "abm-vtab", tuple(VTAB)
    ),
    "abm-dialogue": Experiment(
        "ABM-LoRA (arXiv 2511.19145): dialogue on Llama-2-7B",
        "abm-dialogue",
        questions=("mt-bench", "alpaca-eval"),
    ),
    "rac-mnist": Experiment(
        "RAC-LoRA (arXiv 2410.08305), Table 3: MNIST", "rac-mnist", variant="full"
    ),
    "rac-glue": Experiment(
        "RAC-LoRA (arXiv 2410.08305), Table 2: GLUE on RoBERTa-base",
        "rac-glue",
        tuple(_RAC.split()),
        published=_at(2, _scores(_RAC, lora="87.7 60.8 75.2 90.3", rac_lora="87.0 58.5 - -")),
    ),
    "sb-glue": Experiment(
        "LoRA-SB (arXiv 2411.19557), Table 3: GLUE on RoBERTa-large",
        "sb-glue",
        tuple(_SB.split()),
        published=_at(8, _scores(_SB, lora="68.02 82.98 90.05 91.43 93.42 95.98"))
        | _at(
            24,
            _scores(
                _SB,
                lora_xs="66.27 80.14 88.48 90.77 93.21 95.89",
                lora_sb="68.28 83.03 90.12 91.65 93.75 96.11",
            ),
        ),
    ),
    "sb-arithmetic": Experiment(
        "LoRA-SB (arXiv 2411.19557), Table 1: GSM8K and MATH on Mistral-7B",
        "sb-arithmetic",
        questions=("gsm8k", "math"),
        published=_at(32, _scores("gsm8k math", lora="61.94 15.98"))
        | _at(96, _scores("gsm8k math", lora_xs="58.53 16.42", lora_sb="63.38 17.44")),
    ),
    "sb-commonsense": Experiment(
        "LoRA-SB (arXiv 2411.19557), Table 2: eight commonsense tasks on Llama-3.2-3B",
        "sb-commonsense",
        questions=("boolq", "piqa", "siqa", "hellaswag", "winogrande", "arc-e", "arc-c", "obqa"),
    ),
    "delora-glue": Experiment(
        "DeLoRA (arXiv 2503.18225), Table 4: GLUE on RoBERTa-base",
        "delora-glue",
        tuple(_DELORA.split()),
        published=_at(
            8,
            _scores(
                _DELORA,
                full="87.3 94.4 87.9 62.4 92.5 91.7 78.3 90.6",
                bitfit="84.7 94.0 88.1 54.0 91.0 87.3 69.8 89.5",
                ia3="85.4 93.4 86.4 57.8 91.1 88.5 73.5 88.5",
                lora="86.6 93.9 88.7 59.7 92.6 90.4 75.3 90.3",
                delora="87.2 94.1 89.0 63.6 92.8 90.1 77.1 90.9",
            ),
        ),
    ),
    "delora-instruct": Experiment(
        "DeLoRA (arXiv 2503.18225), Table 5: Alpaca on Llama-2-7B; its benchmarks are "
        "`rankwise evaluate RUN --harness mmlu,arc_challenge,truthfulqa_mc1,truthfulqa_mc2`",
        "delora-instruct",
    ),
}


def find_experiment(name: str) -> Experiment:
    """Look a table of a paper up by name.

    Raises:
        SettingsError: There is none; the nearest names are suggested.
    """
    if name not in EXPERIMENTS:
        raise SettingsError(f"no table {name!r}; {nearest_names(name, EXPERIMENTS)}")
    return EXPERIMENTS[name]
