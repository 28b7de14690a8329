"""One row to train on, read from the columns that the public data sets have.

| columns | data sets |
|---|---|
| query, response | MetaMathQA |
| instruction, output, and perhaps input | Alpaca, Commonsense170K, Evol-Instruct |
| question, answer | GSM8K: its solutions are brought into MetaMathQA's form |
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rankwise.core.errors import DataError
from rankwise.tasks.generation.examples import Example

# GSM8K marks what a calculator is to do: <<48/2=24>>.
_CALCULATION = re.compile(r"<<[^>]*>>")
_FINAL = re.compile(r"\n?#### *")
_COLUMNS = (("query", "response"), ("instruction", "output"), ("question", "answer"))


@dataclass(frozen=True, slots=True)
class Instruction:
    """What is asked, what is given with it (mostly nothing), and the response to learn."""

    instruction: str
    response: str
    context: str = ""

    @property
    def asked(self) -> str:
        """What the model is asked: rows that ask the same are one and the same to it."""
        return f"{self.instruction}\n{self.context}"


def read_instruction(example: Example) -> Instruction:
    """Return the row in ``example``; its response may be empty.

    Raises:
        DataError: Its columns are none of the known ones, or the question is empty.
    """
    columns = example.content.keys()
    for question, answer in _COLUMNS:
        if {question, answer} <= columns:
            given = example.text("input", may_be_empty=True) if "input" in columns else ""
            response = example.text(answer, may_be_empty=True)
            if answer == "answer":
                response = plain_solution(response)
            return Instruction(example.text(question), response, given.strip())
    raise DataError(
        f"{example.place}: expected the columns query and response, instruction and output, or "
        f"question and answer, got {', '.join(columns) or 'none'}"
    )


def plain_solution(answer: str) -> str:
    """Return a solution of GSM8K without marks for a calculator, its end as MetaMathQA writes it.

    >>> plain_solution("He has 4*2=<<4*2=8>>8.\\n#### 8")
    'He has 4*2=8.\\nThe answer is: 8'
    """
    return _FINAL.sub("\nThe answer is: ", _CALCULATION.sub("", answer)).strip()
