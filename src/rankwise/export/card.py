"""The model card: what an adapter is, where it comes from, and how to load it."""

from __future__ import annotations

import json
from typing import Any

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
    )


def export_card(record: dict[str, Any], *, target: str, found: str) -> str:
    """Return the card of what ``rankwise export`` wrote; ``found`` says how it was compared."""
    scores = [f"- {record['metric']} on validation: {record['score_validation']:.4f}"]
    text = _MERGED if target == "merged" else _PLAIN
    return _card(
        f"{record['settings']['method']['name']} on {record['settings']['task']['name']}",
        "\n".join([text, "", f"Compared before it was kept: {found}.", "", *scores]),
        record,
    )


def _card(title: str, text: str, record: dict[str, Any]) -> str:
    settings = json.dumps(record["settings"], indent=2)
    versions = "\n".join(f"- {name} {number}" for name, number in record["versions"].items())
    return (
        f"---\nlibrary_name: peft\ntags: [rankwise]\n---\n\n# {title}\n\n{text}\n\n"
        f"## Versions\n\n{versions}\n- commit {record['commit']}\n\n"
        f"## Settings\n\n```json\n{settings}\n```\n"
    )
