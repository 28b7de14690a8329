"""The model card: what an adapter is, where it comes from, and how to load it.

Written by ``huggingface_hub.ModelCard``, so that the Hub links an upload with its base model. The
licence is for those who publish to state: it depends on the base and the data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from rankwise.tasks.generation.small import SMALL

_NEEDS_RANKWISE = (
    "Its type is one of Rankwise's own: `import rankwise` before PEFT loads it, or PEFT stops with "
    "a bare `KeyError`."
)
_PLAIN = "It is a plain LoRA: PEFT and the servers that read its format load it without Rankwise."
_MERGED = "The change is merged into the weights: load it as you load the base model."


def start_card(record: dict[str, Any]) -> str:
    """Return the card of an adapter that was initialised and not trained."""
    kind = record["settings"]["method"]["adapter"]["kind"]
    loading = _PLAIN if kind == "lora" else _NEEDS_RANKWISE if kind != "peft" else ""
    code = "PeftModel.from_pretrained(base, DIRECTORY, is_trainable=True)"
    return _card(
        "An adapter at its start",
        f"Initialised by `rankwise init`, not trained. Train on it: `{code}`.\n\n{loading}",
        record,
        library="peft",
    )


def export_card(
    record: dict[str, Any],
    *,
    target: str,
    found: str,
    code: str | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Return the card of what ``rankwise export`` wrote.

    ``found`` says how it was compared, ``code`` loads it, ``notes`` are what servers ask of it, a
    sentence each.
    """
    scores = [f"- {record['metric']} on validation: {record['score_validation']:.4f}"]
    scores += [f"- {note}" for note in notes]
    is_merged = target == "merged"
    text = _MERGED if is_merged else _PLAIN
    if code is not None:
        text += (
            "\n\nWith DIRECTORY as the folder of this file, or its name on the Hub:\n\n"
            f"```python\n{code}\n```"
        )
    return _card(
        f"{record['settings']['method']['name']} on {record['settings']['task']['name']}",
        "\n".join([text, "", f"Compared before it was kept: {found}.", "", *scores]),
        record,
        library=None if is_merged else "peft",
    )


def _card(title: str, text: str, record: dict[str, Any], *, library: str | None) -> str:
    metadata = ModelCardData(
        base_model=_name_on_hub(record["settings"]["task"].get("model")),
        library_name=library,
        tags=["rankwise", "lora"] if library == "peft" else ["rankwise"],
    )
    settings = json.dumps(record["settings"], indent=2)
    content = (
        f"---\n{metadata.to_yaml()}\n---\n\n# {title}\n\n{text}\n\n{_versions(record)}"
        f"## Settings\n\n```json\n{settings}\n```\n"
    )
    return str(ModelCard(content))


def _versions(record: dict[str, Any]) -> str:
    """Return the section on versions; nothing where none were recorded, by federations of 0.1."""
    if not record["versions"]:
        return ""
    versions = "\n".join(f"- {name} {number}" for name, number in record["versions"].items())
    versions += f"\n- commit {record['commit']}" if record["commit"] else ""
    return f"## Versions\n\n{versions}\n\n"


def _name_on_hub(model: str | None) -> str | None:
    """Return the base model's name if it is one of the Hub, and no folder, package or stand-in."""
    if model is None or model == SMALL or Path(model).exists():
        return None
    try:
        validate_repo_id(model)
    except HFValidationError:
        return None
    return model
