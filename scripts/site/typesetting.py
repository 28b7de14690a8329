"""Formulas of MkDocs's pages as MathML, once the pages are HTML.

Browsers draw MathML by themselves, so formulas need no script, no font and no network, and are
read aloud.
"""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(text: str, **_: Any) -> str:
    """Set the formulas of a page; one that is displayed needs a paragraph of its own."""
    typeset = _FORMULA.sub(_set, text)
    if lost := re.search(r".{0,40}\$<math", typeset):
        raise PluginError(f"a formula between $$ needs empty lines around it: {lost[0]!r}")
    return typeset


def _set(found: re.Match[str]) -> str:
    _, opening, formula = found.groups()
    return convert(html.unescape(formula), display="block" if opening == "[" else "inline")
