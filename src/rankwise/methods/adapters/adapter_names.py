"""The names of a model's adapters: which there are, and which there cannot be.

PEFT tells the tensors of adapters apart by the parts of their names. Of an adapter it saves none
that has the name of another adapter among these, so one called ``1`` would cost all others the
layer ``layers.1``, in silence. Alone it loses nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from rankwise.core.errors import ModelError

# Parts that PEFT puts into names itself, of layers that are not adapted yet.
_OF_PEFT = {"base_model", "model", "base_layer", "weight", "modules_to_save", "original_module"}
_BY_ADAPTER = (nn.ModuleDict, nn.ParameterDict, BufferDict)


def adapter_names(model: nn.Module) -> list[str]:
    """Return the names of the adapters that any layer of ``model`` carries, sorted."""
    layers = (each for each in model.modules() if isinstance(each, BaseTunerLayer))
    return sorted(set[str]().union(*(layer._get_available_adapters() for layer in layers)))


def unknown_adapter(model: nn.Module, adapter_name: str) -> ModelError:
    """Return the error of an adapter that no layer of ``model`` carries."""
    known = adapter_names(model)
    advice = (
        f"there is {', '.join(map(repr, known))}; pass adapter_name"
        if known
        else ("attach one with peft.get_peft_model")
    )
    return ModelError(
        f"no layer of {type(model).__name__} carries an adapter named {adapter_name!r}: {advice}"
    )


def check_adapter_names(
    model: nn.Module, names: Collection[str], *, saved: str | None = None
) -> None:
    """Refuse names of adapters for which PEFT would leave layers of others out of what it saves.

    Args:
        names: Of all the adapters that ``model`` has, or is about to have.
        saved: The only one that is going to be saved, whose own name costs nothing; None: any.

    Raises:
        ModelError: A module or parameter of ``model`` is called as one of several adapters, or
            PyTorch cannot hold a module of that name.
    """
    for name in names:
        if "." in name or not name or hasattr(nn.ModuleDict, name):
            raise ModelError(
                f"an adapter cannot be called {name!r}, which PyTorch takes for no module's name: "
                "choose another name"
            )
    if len(names) < 2:
        return
    taken = _OF_PEFT.union(_parts(model)).intersection(names) - {saved}
    if taken:
        raise ModelError(
            f"an adapter beside others cannot be called {min(taken)!r}, as modules or parameters "
            "of the model are: PEFT takes these for its own and leaves them out when it saves "
            "another adapter; choose another name, or have it in a model of its own"
        )


def _parts(module: nn.Module) -> Iterator[str]:
    """Yield how modules and parameters are called in a model, those of single adapters left out."""
    is_by_adapter = isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
    for name, child in module.named_children():
        yield name
        if not (is_by_adapter and isinstance(child, _BY_ADAPTER)):
            yield from _parts(child)
    yield from module._parameters
