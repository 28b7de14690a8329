"""What stands in the pages of documentation: their blocks of code, and the commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# A quoted value may go over several lines.
_COMMAND = re.compile(r'^(?:[A-Z_]+=\S+ )*rankwise ((?:"[^"]*"|[^"\n])*)', re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the blocks of code in these languages, in their order."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [block for language, block in found if language in languages]


def commands(page: Path) -> list[list[str]]:
    """Return the words of every ``rankwise`` command, without comments and redirections."""
    found = []
    for block in blocks(page, "", "sh", "bash"):
        for command in _COMMAND.findall(block.replace("\\\n", " ")):
            words = shlex.split(command, comments=True)
            found.append(words[: words.index(">")] if ">" in words else words)
    return found
