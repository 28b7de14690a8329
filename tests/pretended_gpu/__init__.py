"""A GPU that is pretended, for tests: ``pytest -p tests.pretended_gpu``.

The device is in ``device.cpp``, which ``make`` compiles; here ``torch.cuda`` is told of it. Numbers
are the CPU's. What a GPU alone has is not there: kernels of Triton and bitsandbytes, several
devices, streams that run beside each other, a memory that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from importlib.util import find_spec
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / ".venv" / "pretended-gpu.so"

if "torch" in sys.modules:
    raise ImportError("the pretended GPU comes before torch: load it by -p tests.pretended_gpu")
if list(Path(find_spec("torch").origin).parent.glob("lib/libtorch_cuda.so")):
    raise ImportError("this PyTorch has CUDA: take a CPU build, or make test-cuda beside a GPU")
if not LIBRARY.is_file():
    raise ImportError(f"no {LIBRARY}: make test-pretended-gpu compiles it")
ctypes.CDLL(str(LIBRARY), ctypes.RTLD_GLOBAL)

import torch  # noqa: E402
import torch._dynamo  # noqa: E402  # what it has listed by now may be replaced
import torch.cuda.memory  # noqa: E402
import torch.cuda.random  # noqa: E402

MEMORY = 80 * 2**30
STATE = torch.zeros(8, dtype=torch.uint8)  # of random numbers that nobody draws


class Properties:
    """What is asked of a device's model."""

    name, total_memory, multi_processor_count, major, minor = "pretended", MEMORY, 1, 9, 0


class Event:
    """Has happened."""

    def __init__(self, *_args, **_options) -> None: ...
    def record(self, *_args) -> None: ...
    def wait(self, *_args) -> None: ...
    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, _other: Event) -> float:
        return 1.0


class Stream:
    """Has done all that was asked of it."""

    def __init__(self, *_args, **_options) -> None:
        self.device = torch.device("cuda", 0)

    def synchronize(self) -> None: ...
    def wait_stream(self, _other: Stream) -> None: ...
    def wait_event(self, _event: Event) -> None: ...

    def record_event(self, event: Event | None = None) -> Event:
        return event or Event()


def _answering(answer):
    return lambda *_args, **_options: answer


_ANSWERS = {
    "_is_compiled": True,
    "is_available": True,
    "is_initialized": True,
    "is_bf16_supported": True,
    "device_count": 1,
    "current_device": 0,
    "current_stream": Stream(),
    "default_stream": Stream(),
    "get_device_capability": (9, 0),
    "get_device_name": Properties.name,
    "get_device_properties": Properties,
    "mem_get_info": (MEMORY, MEMORY),
    "memory_allocated": 2**20,
    "max_memory_allocated": 2**20,
    "memory_reserved": 2**20,
    "max_memory_reserved": 2**20,
    "initial_seed": 0,
    "get_rng_state": STATE,
    "get_rng_state_all": [STATE],
    **dict.fromkeys(("_lazy_init", "init", "set_device", "synchronize", "empty_cache")),
    **dict.fromkeys(("reset_peak_memory_stats", "manual_seed", "manual_seed_all")),
    **dict.fromkeys(("seed", "seed_all", "set_rng_state", "set_rng_state_all", "ipc_collect")),
}
_ANSWERS_OF_C = {"_cuda_getDevice": 0, "_cuda_getDeviceCount": 1, "_cuda_getCurrentRawStream": 0}
_ANSWERS_OF_C |= dict.fromkeys(("_cuda_setDevice", "_cuda_synchronize", "_cuda_emptyCache"))

for module in (torch.cuda, torch.cuda.memory, torch.cuda.random):
    for name, answer in _ANSWERS.items():
        if module is torch.cuda or hasattr(module, name):
            setattr(module, name, _answering(answer))
for name, answer in _ANSWERS_OF_C.items():
    setattr(torch._C, name, _answering(answer))
torch.cuda.Stream, torch.cuda.Event = Stream, Event
torch.cuda.stream = lambda _stream: contextlib.nullcontext()
torch.Tensor.record_stream = _answering(None)
