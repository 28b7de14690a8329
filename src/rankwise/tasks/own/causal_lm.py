"""Plain text: the texts of a split, joined by end tokens and cut into blocks of one length.

So a model learns from every token, and its perplexity is that of the whole split, as Transformers'
example ``run_clm.py`` has it; the last block, which that leaves out, is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rankwise.core.errors import DataError
from rankwise.tasks.own.columns import check_columns, find_text
from rankwise.tasks.own.definitions import CAUSAL_LM
from rankwise.tasks.own.division import divide
from rankwise.tasks.own.language import EncodedRows, LanguageTask
from rankwise.tasks.own.source import read_source
from rankwise.tasks.own.task import filled_texts, length_of

LONGEST = 1024


@dataclass(frozen=True)
class CausalLm(LanguageTask):
    """Perplexity on plain text.

    Attributes:
        text: The column of the texts; None: guessed.
    """

    text: str | None = None

    @property
    def name(self) -> str:
        return CAUSAL_LM

    def texts(self) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
        given, place = read_source(self.source), self.source.data
        text = self.text or find_text(given["train"], place=place)
        for split, rows in given.items():
            check_columns(rows, [text], place=f"{place}, {split}")
        divided = divide(
            {
                split: filled_texts(rows[text][:], place=f"{place}, {split}, column {text!r}")
                for split, rows in given.items()
            },
            self.cut,
            key=lambda row: " ".join(row.split()),
            place=place,
        )
        return dict(divided.rows), {"columns": {"text": text}, **divided.facts}

    def encoded(self, rows: Sequence[Any], *, place: str) -> EncodedRows:
        """Return the texts as blocks of at most ``max_length`` tokens, all of which count."""
        tokenizer: Any = self.tokenizer()
        length = length_of(tokenizer, self.max_length, otherwise=LONGEST)
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        columns = tokenizer(list(rows), return_attention_mask=False, verbose=False)["input_ids"]
        tokens = [token for row in columns for token in (row if row[-1:] == end else [*row, *end])]
        blocks = [tokens[start : start + length] for start in range(0, len(tokens), length)]
        if len(blocks) > 1 and len(blocks[-1]) == 1:
            # A token alone has no next one to predict.
            blocks.pop()
        if len(blocks[0]) < 2:
            raise DataError(f"{place} has fewer than two tokens: there is nothing to predict")
        facts = {"blocks": len(blocks), "tokens": len(tokens), "max_length": length}
        return EncodedRows(blocks, [list(block) for block in blocks], facts)
