"""Run PEFT's own tests of adapters, from its source distribution, with our configs.

The distribution is that of the installed version; it is kept in ``.peft-tests`` beside the
checkout. Arguments are handed on to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEPT = HERE.parents[1] / ".peft-tests"
MODULE = "tests/test_custom_models.py"
# Before these lines of PEFT's module our cases take the place of its own.
PLACES = {
    "MULTIPLE_ACTIVE_ADAPTERS_TEST_CASES = [": "TEST_CASES",
    "class MLP(nn.Module):": "MULTIPLE_ACTIVE_ADAPTERS_TEST_CASES",
}


def main() -> int:
    """Fetch the tests, put our cases in, run them."""
    source = _source(metadata.version("peft"))
    (source / "tests" / "__init__.py").touch()  # its modules import one another as a package's
    _insert_cases(source / MODULE)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "rankwise_cases", "-c", os.devnull]
    command += ["--rootdir", str(source), "-W", "ignore", MODULE, *sys.argv[1:]]
    return subprocess.run(command, cwd=source, env=environment, check=False).returncode


def _source(version: str) -> Path:
    folder = KEPT / f"peft-{version}"
    if not folder.is_dir():
        KEPT.mkdir(exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        pip += ["--no-binary", ":all:", "--no-build-isolation", "--dest", str(KEPT)]
        subprocess.run([*pip, f"peft=={version}"], check=True)
        with tarfile.open(KEPT / f"peft-{version}.tar.gz") as archive:
            archive.extractall(KEPT, filter="data")
    return folder


def _insert_cases(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    for line, name in PLACES.items():
        if text.count(f"\n{line}\n") != 1:
            raise SystemExit(f"{module} has no single line {line!r}: look at how PEFT tests now")
        cases = f"from rankwise_cases import {name}  # noqa: E402"
        if cases not in text:
            text = text.replace(f"\n{line}\n", f"\n{cases}\n\n{line}\n")
    module.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
