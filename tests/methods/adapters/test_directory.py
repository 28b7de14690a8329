"""How adapter directories are written; what is read of strangers' is in ``tests/robustness``."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from peft import LoraConfig

from rankwise.methods.adapters.directory import CONFIG, sort_config

NAMES = [f"layers.{number}" for number in range(12)]
SAVE = f"""
import sys
from pathlib import Path
from peft import LoraConfig
from rankwise.methods.adapters.directory import sort_config

folder = Path(sys.argv[1])
LoraConfig(target_modules={NAMES}, exclude_modules={NAMES[:7]}).save_pretrained(folder)
sort_config(folder)
"""


def test_names_are_in_order_and_the_rest_is_as_it_was(tmp_path):
    config = {
        "peft_type": "LORA",
        "r": 2,
        "target_modules": ["q", "a"],
        "modules_to_save": ["z", "b"],
    }
    (tmp_path / CONFIG).write_text(json.dumps(config | {"exclude_modules": "a|b"}))
    sort_config(tmp_path)
    written = json.loads((tmp_path / CONFIG).read_text())
    assert written == config | {"target_modules": ["a", "q"], "exclude_modules": "a|b"}


@pytest.mark.processes
def test_two_processes_write_the_same_bytes(tmp_path):
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    words = [sys.executable, "-c", SAVE, str(tmp_path / "other")]
    subprocess.run(words, env=environment, check=True, capture_output=True)
    LoraConfig(target_modules=NAMES, exclude_modules=NAMES[:7]).save_pretrained(tmp_path / "own")
    sort_config(tmp_path / "own")
    ours, theirs = ((tmp_path / each / CONFIG).read_bytes() for each in ("own", "other"))
    assert ours == theirs
