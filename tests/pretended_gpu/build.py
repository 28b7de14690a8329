"""Compile the pretended device against the PyTorch that runs this: ``build.py TARGET``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths


def main(target: str) -> None:
    libraries = Path(torch.__file__).parent / "lib"
    headers = [f"-isystem{path}" for path in include_paths()]
    linked = [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-lc10", "-ltorch_cpu", "-ltorch"]
    source = str(Path(__file__).with_name("device.cpp"))
    command = ["g++", "-std=c++20", "-O1", "-shared", "-fPIC", *headers, source, *linked]
    subprocess.run([*command, "-o", target], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
