"""What servers ask of a plain LoRA directory before they take it.

vLLM refuses ranks above its option ``--max-lora-rank``, which is 16 by default, and any
``modules_to_save`` (``PEFTHelper`` in version 0.12). llama.cpp's converter stops at tensors that
are no LoRA factors.
"""

from __future__ import annotations

from pathlib import Path

from rankwise.core.vllm import DEFAULT_RANK, LARGEST_RANK, max_lora_rank
from rankwise.methods.adapters.directory import CONFIG, FACTORS, WEIGHTS, read_config, read_names


def serving_notes(directory: Path) -> tuple[str, ...]:
    """Return sentences on what the directory needs in vLLM, llama.cpp and PEFT; none if nothing.

    Raises:
        AdapterError: The directory cannot be read.
    """
    config = read_config(directory)
    notes = [_rank_note(config["r"])]
    others = sorted(key for key in read_names(directory / WEIGHTS) if not key.endswith(FACTORS))
    embeddings = [key for key in others if not _is_listed(key, config.get("modules_to_save"))]
    if config.get("modules_to_save"):
        notes.append(
            f"vLLM takes no modules_to_save ({', '.join(config['modules_to_save'])}) and "
            "llama.cpp's converter stops at them: --target merged, or gguf-ready"
        )
    if embeddings:
        notes.append(
            f"{', '.join(embeddings)} went along, as the vocabulary was resized: resize the base "
            "alike before PEFT loads this; servers need --target merged"
        )
    if config.get("target_parameters"):
        notes.append(
            f"{CONFIG} names {len(config['target_parameters'])} layers by their weight in "
            "target_parameters: their full names in target_modules PEFT takes for experts"
        )
    return tuple(note for note in notes if note)


def _rank_note(rank: int) -> str:
    if rank <= DEFAULT_RANK:
        return ""
    option = max_lora_rank(rank)
    if option is None:
        return (
            f"rank {rank} is more than vLLM serves ({LARGEST_RANK}): --rank {LARGEST_RANK} "
            "compresses the change, --target merged needs no rank"
        )
    return f"vLLM needs --max-lora-rank {option} for rank {rank} (it is {DEFAULT_RANK} by default)"


def _is_listed(key: str, modules: list[str] | None) -> bool:
    return any(f".{name}." in f".{key}" for name in modules or ())
