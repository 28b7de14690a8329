"""The initialization alone: an adapter directory on which any PEFT-based trainer trains.

The directory appears whole or not at all:

    adapter_config.json, adapter_model.safetensors   the adapter at its start
    rankwise_init.json                               settings, versions, the report of the init
    base/                                            the base model, where the task had to make one
    README.md                                        how to train on it
"""

from __future__ import annotations

import os
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict

from rankwise.core import runtime
from rankwise.core.directories import draft_of
from rankwise.core.errors import AdapterError, SettingsError
from rankwise.core.records import write_text
from rankwise.export.card import start_card
from rankwise.methods.adapters.directory import check_adapter_directory
from rankwise.training.folder import RunFolder
from rankwise.training.initialization import initialize_adapter, needs_reference
from rankwise.training.job import prepare_job
from rankwise.training.records import InitialAdapterRecord
from rankwise.training.run import train_reference
from rankwise.training.saving import save_trained
from rankwise.training.settings.method import MethodSettings
from rankwise.training.settings.run import RunSettings
from rankwise.training.settings.schedules import SingleSchedule


def write_initial_adapter(settings: RunSettings, directory: Path) -> None:
    """Write the adapter of a run as it is before its first step.

    Raises:
        SettingsError: The directory is not empty, or the method has no adapter to write.
        AdapterError: What was written is not read back bit for bit; no directory is left.
    """
    _check(settings.method)
    with draft_of(directory) as draft:
        # What is needed meanwhile lies beside the draft, and goes with the hidden directory.
        folder = RunFolder(draft.parent / ".run", draft.parent / ".base")
        job = prepare_job(settings, folder.base)
        model = job.model
        assert isinstance(model, PeftModel)  # a full fine-tuning was refused above
        if needs_reference(settings.method):
            train_reference(job, folder, resume=False)
        job.place()
        report = initialize_adapter(job, folder)
        save_trained(model, draft)
        if folder.base.exists():
            os.replace(folder.base, draft / "base")
        _check_reread(model, draft)
        record = InitialAdapterRecord(
            settings=settings.model_dump(mode="json"),
            versions=runtime.versions(),
            commit=runtime.commit(),
            init=report,
        )
        record.write(draft / "rankwise_init.json")
        write_text(draft / "README.md", start_card(record.model_dump(mode="json")))


def _check(method: MethodSettings) -> None:
    if method.adapter.kind == "full":
        raise SettingsError("method 'full' trains the base itself and has no adapter to initialise")
    if not isinstance(method.schedule, SingleSchedule):
        raise SettingsError(
            f"method {method.name!r} draws its factors while it trains (schedule.kind "
            f"{method.schedule.kind!r}): pass rankwise.ChainCallback to your trainer instead"
        )


def _check_reread(model: PeftModel, draft: Path) -> None:
    """Read the directory again and compare every tensor with the model's."""
    written = get_peft_model_state_dict(model)
    reread = check_adapter_directory(draft)
    same = written.keys() == reread.keys() and all(
        tensor.cpu().equal(reread[key]) for key, tensor in written.items()
    )
    if not same:
        raise AdapterError(f"the adapter in {draft} is not what was written: nothing is kept")
