"""A Hub that hangs up."""

from __future__ import annotations

import socketserver
import threading

import pytest
from huggingface_hub import constants


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub of this machine that hangs up on whoever asks; those requests that are for a file."""
    asked = []

    class HangsUp(socketserver.BaseRequestHandler):
        def handle(self):
            request = self.request.recv(1 << 16)
            # Once in a process, the Hub's client asks for something else too.
            if b" /api/" not in request:
                asked.append(request)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), HangsUp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield asked
        server.shutdown()
