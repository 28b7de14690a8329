"""What mkdocstrings is told of our docstrings: they name things as Sphinx does, and have examples.

An editor shows ``:func:`name``` as it stands; a page needs the name alone. ``Example:`` is the
section that mkdocstrings calls ``Examples:``.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|attr):(?=`)")
_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


class OurDocstrings(griffe.Extension):
    """Turns our docstrings into what mkdocstrings reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub("Examples:", _ROLE.sub("", obj.docstring.value))
