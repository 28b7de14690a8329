"""Generation by vLLM (extra ``vllm``), of a base model with an exported plain LoRA on it.

Written against what vLLM documents: ``LLM(model, enable_lora, max_lora_rank)``, ``SamplingParams``,
``LoRARequest(name, number, path)`` and prompts as token numbers. The tests hold it against a
stand-in of that interface; it has not been run against vLLM itself, which needs a GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.core.vllm import LARGEST_RANK, max_lora_rank
from rankwise.evaluation.generation import Decoding, TokenIds
from rankwise.methods.adapters.directory import read_config

_NAME, _NUMBER = "rankwise", 1


@dataclass(frozen=True)
class VllmEngine:
    """A base model served in this process, with a plain LoRA.

    Attributes:
        llm: vLLM's ``LLM``.
        adapter: vLLM's ``LoRARequest``.
        end: The end token of the model's tokenizer.
    """

    llm: Any
    adapter: Any
    end: int

    @classmethod
    def open(cls, base: str, adapter: Path, *, end: int, dtype: str = "auto") -> VllmEngine:
        """Load the model ``base``, by its name or folder, for the LoRA in ``adapter``.

        Raises:
            AdapterError: The directory cannot be read, is no plain LoRA, or one vLLM does not take.
            SettingsError: vLLM is not installed.
        """
        rank = _served_rank(adapter)
        vllm = _library()
        from vllm.lora.request import LoRARequest  # type: ignore[import-not-found]

        llm = vllm.LLM(model=base, dtype=dtype, enable_lora=True, max_lora_rank=rank)
        return cls(llm, LoRARequest(_NAME, _NUMBER, str(adapter)), end)

    def ready(self) -> contextlib.AbstractContextManager[object]:
        """Do nothing: vLLM keeps the adapter beside the weights."""
        return contextlib.nullcontext()

    def generate(
        self, prompts: Sequence[TokenIds], decoding: Decoding, *, seed: int
    ) -> list[list[int]]:
        """Return the new tokens after each prompt."""
        outputs = self.llm.generate(
            [{"prompt_token_ids": list(prompt)} for prompt in prompts],
            _sampling(decoding, seed),
            lora_request=self.adapter,
            use_tqdm=False,
        )
        return [self._tokens(output.outputs[0]) for output in outputs]

    def _tokens(self, completion: Any) -> list[int]:
        """Return the tokens of one completion, with its end if it came to one."""
        tokens = list(completion.token_ids)
        return tokens if completion.finish_reason == "length" else [*tokens, self.end]


def _library() -> Any:
    try:
        import vllm  # type: ignore[import-not-found]
    except ImportError:
        raise SettingsError(
            "--engine vllm needs vLLM and a GPU that it supports: pip install 'rankwise[vllm]'"
        ) from None
    return vllm


def _served_rank(adapter: Path) -> int:
    """Return the option ``max_lora_rank`` that the adapter needs."""
    config = read_config(adapter)
    if config["peft_type"] != "LORA":
        raise AdapterError(
            f"{adapter} is of type {config['peft_type']}, and vLLM takes a plain LoRA: export it "
            "by rankwise export"
        )
    if config.get("modules_to_save"):
        raise AdapterError(
            f"{adapter} has modules_to_save {config['modules_to_save']}, which vLLM does not take: "
            "export --target merged and evaluate that"
        )
    rank = max_lora_rank(config["r"])
    if rank is None:
        raise AdapterError(
            f"{adapter} has rank {config['r']}, and vLLM takes up to {LARGEST_RANK}: export it "
            "with a smaller --rank"
        )
    return rank


def _sampling(decoding: Decoding, seed: int) -> Any:
    """Return ``SamplingParams``; a temperature of 0 is greedy there."""
    options: dict[str, Any] = {"temperature": 0.0}
    if decoding.temperature is not None:
        options = {
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "top_k": decoding.top_k or -1,
            "seed": seed % 2**31,
        }
    return _library().SamplingParams(
        max_tokens=decoding.max_new_tokens,
        stop=list(decoding.stop_words) or None,
        # Cut from the text by us, as for every other engine.
        include_stop_str_in_output=True,
        **options,
    )
