"""Our layers inside PEFT. Whoever comes for them imports PEFT here, without its imports' noise."""

from rankwise.core.library_noise import quiet_imports

with quiet_imports():
    import peft  # noqa: F401
