"""Rows of tokens packed into sequences of one length, in which they do not see one another.

TRL packs them, best fit first. Transformers keeps them apart by itself where positions begin anew,
no mask is given and no cache is kept: so the loss of a batch is that of the same rows padded, but
for rounding. Not every model and attention does; one that does not is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rankwise.core.errors import ModelError, SettingsError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.core.library_noise import without_bars_of_datasets
from rankwise.core.modules import device_of, in_eval_mode
from rankwise.tasks.splits import Batch, Rows

# Of the difference that it makes to see other rows: what rounding in bfloat16 may come to.
_MOST_MIXED = 0.1


class PackedRows(Rows):
    """Sequences of several rows each.

    A batch has ``input_ids``, ``labels`` and ``position_ids``, int64 of shape (sequences, longest).
    Positions begin anew with each row, whose first token is predicted by nothing; what fills a
    sequence up stands apart from all rows, and has the label -100. There is no ``attention_mask``.

    Args:
        inputs: Of each sequence the tokens.
        labels: The same with -100 where a token does not count.
        lengths: Of each sequence the lengths of its rows.
        padding: The token that fills up.
    """

    def __init__(
        self,
        inputs: Sequence[Sequence[int]],
        labels: Sequence[Sequence[int]],
        lengths: Sequence[Sequence[int]],
        *,
        padding: int,
    ) -> None:
        self._positions = [torch.cat([torch.arange(n) for n in each]) for each in lengths]
        self._inputs = [torch.tensor(each) for each in inputs]
        self._labels = [
            torch.tensor(each).masked_fill(positions == 0, IGNORED_LABEL)
            for each, positions in zip(labels, self._positions, strict=True)
        ]
        self._padding = padding
        self.lengths = [len(each) for each in self._inputs]

    def __len__(self) -> int:
        return len(self._inputs)

    def take(self, index: Tensor | slice) -> Batch:
        """Return the sequences ``index`` as one batch."""
        numbers = range(len(self))[index] if isinstance(index, slice) else index.tolist()
        columns = {
            "input_ids": (self._inputs, self._padding),
            "labels": (self._labels, IGNORED_LABEL),
            "position_ids": (self._positions, 0),
        }
        return {
            name: pad_sequence([column[i] for i in numbers], batch_first=True, padding_value=value)
            for name, (column, value) in columns.items()
        }


def pack(
    inputs: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], *, length: int, padding: int
) -> PackedRows:
    """Pack rows of at most ``length`` tokens into sequences of at most so many.

    Raises:
        SettingsError: TRL is missing.
    """
    try:
        from trl.data_utils import pack_dataset
    except ImportError as error:
        raise SettingsError(
            f"task.packing needs TRL, which cannot be found ({error}): pip install trl"
        ) from None
    import datasets

    with without_bars_of_datasets():
        rows = datasets.Dataset.from_dict({"input_ids": list(inputs), "labels": list(labels)})
        packed: Any = pack_dataset(rows, length, strategy="bfd")
    return PackedRows(
        packed["input_ids"][:], packed["labels"][:], packed["seq_lengths"][:], padding=padding
    )


def keep_rows_apart(model: nn.Module, name: str) -> None:
    """Set up a causal model for packed rows, and refuse one in which they see one another.

    Raises:
        ModelError: They do.
    """
    config: Any = model.config
    config.use_cache = False  # with one the positions are not looked at
    if not _has_rows_apart(model):
        attention = getattr(config, "_attn_implementation", None)
        raise ModelError(
            f"task.packing: in {name} ({config.model_type}, attention {attention}) the rows of a "
            "packed sequence see one another: set --task.attn_implementation sdpa or eager where "
            "another was chosen, or --task.packing false"
        )


@torch.no_grad()
def _has_rows_apart(model: nn.Module) -> bool:
    vocabulary = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    first, second = (torch.arange(4, device=device_of(model)) + vocabulary // 2).view(2, 2)
    both = torch.cat([first, second])
    # Two sequences, because some ways of attention keep rows apart in one alone.
    inputs = torch.stack([both, torch.cat([second, first])])
    packed = torch.tensor([0, 1, 0, 1], device=inputs.device).expand(2, -1)

    def logits(tokens: Tensor, positions: Tensor) -> Tensor:
        return model(input_ids=tokens, position_ids=positions)["logits"][0, -2:].float()

    with in_eval_mode(model):
        alone = logits(second[None], packed[:1, :2])
        apart = (logits(inputs, packed) - alone).norm()
        mixed = (logits(inputs, torch.arange(4, device=inputs.device).expand(2, -1)) - alone).norm()
    return bool(apart <= _MOST_MIXED * mixed)
