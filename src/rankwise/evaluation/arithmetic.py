"""Answers to arithmetic problems, found in a completion and compared with the reference.

As in LoRA-SB (Ponkshe et al. 2024, arXiv 2411.19557; code CERT-Lab/lora-sb, commit 4feb81c) what
counts stands after ``The answer is``. GSM8K compares the number there with the one after ``####``
of the reference; MATH compares what stands there with the reference's last ``\\boxed{}``, by
math-verify, which knows when two formulas are equal.

Where we differ: numbers are compared exactly and not after rounding to integers, so 17.6 is not
18, and 5 is not 500; a minus may be U+2212 or stand apart; fractions, powers of ten and thousands
parted by blanks are read; capital letters of ``The answer is`` do not matter; a MATH answer may
also stand in a ``\\boxed{}`` of its own. What the released code counts is in ``published.py``.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from rankwise.core.errors import DataError, SettingsError

_MARK = re.compile(r"the answer is\s*:?", re.IGNORECASE)
# A minus apart from its number counts but at the start of a line, where it marks an item of a list.
_MINUS = r"(?:[-\u2212](?=[$€£\d.])|(?<!\n)[-\u2212][ \u00a0](?=[$€£\d.]))?[$€£]?"
_GROUPS = r"\d{1,3}(?:,\d{3})+(?!\d)|\d{1,3}(?:[ \u00a0\u2009\u202f]\d{3})+(?!\w)|\d+"
_NUMBER = re.compile(
    rf"(?P<sign>{_MINUS})"
    r"(?:(?:(?P<whole>\d+) )?(?P<top>\d+)/(?P<bottom>\d+)(?![\d/])"
    rf"|(?P<digits>(?:{_GROUPS})?(?:\.\d+)?(?<=\d))(?P<power>[eE][-+\u2212]?\d{{1,3}}(?!\w))?)"
)
_FRACTION = re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_LETTER = re.compile(r"\(?\b([A-E])\b")
_BOX = "\\boxed"
# math-verify gives up after 5 by default, which on a busy machine its first formula takes.
_SECONDS_A_FORMULA = 60


def after_mark(text: str) -> str | None:
    """Return what follows the last ``The answer is``, or None where that is not written."""
    parts = _MARK.split(text)
    return parts[-1] if len(parts) > 1 else None


def first_number(text: str) -> Fraction | None:
    """Return the first number in ``text``, exactly; None without one, or if its divisor is 0.

    Read are a sign, a currency before the number, thousands parted by commas or blanks, decimals,
    fractions (also ``1 1/2`` and ``\\frac{1}{2}``) and powers of ten (``1e3``).

    >>> first_number("about $1,250.50 a year")
    Fraction(2501, 2)
    """
    found = _NUMBER.search(_FRACTION.sub(r"\1/\2", text))
    if found is None:
        return None
    sign = -1 if re.match("[-\u2212]", found["sign"]) else 1
    if found["digits"] is None:
        if int(found["bottom"]) == 0:
            return None
        return sign * (int(found["whole"] or 0) + Fraction(int(found["top"]), int(found["bottom"])))
    digits = re.sub(r"[^\d.]", "", found["digits"])
    power = (found["power"] or "").replace("\u2212", "-")
    return sign * Fraction(f"0{digits}{power}" if digits.startswith(".") else digits + power)


def gsm8k_reference(answer: str) -> Fraction:
    """Return the number after ``####`` of a reference solution.

    Raises:
        DataError: There is none.
    """
    number = first_number(answer.partition("####")[2])
    if number is None:
        raise DataError(f"a GSM8K answer must have a number after ####, got {answer[-80:]!r}")
    return number


def grade_number(
    text: str, reference: Fraction, *, tolerance: Fraction = Fraction(0)
) -> bool | None:
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
    return formula == _bare(reference) or are_equal_formulas(formula, reference)


def _bare(formula: str) -> str:
    """Drop the dollars and the full stop around a formula."""
    return formula.strip().removesuffix(".").strip("$ \n")


def are_equal_formulas(formula: str, reference: str) -> bool:
    """Say whether math-verify finds two formulas in LaTeX equal.

    Raises:
        SettingsError: math-verify is not installed.
    """
    try:
        from math_verify import LatexExtractionConfig, parse, verify
    except ImportError:
        raise SettingsError(
            "grading MATH needs math-verify: pip install 'rankwise[generation]'"
        ) from None
    config = [LatexExtractionConfig()]
    right, written = (_parsed(parse, each, config) for each in (reference, formula))
    return bool(right and written) and bool(
        verify(right, written, timeout_seconds=_SECONDS_A_FORMULA)
    )


def _parsed(parse: Any, formula: str, config: Any) -> Any:
    return parse(
        f"${_bare(formula)}$", extraction_config=config, parsing_timeout=_SECONDS_A_FORMULA
    )
