"""A cluster of two nodes, on this machine: what a lost node did is done again, and no more."""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
import time

import pytest
import ray
from ray.cluster_utils import Cluster

from rankwise.cli.main import main
from rankwise.comparison.analysis.summary import summarise
from rankwise.comparison.engines import ray as ray_engine
from rankwise.comparison.engines.local import LocalEngine
from rankwise.comparison.engines.ray import RayEngine
from rankwise.comparison.sweep import read_test, sweep
from rankwise.core.errors import SettingsError, TrainingError
from rankwise.training.settings.recipe import load_recipe

pytestmark = [
    pytest.mark.processes,
    # Ray leaves it to the garbage collector to close its files.
    pytest.mark.filterwarnings("ignore:.*unclosed file"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    # A node that was killed refuses at once, and is given up soon; a busy one has time to answer.
    health = {"health_check_period_ms": 1000, "health_check_timeout_ms": 60_000}
    # Else Ray lets its workers wait for whatever runs beside these tests.
    head = {"num_cpus": 1, "_system_config": {**health, "worker_niceness": 0}}
    heard_by = signal.getsignal(signal.SIGTERM)
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()
    signal.signal(signal.SIGTERM, heard_by)  # a node takes it for itself
    del cluster
    gc.collect()


@pytest.fixture(scope="module")
def engine(cluster, tmp_path_factory):
    """One engine for all tests: each new one starts its workers anew."""
    folder = tmp_path_factory.mktemp("results")
    heard_by = signal.getsignal(signal.SIGTERM)
    with RayEngine(folder, address=cluster.address) as engine:
        assert signal.getsignal(signal.SIGTERM) is heard_by
        yield engine
    assert not list(folder.iterdir())


@pytest.fixture
def node(cluster):
    """A second node; a test may remove it."""
    node = cluster.add_node(num_cpus=1)
    yield node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


def wait_for_a_loss(folder, number):
    """Tell where the call runs, and return when another node was removed."""
    here = ray.get_runtime_context().get_node_id()
    (folder / f"{number} on {here}").touch()
    while not [file for file in folder.glob("removed *") if here not in file.name]:
        time.sleep(0.02)
    return number


def test_a_call_that_is_lost_with_its_node_is_made_again(cluster, engine, node, tmp_path):
    def remove_the_busy_node():
        while len(list(tmp_path.glob("* on *"))) < 2:
            time.sleep(0.02)
        cluster.remove_node(node, allow_graceful=False)
        (tmp_path / f"removed {node.node_id}").touch()

    remover = threading.Thread(target=remove_the_busy_node)
    remover.start()
    calls = [(tmp_path, number) for number in range(3)]
    assert sorted(engine.run(wait_for_a_loss, calls)) == [0, 1, 2]
    remover.join()
    assert len(list(tmp_path.glob(f"* on {node.node_id}"))) == 1
    assert len(list(tmp_path.glob("* on *"))) == 4


def test_an_error_reaches_the_caller(engine):
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        list(engine.run(math.sqrt, [(-1.0,)]))


def test_a_machine_that_does_not_share_the_folder_is_named(engine, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "_mark", tmp_path / "mark")
    with pytest.raises(SettingsError, match=r"does not see .*share"):
        list(engine.run(math.sqrt, [(4.0,)]))


def test_a_call_that_kills_its_workers_is_an_error(engine, monkeypatch):
    monkeypatch.setattr(ray_engine, "LOST_TIMES", 1)
    with pytest.raises(TrainingError, match=r"lost 1 times.*--workers"):
        list(engine.run(os.abort, [()]))


@pytest.mark.usefixtures("forked_workers")
def test_the_table_is_that_of_the_local_engine(cluster, engine, node, tmp_path):
    recipe = load_recipe(
        "digits",
        {
            "task": {"pretrain_epochs": 1},
            "training": {"epochs": 1, "batch_size": 256},
            "compare": {
                "methods": [{"name": "lora", "r": 2}, {"name": "rac-lora", "r": 2}],
                "learning_rates": [1e-3, 1e-2],
                "seeds": [0, 1],
                "widenings": 0,
            },
        },
    )

    class Remover:
        """Removes a node when the first run is done."""

        def plan(self, runs):
            pass

        def widened(self, method, rate):
            pass

        def done(self, record):
            if node in cluster.worker_nodes:
                cluster.remove_node(node, allow_graceful=False)

    class Nobody(Remover):
        def done(self, record):
            pass

    spread = sweep(recipe, tmp_path / "ray", engine=engine, watcher=Remover())
    spread_tests = read_test(spread, tmp_path / "ray", engine=engine)
    with LocalEngine(1) as processes:
        here = sweep(recipe, tmp_path / "local", engine=processes, watcher=Nobody())
        tests = read_test(here, tmp_path / "local", engine=processes)
    assert node not in cluster.worker_nodes
    assert _table(recipe, spread, spread_tests) == _table(recipe, here, tests)


def _table(recipe, sweeps, tests):
    """The rows of the summary but for what is measured by a clock or of a process."""
    clocks = {f"{part}_seconds" for part in ("tuning", "sweep", "init", "train")}
    clocks.add("seconds_to_baseline")
    rows = summarise(recipe, sweeps, tests, command="").methods
    return [row.model_dump(exclude=clocks | {"peak_memory_bytes"}) for row in rows]


def test_no_cluster_at_an_address_is_told_in_one_message(capsys, tmp_path):
    output = str(tmp_path / "out")
    words = ["compare", "digits", "--output", output, "--engine", "ray", "--address", "here"]
    assert main(words) == 2
    assert "no Ray cluster answers at here" in capsys.readouterr().err
