"""llama.cpp's own converter, where it is: from a plain LoRA to one GGUF file.

It is a script of llama.cpp's repository, ``convert_lora_to_gguf.py``, looked for in the folder that
is named, in that of ``RANKWISE_LLAMA_CPP``, and on the PATH.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.methods.adapters.directory import read_config

SCRIPT = "convert_lora_to_gguf.py"
FOLDER = "RANKWISE_LLAMA_CPP"
FILE = "adapter.gguf"


def find_converter(folder: Path | None) -> Path | None:
    """Return the script, or None where nobody has named a folder and it is not on the PATH.

    Raises:
        SettingsError: A folder is named, and it is not there.
    """
    named = folder or (Path(os.environ[FOLDER]) if os.environ.get(FOLDER) else None)
    if named is None:
        found = shutil.which(SCRIPT)
        return None if found is None else Path(found)
    if not (named / SCRIPT).is_file():
        raise SettingsError(
            f"no {SCRIPT} in {named}: name the folder of llama.cpp's repository by --llama-cpp or "
            f"{FOLDER}"
        )
    return named / SCRIPT


def converting_command(directory: Path, converter: Path | None) -> list[str]:
    """Return the words of the command that writes ``adapter.gguf`` into a LoRA directory."""
    script = SCRIPT if converter is None else str(converter)
    words = ["python" if converter is None else sys.executable, script, str(directory)]
    base = Path(str(read_config(directory).get("base_model_name_or_path")))
    # Another base it looks up on the Hub, by the adapter's config.
    if (base / "config.json").is_file():
        words += ["--base", str(base)]
    return [*words, "--outfile", str(directory / FILE)]


def convert_lora(directory: Path, converter: Path) -> Path:
    """Convert the plain LoRA in ``directory``, and return the file that was written there.

    Raises:
        AdapterError: The converter has failed; the directory stays as it was.
    """
    words, file = converting_command(directory, converter), directory / FILE
    ended = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if ended.returncode or not file.is_file():
        file.unlink(missing_ok=True)
        said = (ended.stderr.strip() or ended.stdout.strip() or "nothing").splitlines()[-1]
        raise AdapterError(
            f"llama.cpp's converter failed with {said!r}: {shlex.join(words)}; the plain LoRA in "
            f"{directory} is whole"
        )
    return file
