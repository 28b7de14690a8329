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
from rankwise.tasks.generation.lines import Line

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


def read_instruction(line: Line) -> Instruction:
    """Return the row in ``line``; its response may be empty.

    Raises:
        DataError: Its columns are none of the known ones, or the question is empty.
    """
    columns = line.content.keys()
    for asked, answered in _COLUMNS:
        if {asked, answered} <= columns:
            given = line.text("input", may_be_empty=True) if "input" in columns else ""
            response = line.text(answered, may_be_empty=True)
            if answered == "answer":
                response = plain_solution(response)
            return Instruction(line.text(asked), response, given.strip())
    raise DataError(
        f"{line.place}: expected the columns query and response, instruction and output, or "
        f"question and answer, got {', '.join(columns) or 'none'}"
    )


def plain_solution(answer: str) -> str:
    """Return a solution of GSM8K without marks for a calculator, its end as MetaMathQA writes it.

    >>> plain_solution("He has 4*2=<<4*2=8>>8.\\n#### 8")
    'He has 4*2=8.\\nThe answer is: 8'
    """
    return _FINAL.sub("\nThe answer is: ", _CALCULATION.sub("", answer)).strip()
