"""What goes to the Hub, held against a stub of its API: nothing here reaches the network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError

from rankwise.cli.main import main
from rankwise.export import hub


class Api:
    """Notes what it is asked, and keeps what a folder held while it was uploaded."""

    calls: ClassVar[list[tuple[str, object]]] = []

    def create_repo(self, repo, *, private, exist_ok):
        self.calls.append((repo, private))
        if repo == "someone/full":
            request = httpx.Request("POST", "https://huggingface.co/api/repos/create")
            response = httpx.Response(403, request=request)
            raise HfHubHTTPError("403 Forbidden: no rights", response=response)
        return SimpleNamespace(repo_id=repo)

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        self.calls.append((repo_id, sorted(file.name for file in folder_path.iterdir())))


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "get_token", lambda: "hf_stub")
    Api.calls = []
    return lambda: Api.calls


def test_a_run_is_pushed_as_a_plain_lora_with_its_card(run, calls):
    assert main(["push", str(run), "me/adapter", "--private"]) == 0
    (made, (repo, files)) = calls()
    assert made == ("me/adapter", True)
    assert repo == "me/adapter"
    assert files == ["README.md", "adapter_config.json", "adapter_model.safetensors"]


def test_an_export_is_pushed_as_it_is(run, tmp_path, calls):
    assert main(["export", str(run), "--output", str(tmp_path / "lora")]) == 0
    assert main(["push", str(tmp_path / "lora"), "me/adapter"]) == 0
    assert calls()[-1] == ("me/adapter", sorted(f.name for f in (tmp_path / "lora").iterdir()))


def test_without_a_token_nothing_begins(run, monkeypatch, capsys, calls):
    monkeypatch.setattr(hub, "get_token", lambda: None)
    assert main(["push", str(run), "me/adapter"]) == 2
    assert "run `hf auth login`, or set HF_TOKEN" in capsys.readouterr().err
    assert not calls()


def test_what_the_hub_refuses_is_told(run, capsys):
    assert main(["push", str(run), "someone/full"]) == 2
    assert "the Hub did not take" in (printed := capsys.readouterr().err)
    assert "403 Forbidden: no rights" in printed


def test_a_folder_without_a_card_is_refused(tmp_path, capsys, calls):
    assert main(["push", str(tmp_path), "me/adapter"]) == 2
    assert "has no README.md, the card that the Hub shows" in capsys.readouterr().err
    assert main(["push", str(tmp_path), "me/adapter", "--target", "merged"]) == 2
    assert "--target is for a run" in capsys.readouterr().err
    assert not calls()
