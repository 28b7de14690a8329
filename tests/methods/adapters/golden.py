"""Golden numbers, where they lie beside the repository; without them their tests have no case."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).resolve().parents[3] / ".." / "shared" / "golden"


def golden_cases(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Tensor]]]:
    """Yield the parameters and the tensors, by short name, of each case of a file."""
    index = GOLDEN / f"{name}.index.json"
    if not index.exists():
        return
    tensors = load_file(GOLDEN / f"{name}.safetensors")
    for case, content in json.loads(index.read_text())["cases"].items():
        names = [tensor["name"] for tensor in content["tensors"]]
        yield content["params"], {n.removeprefix(f"{case}."): tensors[n] for n in names}
