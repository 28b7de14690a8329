"""The parts of ``benchmarks/gpu.py``, which measures on a GPU."""
