"""Doing something right after a package has been imported, whoever imports it.

PEFT must know our adapter types before it loads an adapter, but importing PEFT takes seconds, and
much of Rankwise needs neither PEFT nor torch. So nobody imports it for this: where it is imported
already the action runs at once, elsewhere a finder on ``sys.meta_path`` waits for it, lets Python
find the package as ever, and has the action run behind the package's own code. It then takes
itself off the path. Whoever only asks whether the package is there (``importlib.util.find_spec``)
starts nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def run_after_import(package: str, action: Callable[[], None]) -> None:
    """Run ``action`` once: now if ``package`` is imported, else right after its import.

    An exception of ``action`` leaves the import that it ran behind.
    """
    if package in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _Waiting(package, action))


class _Waiting(MetaPathFinder):
    """Finds nothing itself: hands on what the other finders find, with the action behind it."""

    def __init__(self, package: str, action: Callable[[], None]) -> None:
        self._package = package
        self._action = action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        finders = list(sys.meta_path)
        if fullname != self._package or self not in finders:
            return None
        # Those before this one have been asked already.
        for finder in finders[finders.index(self) + 1 :]:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                # Only what can be executed is a package; a bare folder of that name is none.
                if spec.loader is not None:
                    spec.loader = _Acting(spec.loader, self._act)
                return spec
        return None

    def _act(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            self._action()


class _Acting(Loader):
    """Loads by the package's own loader, which is put back before any code of the package runs."""

    def __init__(self, loader: Loader, act: Callable[[], None]) -> None:
        self._loader = loader
        self._act = act

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._act()
