"""``rankwise export``: a run as a plain LoRA or merged, an unfinished chain as it stands."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from rankwise.core.errors import SettingsError
from rankwise.export.gguf import make_gguf_ready
from rankwise.export.ledger import export_ledger
from rankwise.methods.chain.ledger import FILE_NAME
from rankwise.training.publishing import publish_lora, publish_merged


def run(arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Write the directory and say how near it is to what it was made from."""
    if arguments.target == "merged" and arguments.rank is not None:
        raise SettingsError("--rank compresses a LoRA and means nothing for --target merged")
    ledger = _ledger_folder(arguments.run)
    if ledger is not None:
        text = _from_ledger(arguments, ledger)
    elif arguments.target == "merged":
        rows, difference = publish_merged(arguments.run, arguments.output)
        text = f"merged weights; {_compared(rows, difference)}"
    else:
        published = publish_lora(
            arguments.run, arguments.output, rank=arguments.rank, target=arguments.target
        )
        text = f"a plain LoRA of rank {published.lora.rank}; {_lost(published.errors)}"
        text += _compared(published.rows, published.largest_difference)
    Console(highlight=False).print(f"written: {arguments.output}, {text}")
    return 0


def _ledger_folder(path: Path) -> Path | None:
    """Return where the newest ledger of an unfinished chain lies, or None for a finished run."""
    if (path / FILE_NAME).is_file():
        return path
    if (path / "record.json").exists():
        return None
    found = path.glob(f"checkpoints/checkpoint-*/{FILE_NAME}")
    steps = {int(file.parent.name.rpartition("-")[2]): file.parent for file in found}
    return steps[max(steps)] if steps else None


def _from_ledger(arguments: argparse.Namespace, ledger: Path) -> str:
    if arguments.target == "merged":
        raise SettingsError("an unfinished chain has no model to merge into: --target lora")
    done = export_ledger(ledger, arguments.output, rank=arguments.rank)
    if arguments.target == "gguf-ready":
        make_gguf_ready(arguments.output)
    return (
        f"a plain LoRA of rank {done.rank} from {done.blocks} blocks of the unfinished chain in "
        f"{ledger}; {_lost(done.errors)}read back and compared"
    )


def _lost(errors: dict[str, float]) -> str:
    if not any(errors.values()):
        return ""
    layer, error = max(errors.items(), key=lambda item: item[1])
    return f"relative error of the compressed change up to {error:.1e} ({layer}); "


def _compared(rows: int, difference: float) -> str:
    return f"on {rows} rows the largest difference of an output is {difference:.1e} of its largest"
