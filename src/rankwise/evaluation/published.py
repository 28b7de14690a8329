"""The rules by which the papers' released code grades answers: for figures that compare to theirs.

GSM8K, MATH and the commonsense sets by LoRA-SB (``instruction_tuning_eval`` of CERT-Lab/lora-sb,
commit 4feb81c), the other arithmetic sets by LLM-Adapters (``evaluate.py`` of
AGI-Edgerunners/LLM-Adapters). What they do that our own rules do not:

- GSM8K and MATH: what stands after the last ``The answer is: `` counts, spelled so. Numbers within
  1e-4 are equal, and so are 5, 0.05 and 500 (percentages).
- GSM8K: numbers are rounded to integers, and a second comma ends a number.
- Commonsense: an option counts inside other words, ``answer1`` in ``answer10``, ``true`` in
  ``untrue``, and an option that the question has not counts as an answer.
- The other sets: the last number anywhere in the text counts, and the first capital letter from A
  to E, be it that of ``Answer``.

Where we differ: formulas of MATH that are not equal as text are compared by math-verify and not by
sympy's parser of LaTeX, which does not end on some.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from rankwise.evaluation.arithmetic import are_equal_formulas

_MARK = "The answer is: "
_GSM8K_NUMBER = re.compile(r"[-+]?\d*[.,/]?\d+")
_PLAIN_NUMBER = re.compile(r"-?\d+\.?\d*")
_FAMILIES = {
    "true": ("true", "false"),
    "false": ("true", "false"),
    "solution": ("solution1", "solution2"),
    "answer": ("answer1", "answer2", "answer3", "answer4", "answer5"),
    "ending": ("ending1", "ending2", "ending3", "ending4"),
    "option": ("option1", "option2"),
}
_CLOSE = 1e-4


def grades_gsm8k(text: str, reference: Fraction) -> bool:
    """Say whether the rounded number after ``The answer is: `` is the right one.

    >>> grades_gsm8k("The answer is: 17.6", Fraction(18))
    True
    """
    found = _GSM8K_NUMBER.search(_after_mark(text) or "")
    if found is None:
        return False
    top, slash, bottom = found.group().replace(",", "").partition("/")
    if slash and not (top and bottom):
        return False
    number = float(top)
    if slash and float(bottom) != 0:
        number /= float(bottom)
    return _is_close(round(number), float(reference))


def grades_math(text: str, reference: str) -> bool:
    """Say whether the formula after ``The answer is: `` equals ``reference``.

    Raises:
        SettingsError: math-verify is not installed.
    """
    answer = _after_mark(text)
    if answer is None:
        return False
    formula = answer.partition(".\n")[0].strip().removesuffix(".").strip()
    ours, theirs = normal_form(formula), normal_form(reference)
    if ours == theirs:
        return True
    numbers = [_as_number(each) for each in (ours, theirs)]
    if numbers[0] is not None and numbers[1] is not None:
        return _is_close(numbers[0], numbers[1])
    return bool(formula) and are_equal_formulas(formula, reference)


def grades_number(text: str, reference: Fraction, *, tolerance: Fraction) -> bool:
    """Say whether the last number of ``text`` is within ``tolerance`` of the right one."""
    found = _PLAIN_NUMBER.findall(text.replace(",", ""))
    return bool(found) and abs(Fraction(found[-1].removesuffix(".")) - reference) <= tolerance


def grades_letter(text: str, reference: str) -> bool:
    """Say whether the first capital letter from A to E in ``text`` is the right one."""
    found = re.search("[A-E]", text)
    return found is not None and found.group() == reference


def grades_choice(text: str, reference: str) -> bool:
    """Say whether the first option of the reference's family in ``text`` is the right one.

    >>> grades_choice("It is answer10", "answer1")
    True
    """
    family = _FAMILIES.get(reference.rstrip("0123456789"), (reference,))
    found = re.search("|".join(family), text.lower())
    return found is not None and found.group() == reference


def normal_form(formula: str) -> str:
    r"""Return how Hendrycks's MATH release writes a formula before it compares texts.

    >>> normal_form(r"\dfrac12 \text{ cm}")
    '\\frac{1}{2}'
    """
    text = formula.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    text = text.replace("\\left", "").replace("\\right", "")
    text = text.replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "")
    if text.count("\\text{ ") == 1:
        text = text.partition("\\text{ ")[0]
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    text = f"0{text}" if text.startswith(".") else text
    name, equals, value = text.partition("=")
    if equals and "=" not in value and len(name) <= 2:
        text = value
    text = re.sub(r"\\sqrt([^{])", r"\\sqrt{\1}", text).replace(" ", "")
    text = re.sub(r"\\frac([^{])([^{])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac([^{])\{", r"\\frac{\1}{", text)
    text = "\\frac{1}{2}" if text == "0.5" else text
    return re.sub(r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}", text)


def _after_mark(text: str) -> str | None:
    _, mark, answer = text.rpartition(_MARK)
    return answer if mark else None


def _as_number(text: str) -> float | None:
    try:
        number = float(text.replace(",", ""))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_close(number: float, reference: float) -> bool:
    """Compare as LoRA-SB does: percentages count as the number that they are of 1."""
    return any(
        math.isclose(each, number, rel_tol=_CLOSE)
        for each in (reference / 100, reference, reference * 100)
    )
