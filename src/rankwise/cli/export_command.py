"""``rankwise export``: a run as a plain LoRA or merged, an unfinished chain as it stands."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
from pathlib import Path
from typing import Any

from rankwise.cli.arguments import existing_folder, positive
from rankwise.cli.showing import say
from rankwise.core.errors import SettingsError

SECTIONS = ()
TARGETS = ("lora", "merged", "gguf-ready", "gguf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, the form in which it is written, and where."""
    parser.add_argument(
        "run", type=Path, help="the folder of a run, or one with the ledger of an unfinished chain"
    )
    parser.add_argument("--target", choices=TARGETS, default="lora")
    parser.add_argument("--rank", type=positive, help="compress the change to this rank")
    parser.add_argument(
        "--llama-cpp",
        type=Path,
        help="for --target gguf: the folder of llama.cpp's repository (default: "
        "RANKWISE_LLAMA_CPP, else its converter on the PATH)",
    )
    parser.add_argument(
        "--check", choices=("vllm",), help="for --target lora: let vLLM write a few tokens with it"
    )
    parser.add_argument("--output", type=Path, required=True, help="a new directory")


def run(arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Write the directory and say how near it is to what it was made from."""
    if arguments.target == "merged" and arguments.rank is not None:
        raise SettingsError("--rank compresses a LoRA and means nothing for --target merged")
    _check_together(arguments)
    existing_folder(arguments.run)
    converter = None
    if arguments.target == "gguf":
        from rankwise.export.llama_cpp import find_converter

        converter = find_converter(arguments.llama_cpp)
    ledger = _ledger_folder(arguments.run)
    text, notes = _from_run(arguments) if ledger is None else _from_ledger(arguments, ledger)
    say(f"written: {arguments.output}, {text}", *(f"note: {note}" for note in notes))
    if arguments.target == "gguf":
        _convert(arguments.output, converter)
    if arguments.check is not None:
        from rankwise.training.serving import check_vllm

        tokens = check_vllm(arguments.run, arguments.output)
        say(f"checked: vLLM loaded it and wrote {tokens} tokens")
    return 0


def _check_together(arguments: argparse.Namespace) -> None:
    """Refuse options that would be passed over, and a check that cannot be made."""
    if arguments.llama_cpp is not None and arguments.target != "gguf":
        raise SettingsError(f"--llama-cpp is for --target gguf, got {arguments.target}")
    if arguments.check is None:
        return
    if arguments.target != "lora":
        raise SettingsError(f"--check vllm is for --target lora, got {arguments.target}")
    if importlib.util.find_spec("vllm") is None:
        raise SettingsError(
            "--check vllm needs vLLM and a GPU that it supports: pip install 'rankwise[vllm]'"
        )


def _convert(directory: Path, converter: Path | None) -> None:
    """Let llama.cpp's converter write the file, or say the one command that does."""
    from rankwise.export.llama_cpp import FOLDER, convert_lora, converting_command

    if converter is None:
        say(
            f"llama.cpp's converter is not here (--llama-cpp, {FOLDER} or the PATH); with it:",
            shlex.join(converting_command(directory, None)),
        )
    else:
        say(f"written: {convert_lora(directory, converter)}")


def _from_run(arguments: argparse.Namespace) -> tuple[str, tuple[str, ...]]:
    from rankwise.training.publishing import publish_lora, publish_merged

    if arguments.target == "merged":
        rows, difference = publish_merged(arguments.run, arguments.output)
        return f"merged weights; {_compared(rows, difference)}", ()
    published = publish_lora(
        arguments.run, arguments.output, rank=arguments.rank, target=_written_as(arguments.target)
    )
    text = f"a plain LoRA of rank {published.lora.rank}; {_lost(published.errors)}"
    text += _compared(published.rows, published.largest_difference)
    return text, published.lora.notes


def _written_as(target: str) -> Any:
    """Return the form of the directory: that of a GGUF file is made from its own."""
    return "gguf-ready" if target == "gguf" else target


def _ledger_folder(path: Path) -> Path | None:
    """Return where the newest ledger of an unfinished chain lies, or None for a finished run."""
    from rankwise.methods.chain.ledger import FILE_NAME

    if (path / FILE_NAME).is_file():
        return path
    if (path / "record.json").exists():
        return None
    found = path.glob(f"checkpoints/checkpoint-*/{FILE_NAME}")
    steps = {int(file.parent.name.rpartition("-")[2]): file.parent for file in found}
    return steps[max(steps)] if steps else None


def _from_ledger(arguments: argparse.Namespace, ledger: Path) -> tuple[str, tuple[str, ...]]:
    if arguments.target == "merged":
        raise SettingsError("an unfinished chain has no model to merge into: --target lora")
    from rankwise.export.gguf import make_gguf_ready
    from rankwise.export.ledger import export_ledger

    done = export_ledger(ledger, arguments.output, rank=arguments.rank)
    if _written_as(arguments.target) == "gguf-ready":
        make_gguf_ready(arguments.output)
    text = (
        f"a plain LoRA of rank {done.rank} from {done.blocks} blocks of the unfinished chain in "
        f"{ledger}; {_lost(done.errors)}read back and compared"
    )
    return text, done.notes


def _lost(errors: dict[str, float]) -> str:
    if not any(errors.values()):
        return ""
    layer, error = max(errors.items(), key=lambda item: item[1])
    return f"relative error of the compressed change up to {error:.1e} ({layer}); "


def _compared(rows: int, difference: float) -> str:
    return f"on {rows} rows the largest difference of an output is {difference:.1e} of its largest"
