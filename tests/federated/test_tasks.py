"""``rankwise federate`` on other tasks than the digits: images of IDX files, and sentences."""

from __future__ import annotations

import pytest

from rankwise.cli.main import main
from rankwise.training.federation_records import Federations
from tests.models.saved import make_bert
from tests.tasks.glue.glue_files import write_mrpc
from tests.tasks.idx_files import write_mnist

pytestmark = pytest.mark.runs

METHODS = "[{name: rac-lora, r: 2}, {name: lora-sb, r: 4}, {name: lora, r: 2}, full]"
FEW = ["--federated.clients", "3", "--federated.rounds", "2", "--training.batch_size", "16"]
EXACT = {"rac-lora", "lora-sb", "full"}


@pytest.fixture
def federations_of(faults, tmp_path, capsys):
    """Federate a recipe among three clients at hand, and return the records by method."""

    def run(recipe, *options):
        output = tmp_path / "out"
        command = ["federate", recipe, "--output", str(output), "--compare.methods", METHODS]
        assert main([*command, *FEW, *options]) == 0, capsys.readouterr().err
        federations = Federations.read(output / "federated.json").federations
        return {each.method: each for each in federations}

    return run


def check(federations):
    assert federations.keys() == EXACT | {"lora"}
    for name, record in federations.items():
        before, *rounds = record.rounds
        assert [each.clients for each in rounds] == [(0, 1, 2)] * 2
        assert rounds[-1].loss < before.loss
        off = [each.distance for each in rounds]
        assert max(off) < 1e-5 if name in EXACT else min(off) > 1e-4
        assert 0 <= record.score_test <= 1


def test_mnist(federations_of, tmp_path):
    root = write_mnist(tmp_path / "data")
    options = ["--task.hidden", "16", "--task.pretrain_epochs", "1"]
    options += ["--training.learning_rate", "0.01"]
    check(federations_of("rac-mnist", "--task.data_root", str(root), *options))


def test_a_task_of_glue_whose_head_is_averaged_beside_the_adapter(federations_of, tmp_path):
    root = write_mrpc(tmp_path / "data", train=40, dev=20, test_labelled=12)
    texts = ["train 1 other train 22", "dev 3 other dev 4"]
    options = ["--task.data_root", str(root), "--task.max_length", "32"]
    options += ["--task.model", make_bert(tmp_path / "bert", texts)]
    # A federation keeps its last round, at a constant rate.
    options += ["--training.keep", "last", "--training.scheduler", "constant"]
    options += ["--training.warmup_ratio", "0", "--training.learning_rate", "0.01"]
    federations = federations_of("glue-tutorial", *options)
    check(federations)
    head = 2 * 16 + 2
    assert federations["lora-sb"].trained_numbers == 13 * 4 * 4 + head
