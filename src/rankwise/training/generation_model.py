"""A causal model with its adapter, opened to generate: in memory, or served by vLLM."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn
from transformers import AutoConfig

from rankwise.core.errors import SettingsError
from rankwise.evaluation.generation import (
    Completion,
    Decoding,
    Engine,
    TextGenerator,
    TransformersEngine,
)
from rankwise.evaluation.vllm_engine import VllmEngine
from rankwise.export.lora import export_lora
from rankwise.tasks.generation.definitions import SMALL
from rankwise.tasks.generation.prompts import Prompts
from rankwise.tasks.pretrained import find_model, from_pretrained
from rankwise.training.evaluating import CausalAdapter, find_causal

EngineName = Literal["transformers", "vllm"]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class GenerationModel:
    """A causal model with its adapter, ready to answer benchmarks.

    Attributes:
        engine: Generates the tokens.
        prompts: How questions are put to it.
        name: Of the run, or of the adapter's directory.
        folder: Where completions are kept.
        data_root: Where benchmarks lie; None: on the Hub.
        context: How many tokens the model sees, if it says so.
        model: What can weigh options by their likelihood; None: the engine has no such thing.
    """

    engine: Engine
    prompts: Prompts
    name: str
    folder: Path
    data_root: Path | None
    context: int | None
    model: nn.Module | None

    def complete(
        self,
        texts: Sequence[str],
        stem: str,
        *,
        decoding: Decoding,
        batch_size: int,
        progress: Progress,
    ) -> list[Completion]:
        """Return the completions of ``texts``; the file STEM.jsonl keeps them."""
        generator = TextGenerator(
            self.engine, self.prompts.tokenizer, batch_size=batch_size, context=self.context
        )
        file = self.folder / f"{stem}.jsonl"
        return generator.complete(self.prompts.tokens(texts), decoding, file, progress=progress)


@contextlib.contextmanager
def opened_for_generation(
    path: Path, options: dict[str, Any] | None = None, *, engine: EngineName = "transformers"
) -> Iterator[GenerationModel]:
    """Open the causal model whose adapter lies at ``path``: a run's, or any adapter directory.

    Args:
        path: The folder of a finished run, the ``adapter`` folder in it, or an adapter directory.
        options: Settings of the task in the place of those recorded, such as ``data_root``.
        engine: ``vllm`` serves the base with the adapter as a plain LoRA, exported for it.

    Raises:
        AdapterError: There is no adapter, it cannot be read, or vLLM does not take it.
        ModelError: The base cannot be loaded, or the adapter leaves as no plain LoRA.
        SettingsError: The model is no causal one, or vLLM is not installed.
    """
    adapter = find_causal(path, options)
    prompts = adapter.task.prompts()
    own = {"name": adapter.name, "folder": adapter.folder, "data_root": adapter.task.data_root}
    if engine == "transformers":
        model: Any = adapter.load()
        chosen: Engine = TransformersEngine(model, prompts.end, prompts.padding)
        context = getattr(model.config, "max_position_embeddings", None)
        yield GenerationModel(chosen, prompts, context=context, model=model, **own)
        return
    with tempfile.TemporaryDirectory() as folder:
        chosen, context = _vllm(adapter, Path(folder) / "lora", prompts.end)
        yield GenerationModel(chosen, prompts, context=context, model=None, **own)


def _vllm(adapter: CausalAdapter, folder: Path, end: int) -> tuple[VllmEngine, int | None]:
    """Return vLLM on the adapter, that of a run exported to ``folder``, and its context."""
    base: Any = adapter.task.base
    name = getattr(base, "name", SMALL)
    if name == SMALL:
        raise SettingsError(f"--engine vllm needs a base with files, and {SMALL!r} is made here")
    directory = adapter.path
    if adapter.run is not None:
        export_lora(adapter.run.trained_model(), folder)
        directory = folder
    engine = VllmEngine.open(find_model(name), directory, end=end, dtype=adapter.task.dtype)
    config = from_pretrained(AutoConfig, name)
    return engine, getattr(config, "max_position_embeddings", None)
