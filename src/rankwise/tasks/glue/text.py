"""The text-to-text form of a GLUE row: what goes in, the answer that is right, an answer read.

The form is that of the released code of ABM-LoRA (lee-research/ABM-LoRA, commit 39fac98, data.py);
scores are written as T5 does it (Raffel et al. 2020, arXiv 1910.10683), rounded to 0.2.
"""

from __future__ import annotations

from rankwise.tasks.glue.definitions import HIGHEST_SCORE, LOWEST_SCORE, Definition
from rankwise.tasks.glue.examples import Example

_STEPS_PER_POINT = 5


def write_input(definition: Definition, example: Example) -> str:
    """Return the instruction, the texts, one a line, and the line that asks for the answer.

    >>> from rankwise.tasks.glue.definitions import find_definition
    >>> write_input(find_definition("sst2"), Example(("fun !",), 1))
    'classify the sentiment of the text: fun !\\nresult: '
    """
    return definition.instruction + "\n".join(example.texts) + "\nresult: "


def write_answer(definition: Definition, label: int | float) -> str:
    """Return the word of a class, or a score rounded to 0.2 with one decimal."""
    if definition.kind == "classification":
        return definition.words[int(label)]
    return f"{round(label * _STEPS_PER_POINT) / _STEPS_PER_POINT:.1f}"


def read_answer(definition: Definition, text: str) -> int | float | None:
    """Return the class or the score that ``text`` names; None if it names none.

    Blanks around it do not count; a word counts only as a whole and as written, a score only as a
    number in the range of the labels.
    """
    answer = text.strip()
    if definition.kind == "classification":
        return definition.words.index(answer) if answer in definition.words else None
    try:
        score = float(answer)
    except ValueError:
        return None
    return score if LOWEST_SCORE <= score <= HIGHEST_SCORE else None
