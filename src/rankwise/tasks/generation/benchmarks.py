"""The benchmarks that a causal model answers: where their questions are, and how long answers are.

Without a data root they are read from the Hub, under the names that the papers and
lm-evaluation-harness use. Below a data root the first file that exists is read: in our layout, in
that of LLM-Adapters (``dataset/boolq/test.json``) or in that of LoRA-SB or FastChat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rankwise.core.errors import SettingsError, nearest_names
from rankwise.core.seeds import derive_seed
from rankwise.tasks.generation.examples import Example, find_file, read_examples
from rankwise.tasks.generation.questions import Kind, Question, read_question
from rankwise.tasks.hub import fetch_split

_STEPS = "Let's think step by step."


@dataclass(frozen=True)
class HubSource:
    """Where a benchmark lies on the Hub.

    Attributes:
        dataset: Its name, or the ``hf://`` address of a JSON file.
        split: Of the data set.
        configurations: Their rows follow one another.
    """

    dataset: str
    split: str = "test"
    configurations: tuple[str | None, ...] = (None,)

    def examples(self) -> list[Example]:
        """Return the rows.

        Raises:
            DataError: They cannot be fetched.
        """
        found = []
        for configuration in self.configurations:
            place = "Hub " + "/".join(filter(None, (self.dataset, configuration)))
            rows = fetch_split(self.dataset, self.split, configuration=configuration, place=place)
            found += [Example(dict(row), f"{place}, row {i}") for i, row in enumerate(rows)]
        return found


@dataclass(frozen=True)
class Benchmark:
    """A set of questions.

    Attributes:
        kind: What its rows look like and how answers are graded.
        files: Local files without endings; the first that exists is read.
        hub: Where it is on the Hub; None: it is read from files alone.
        response_prefix: What the response begins with.
        max_new_tokens: How long a response may be.
    """

    kind: Kind
    files: tuple[str, ...]
    hub: HubSource | None = None
    response_prefix: str = ""
    max_new_tokens: int = 32

    @property
    def is_judged(self) -> bool:
        """Whether answers are kept for a judge instead of graded."""
        return self.kind in ("mt-bench", "alpaca-eval")


def _arithmetic(kind: Kind, name: str, *others: str, hub: HubSource | None = None) -> Benchmark:
    files = (f"arithmetic/{name}/test", *others, f"dataset/{name}/test", f"{name}/test")
    return Benchmark(kind, files, hub, _STEPS, 512)


def _commonsense(name: str, hub: HubSource, *others: str) -> Benchmark:
    folders = (f"commonsense/{name}", f"dataset/{name}", name)
    return Benchmark("choice", (*others, *(f"{folder}/test" for folder in folders)), hub)


_MATH_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)

BENCHMARKS = {
    "gsm8k": _arithmetic(
        "gsm8k", "gsm8k", "math_eval/gsm8k_test", hub=HubSource("openai/gsm8k", "test", ("main",))
    ),
    "math": _arithmetic(
        "math",
        "MATH",
        "arithmetic/MATH/test_sample400",
        "math_eval/MATH_test",
        hub=HubSource("EleutherAI/hendrycks_math", "test", _MATH_SUBJECTS),
    ),
    "addsub": _arithmetic("number", "AddSub"),
    "multiarith": _arithmetic("number", "MultiArith"),
    "singleeq": _arithmetic("number", "SingleEq"),
    "mawps": _arithmetic("number", "mawps"),
    "aqua": _arithmetic("letter", "AQuA"),
    "mathqa": _arithmetic("letter", "mathqa"),
    "boolq": _commonsense("boolq", HubSource("google/boolq", "validation")),
    # Its own data set is a script, which `datasets` runs no more; this is the harness's copy.
    "piqa": _commonsense("piqa", HubSource("baber/piqa", "validation")),
    "siqa": _commonsense("social_i_qa", HubSource("lighteval/siqa", "validation")),
    "hellaswag": _commonsense(
        "hellaswag", HubSource("Rowan/hellaswag", "validation"), "commonsense/hellaswag/validation"
    ),
    "winogrande": _commonsense(
        "winogrande", HubSource("allenai/winogrande", "validation", ("winogrande_xl",))
    ),
    "arc-e": _commonsense("ARC-Easy", HubSource("allenai/ai2_arc", "test", ("ARC-Easy",))),
    "arc-c": _commonsense(
        "ARC-Challenge", HubSource("allenai/ai2_arc", "test", ("ARC-Challenge",))
    ),
    "obqa": _commonsense("openbookqa", HubSource("allenai/openbookqa", "test", ("main",))),
    "mt-bench": Benchmark(
        "mt-bench",
        ("dialogue/mt_bench/question", "mt_bench/question"),
        HubSource("hf://spaces/lmsys/mt-bench/data/mt_bench/question.jsonl"),
        max_new_tokens=1024,
    ),
    "alpaca-eval": Benchmark(
        "alpaca-eval",
        (
            "dialogue/alpaca_eval/questions",
            "dialogue/alpaca_eval/gpt4_1106_preview_outputs",
            "dialogue/alpaca_eval/text_davinci_003_outputs",
            "alpaca_eval",
        ),
        HubSource("hf://datasets/tatsu-lab/alpaca_eval/alpaca_eval.json"),
        max_new_tokens=1024,
    ),
}


def find_benchmark(name: str) -> Benchmark:
    """Return the benchmark ``name``.

    Raises:
        SettingsError: There is none.
    """
    if name not in BENCHMARKS:
        raise SettingsError(f"no benchmark {name!r}; {nearest_names(name, BENCHMARKS)}")
    return BENCHMARKS[name]


def read_questions(name: str, root: Path | None) -> list[Question]:
    """Return the questions of a benchmark in the order of their file, or of the Hub.

    Raises:
        DataError: The file is missing or broken, the Hub is away, or a row is not as expected.
        SettingsError: There is no such benchmark, or it is not on the Hub and no root is named.
    """
    benchmark = find_benchmark(name)
    if root is not None:
        path = find_file(root, benchmark.files)
        examples = read_examples(path, name=path.relative_to(root).as_posix())
    elif benchmark.hub is not None:
        examples = benchmark.hub.examples()
    else:
        raise SettingsError(
            f"{name} is not on the Hub: set --task.data_root FOLDER, or RANKWISE_DATA, to a folder "
            f"with {benchmark.files[0]}.jsonl or LLM-Adapters' {benchmark.files[-1]}.json"
        )
    return [read_question(benchmark.kind, example) for example in examples]


def sample_questions(
    questions: Sequence[Question], count: int | None, *, seed: int
) -> list[Question]:
    """Return ``count`` questions drawn by ``seed``, in file order; None, or more than are: all."""
    if count is None or count >= len(questions):
        return list(questions)
    generator = torch.Generator().manual_seed(derive_seed(seed, "questions"))
    drawn = torch.randperm(len(questions), generator=generator)[:count]
    return [questions[row] for row in sorted(drawn.tolist())]
