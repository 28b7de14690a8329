"""Text that others wrote, made fit for a line on a terminal, in a log or in a record.

The reason of a client's failure, a name in a file, the message of another library: such text may
hold control sequences, which move a terminal's cursor, colour it or answer in the user's name, and
line breaks, which pretend to be lines of ours. Whoever prints with Rich passes ``markup=False``
besides, or a ``Text``, since square brackets are left as they are.
"""

from __future__ import annotations

import unicodedata

# Control, format (also the marks that turn the direction of writing), surrogate, unassigned and
# private characters, and the separators of lines and paragraphs.
_UNFIT = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})

LONGEST = 400
"""Characters of an outside text that are kept."""


def one_line(text: str, *, longest: int = LONGEST) -> str:
    r"""Return ``text`` on one line: what is not to be printed as its escape, what is long cut.

    Example:
        >>> one_line("it failed:\n  \x1b[31mout of memory")
        'it failed: \\x1b[31mout of memory'
    """
    # Read no more than can be shown, whatever was sent.
    words = " ".join(text[: 4 * longest].split())
    shown = "".join(map(_shown, words[: longest + 1]))
    is_cut = len(text) > 4 * longest or len(shown) > longest
    return shown[: longest - 1] + "…" if is_cut else shown


def printable(text: str) -> str:
    r"""Return ``text`` with its lines, and what else is not to be printed as its escape.

    Example:
        >>> printable("one\ttwo\n\x1b[2Jthree")
        'one\ttwo\n\\x1b[2Jthree'
    """
    return "".join(each if each in "\n\t" else _shown(each) for each in text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNFIT:
        return character
    return character.encode("unicode_escape").decode("ascii")
