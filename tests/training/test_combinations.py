"""The table of what goes together (docs/explanation/frame.md): each cell is tried, or refused.

A composition that is added or refused from now on fails here until its cell says so.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from rankwise.core.errors import SettingsError
from rankwise.export.lora import export_lora
from rankwise.methods.chain.chain import Chain
from rankwise.training.folder import RunFolder
from rankwise.training.initialization import initialize_adapter
from rankwise.training.job import prepare_job
from rankwise.training.loops.chains import build_chain
from tests.models.quantised import attach, logits

PAGE = Path(__file__).resolve().parents[2] / "docs/explanation/frame.md"
BEGIN, END = "<!-- combinations -->", "<!-- end -->"
METHODS = {"lora": "lora", "lora_xs": "lora-xs", "delora": "delora"}
SCHEDULES = ("single", "frozen", "chain")
INITS = {
    "random": {"kind": "random"},
    "update": {"kind": "update", "samples": 8},
    "boundary": {"kind": "boundary", "steps": 1, "samples": 8},
}
ROWS = list(itertools.product(METHODS, SCHEDULES))
R, BLOCKS = 2, 2


def nudge(model: nn.Module) -> None:
    """Move what trains of the adapter, as a step would."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and ("lora_" in name or "rankwise_" in name):
                noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
                parameter += 0.05 * noise


@pytest.fixture
def tried(settings, output, tmp_path):
    """Try one composition; return the rank of the LoRA that it leaves as."""

    def attempt(adapter: str, schedule: str, init: str) -> int:
        choice = {"init": INITS[init], "schedule": {"kind": schedule}}
        job = prepare_job(settings(METHODS[adapter], r=R, method=choice), output / "base")
        initialize_adapter(job, RunFolder(tmp_path, tmp_path))
        batch = job.splits.train.take(torch.arange(8))
        chain = build_chain(job)
        nudge(job.model)
        if schedule == "chain":
            chain.fold()
            nudge(job.model)
        learned = job.model(**batch)["logits"].detach()
        if chain is not None:
            chain.finish()
        torch.testing.assert_close(job.model(**batch)["logits"], learned, rtol=1e-4, atol=1e-4)
        return export_lora(job.model, tmp_path / "lora").rank

    return attempt


def cells() -> dict[tuple[str, str, str], str]:
    """Read the cells of the page, by row and column."""
    table = PAGE.read_text().split(BEGIN)[1].split(END)[0]
    header, _, *rows = [line for line in table.splitlines() if line.startswith("|")]
    names = [each.strip() for each in header.strip("|").split("|")]
    found = {}
    for row in rows:
        adapter, schedule, *values = (each.strip(" `") for each in row.strip("|").split("|"))
        for name, value in zip(names[2:], values, strict=True):
            found[adapter, schedule, name.strip("`")] = value
    return found


def reasons() -> dict[str, str]:
    """Read the reasons below the table, by number."""
    return dict(re.findall(r"^(\d)\. (.+)$", PAGE.read_text().split(BEGIN)[1].split(END)[0], re.M))


def test_the_table_has_every_combination():
    columns = [*INITS, "quantised base", "leaves as"]
    assert cells().keys() == {(*row, column) for row in ROWS for column in columns}


@pytest.mark.parametrize(("adapter", "schedule"), ROWS)
@pytest.mark.parametrize("init", INITS)
def test_a_cell_is_a_composition_that_works_or_the_reason_why_not(tried, adapter, schedule, init):
    said = cells()[adapter, schedule, init]
    if said == "yes":
        rank = tried(adapter, schedule, init)
        if init == "random":
            whole = {"r": R, "2r": 2 * R, "r × blocks": R * BLOCKS, "2r × blocks": 2 * R * BLOCKS}
            assert rank == whole[cells()[adapter, schedule, "leaves as"]]
        return
    with pytest.raises(SettingsError) as refusal:
        tried(adapter, schedule, init)
    assert reasons()[said.removeprefix("no, ")].removesuffix(".") in str(refusal.value)


@pytest.mark.parametrize(("adapter", "schedule"), ROWS)
def test_a_quantised_base_takes_what_a_plain_one_takes(adapter, schedule, tmp_path):
    said = cells()[adapter, schedule, "quantised base"]
    assert (said == "yes") == (cells()[adapter, schedule, "random"] == "yes")
    if said != "yes":
        return
    model = attach(adapter, "torchao").eval()
    chain = None if schedule == "single" else Chain(model)
    nudge(model)
    if schedule == "chain":
        chain.fold()
        nudge(model)
    learned = logits(model)
    if chain is not None:
        chain.finish()
    torch.testing.assert_close(logits(model), learned, rtol=1e-4, atol=1e-4)
    export_lora(model, tmp_path / "out")
