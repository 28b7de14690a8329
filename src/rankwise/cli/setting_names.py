"""Which setting is meant by what somebody typed: ``--lr``, ``--rank``, ``--method.lora_alpha``.

A setting's full name always means it. Of a shorter one, and of the words of PEFT and Transformers
for the same thing, the least nested setting of that name is meant; if there are several, none is.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

from rankwise.cli.arguments import ALL_SECTIONS
from rankwise.core.errors import SettingsError
from rankwise.training.settings.catalogue import Setting, all_settings, settings_named

# What PEFT, Transformers and Flower call it, or what is short for it.
_SYNONYMS = {
    "lr": "learning_rate",
    "rank": "r",
    "lora_r": "r",
    "lora_rank": "r",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "lambda": "delora_lambda",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "accumulation_steps",
    "lr_scheduler_type": "scheduler",
    "model_name_or_path": "model",
    "torch_dtype": "dtype",
    "max_seq_length": "max_length",
    "num_clients": "clients",
    "num_rounds": "rounds",
}
_OF_OTHERS = "raclora."  # a configuration whose words are not ours
_NO_SETTING = {
    "device": "a run takes the accelerator that PyTorch finds; CUDA_VISIBLE_DEVICES= in front of "
    "the command keeps it to the processor",
}


def full_name(typed: str, *, sections: Collection[str], declared: Collection[str] = ()) -> str:
    """Return the dotted name of the setting, or of the section of settings, that is meant.

    Args:
        typed: An option without its dashes.
        sections: Of the settings that the command takes.
        declared: The command's own options, which may be meant too.

    Raises:
        SettingsError: None is meant, or one of several; or the command does not take it.
    """
    for name in (typed, typed.replace("-", "_")):
        if _is_known(name):
            return _of_sections(name, sections)
    found = _least_nested(typed.replace("-", "_"), sections)
    if len(found) == 1:
        return found[0]
    if found:
        names = " or ".join(f"--{name}" for name in found)
        raise SettingsError(f"--{typed} could mean {names}: write the one that is meant")
    raise SettingsError(f"--{typed}: {_what_is_wrong(typed, sections, declared)}")


def settings_called(typed: str) -> list[Setting]:
    """Return the settings of that name: a full one, or the last part of several."""
    name = typed.replace("-", "_")
    wanted = (name, _SYNONYMS.get(name, name))
    return settings_named(name) or [
        each for each in all_settings() if each.name.rpartition(".")[2] in wanted
    ]


def _is_known(name: str) -> bool:
    """Say whether a name is that of a setting, of a section, or of an entry of a mapping."""
    parts = name.split(".")
    if name in ALL_SECTIONS or any(each.name.startswith(f"{name}.") for each in all_settings()):
        return True
    if settings_named(name):
        return True
    prefixes = (".".join(parts[:length]) for length in range(1, len(parts)))
    return any(each.takes("object") for prefix in prefixes for each in settings_named(prefix))


def _of_sections(name: str, sections: Collection[str]) -> str:
    section = name.partition(".")[0]
    if section not in sections:
        raise SettingsError(f"--{name}: {_taken(sections)} of {section}")
    return name


def _taken(sections: Collection[str]) -> str:
    if not sections:
        return "this command takes no settings, and none"
    return f"this command takes settings of {', '.join(sections)}, and none"


def _least_nested(typed: str, sections: Collection[str]) -> list[str]:
    """Return the settings whose name ends as ``typed`` does, in the section that it begins with."""
    *prefix, last = typed.split(".")
    wanted = (last, _SYNONYMS.get(last, last))
    found = {
        each.name
        for each in all_settings()
        for *above, leaf in [each.name.split(".")]
        if leaf in wanted and above[: len(prefix)] == prefix and each.name.split(".")[0] in sections
    }
    # What RAC-LoRA's own configuration calls as others do means the others' setting.
    found = {name for name in found if not name.startswith(_OF_OTHERS)} or found
    fewest = min((name.count(".") for name in found), default=0)
    return sorted(name for name in found if name.count(".") == fewest)


def _what_is_wrong(typed: str, sections: Collection[str], declared: Collection[str]) -> str:
    if typed in _NO_SETTING:
        return f"there is no such setting: {_NO_SETTING[typed]}"
    options = [option.removeprefix("--") for option in declared if option.startswith("--")]
    if not sections:
        return f"this command has no such option and takes no settings; {_nearest(typed, options)}"
    elsewhere = _least_nested(typed.replace("-", "_"), ALL_SECTIONS)
    if elsewhere:
        section = elsewhere[0].partition(".")[0]
        return f"{_taken(sections)} of {section}"
    known = [
        each.name
        for each in all_settings()
        if each.name.partition(".")[0] in sections and not each.name.startswith(_OF_OTHERS)
    ]
    return f"there is no such option or setting; {_nearest(typed, options + known)}"


def _nearest(typed: str, known: list[str]) -> str:
    """Name the options and settings that resemble ``typed``, whole or by their last part.

    What stands in no section, as the command's own options do, is meant where nothing in the
    section that was typed resembles it.
    """
    section, _, last = typed.rpartition(".")
    names = _with_last_part(last, [name for name in known if name.startswith(section)])
    names = names or _with_last_part(last, [name for name in known if "." not in name])
    names += difflib.get_close_matches(typed, known, n=1, cutoff=0.8)
    if not names:
        return "--help shows the options, `rankwise list settings` the settings"
    return f"did you mean {' or '.join(f'--{name}' for name in dict.fromkeys(names[:3]))}?"


def _with_last_part(last: str, known: list[str]) -> list[str]:
    """Return the names whose last part resembles ``last``, or begins with it."""
    by_last_part: dict[str, str] = {}
    for name in known:
        by_last_part.setdefault(name.rpartition(".")[2], name)
    close = difflib.get_close_matches(last, by_last_part, n=2, cutoff=0.7)
    close += [part for part in by_last_part if part.startswith(last) and part not in close]
    return [by_last_part[part] for part in close]
