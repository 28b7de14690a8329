"""The examples for several devices are what their launchers take."""

from __future__ import annotations

import shlex
import subprocess

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from rankwise.cli.commands import load_command
from tests.docs.pages import DOCS

EXAMPLES = DOCS / "examples"
CONFIGS = sorted(EXAMPLES.glob("*.yaml"))


def test_there_are_examples():
    assert [file.stem for file in CONFIGS] == ["ddp", "fsdp2"]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_accelerate_takes_a_configuration_as_it_stands(file):
    config = load_config_from_file(str(file))
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert {name: getattr(config, name) for name in written} == written
    words = ["--config_file", str(file), "--cpu", "train.py"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert arguments.num_processes == 4
    for name in written.get("fsdp_config", {}):
        assert hasattr(arguments, name), f"accelerate launch knows no {name}"


@pytest.mark.parametrize(
    ("name", "begins"),
    [("slurm", ["exec", "torchrun"]), ("slurm-comparison", ["exec", "rankwise"])],
)
def test_a_job_of_slurm_is_a_script_with_a_command_that_there_is(name, begins):
    script = EXAMPLES / f"{name}.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    *_, last = lines = script.read_text(encoding="utf-8").splitlines()
    # The shell itself is told, and the command stands in its place.
    assert "#SBATCH --signal=B:TERM@120" in lines
    # What a job has told is kept when it is queued again.
    assert {"#SBATCH --requeue", "#SBATCH --open-mode=append"} <= set(lines)
    words = shlex.split(last)
    assert words[:2] == begins
    command = words[words.index("rankwise") + 1]
    assert load_command(command) is not None
    # A comparison is resumed by its own command.
    assert ("--resume" in words) == (command == "train")
