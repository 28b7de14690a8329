"""A disk that fills up at any file of a federation: it goes on from its last whole round."""

from __future__ import annotations

import pytest
from safetensors import SafetensorError

from rankwise.core.disk import is_want_of_room
from tests.federated.test_server import federate, rounds_but_for
from tests.full_disk import Disk

pytestmark = pytest.mark.runs


def test_what_is_written_of_a_federation_is_whole_and_goes_on(
    plan_of, cache, tmp_path, monkeypatch
):
    plan = plan_of("rac-lora", clients=2, rounds=2, local_steps=1)
    with monkeypatch.context() as patch:
        disk = Disk(tmp_path / "whole", patch)
        whole, _ = federate(plan, tmp_path / "whole", cache)
    assert disk.files >= 8  # progress after each of 0, 1 and 2, two states, an adapter, the record
    for number in range(1, disk.files + 1):
        folder = tmp_path / str(number)
        with monkeypatch.context() as patch:
            Disk(folder, patch, refused=number)
            with pytest.raises((OSError, SafetensorError)) as caught:
                federate(plan, folder, cache)
        assert is_want_of_room(caught.value)
        assert not (folder / "record.json").exists()
        resumed, _ = federate(plan, folder, cache)
        # A round that was not saved is done again, and everything is sent again then.
        assert rounds_but_for(resumed, "bytes_down") == rounds_but_for(whole, "bytes_down")
        assert resumed.score_test == whole.score_test
