"""Facts about this process, recorded beside every result: versions, commit and peak memory."""

from __future__ import annotations

import ctypes
import platform
import resource
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_PACKAGES = ("rankwise", "torch", "peft", "transformers", "accelerate", "safetensors", "numpy")


@cache  # of a process: what it has imported does not change, and a worker records many runs
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    found = {package: metadata.version(package) for package in _PACKAGES}
    # Which CUDA it was built for is no part of what the metadata of some builds say.
    return {"python": platform.python_version()} | found | {"torch": str(torch.__version__)}


@cache
def commit() -> str | None:
    """Return the git commit of the source tree that runs, or None outside of one."""
    folder = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def reset_peak_memory() -> None:
    """Start a new measurement; where only Linux could, the peak stays the whole process's."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    if _CLEAR_REFS.exists():
        _return_freed_memory()
        _CLEAR_REFS.write_text("5")


def _return_freed_memory() -> None:
    """Give the system what was freed here, or a later peak within it would not show as one."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if malloc_trim is not None:
        malloc_trim(0)


def peak_memory_bytes() -> int:
    """Return the peak since :func:`reset_peak_memory`, of the accelerator if one is used."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes * (1 if platform.system() == "Darwin" else 1024)
