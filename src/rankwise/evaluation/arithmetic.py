"""Answers to arithmetic problems, found in what a model wrote and compared with the right ones.

The rules are those of LoRA-SB (Ponkshe et al. 2024, arXiv 2411.19557; code CERT-Lab/lora-sb,
commit 4feb81c): what counts stands after ``The answer is``. GSM8K compares the number there with
the one after ``####`` of the reference; MATH compares what stands there with the reference's last
``\\boxed{}``, by math-verify, which knows when two formulas are equal.

Where we differ: numbers are compared exactly and not after rounding to integers, so 17.6 is not 18;
the last ``The answer is`` counts; a MATH answer may also stand in a ``\\boxed{}`` of its own.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from rankwise.core.errors import DataError, SettingsError

_MARK = re.compile(r"the answer is\s*:?", re.IGNORECASE)
_NUMBER = re.compile(r"-?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?<=\d)")
_LETTER = re.compile(r"\(?\b([A-E])\b")
_BOX = "\\boxed"


def after_mark(text: str) -> str | None:
    """Return what follows the last ``The answer is``, or None where that is not written."""
    parts = _MARK.split(text)
    return parts[-1] if len(parts) > 1 else None


def first_number(text: str) -> Decimal | None:
    """Return the first number in ``text``; commas between thousands and a dollar sign are dropped.

    >>> first_number("about $1,250.50 a year")
    Decimal('1250.50')
    """
    found = _NUMBER.search(text)
    return None if found is None else Decimal(re.sub(r"[$,]", "", found.group()))


def gsm8k_reference(answer: str) -> Decimal:
    """Return the number after ``####`` of a reference solution.

    Raises:
        DataError: There is none.
    """
    number = first_number(answer.partition("####")[2])
    if number is None:
        raise DataError(f"a GSM8K answer must have a number after ####, got {answer[-80:]!r}")
    return number


def grade_number(text: str, reference: Decimal, *, tolerance: Decimal = Decimal(0)) -> bool | None:
    """Say whether the number after ``The answer is`` is the right one; None: there is none.

    ``tolerance`` is the greatest difference that still counts as equal.
    """
    answer = after_mark(text)
    number = None if answer is None else first_number(answer)
    return None if number is None else abs(number - reference) <= tolerance


def grade_letter(text: str, reference: str) -> bool | None:
    """Say whether the letter A-E after ``The answer is`` is the right one; None: there is none."""
    found = _LETTER.search(after_mark(text) or "")
    return None if found is None else found.group(1) == reference


def last_boxed(text: str) -> str | None:
    """Return what stands in the last ``\\boxed{}``, whose braces may be nested; None without one.

    >>> last_boxed(r"so $x = \\boxed{\\frac{1}{2}}$.")
    '\\\\frac{1}{2}'
    """
    start = text.rfind(_BOX)
    if start < 0:
        return None
    rest = text[start + len(_BOX) :].lstrip()
    if not rest.startswith("{"):
        # TeX takes a single character without braces.
        return rest.lstrip("$ ")[:1] or None
    depth = 0
    for position, character in enumerate(rest):
        escaped = position > 0 and rest[position - 1] == "\\"
        depth += 0 if escaped else (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:position]
    return None


def math_reference(solution: str) -> str:
    """Return the formula in the last ``\\boxed{}`` of a reference solution.

    Raises:
        DataError: There is none.
    """
    formula = last_boxed(solution)
    if formula is None:
        raise DataError(f"a MATH solution must have its answer in \\boxed{{}}, got {solution!r}")
    return formula


def grade_math(text: str, reference: str) -> bool | None:
    """Say whether the formula after ``The answer is``, or in the last box, equals ``reference``.

    None: neither is there, or it is empty.

    Raises:
        SettingsError: math-verify is not installed.
    """
    answer = after_mark(text)
    boxed = last_boxed(text if answer is None else answer)
    formula = boxed if boxed is not None else answer
    if formula is None or not (formula := _bare(formula)):
        return None
    # Formulas that are written alike are equal, whether or not they can be computed with.
    return formula == _bare(reference) or _are_equal(formula, reference)


def _bare(formula: str) -> str:
    """Drop the dollars and the full stop around a formula."""
    return formula.strip().removesuffix(".").strip("$ \n")


def _are_equal(formula: str, reference: str) -> bool:
    try:
        from math_verify import LatexExtractionConfig, parse, verify
    except ImportError:
        raise SettingsError(
            "grading MATH needs math-verify: pip install 'rankwise[generation]'"
        ) from None
    config = [LatexExtractionConfig()]
    right, written = (_parsed(parse, each, config) for each in (reference, formula))
    return bool(right and written) and bool(verify(right, written))


def _parsed(parse: Any, formula: str, config: Any) -> Any:
    return parse(f"${_bare(formula)}$", extraction_config=config)
