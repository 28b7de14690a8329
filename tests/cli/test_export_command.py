"""Exports that end in another tool: llama.cpp's converter, vLLM's smoke test, and ``merge``."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from rankwise.cli.main import main
from rankwise.training import serving

CONVERTER = """
import sys
from pathlib import Path
words = sys.argv[1:]
assert (Path(words[0]) / "adapter_config.json").is_file()
if {fails}:
    sys.exit("no such architecture")
Path(words[words.index("--outfile") + 1]).write_bytes(b"GGUF")
"""


@pytest.fixture
def converter(tmp_path, monkeypatch):
    """Write a stand-in of llama.cpp's script, and return its folder."""
    monkeypatch.delenv("RANKWISE_LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(*, fails=False):
        (tmp_path / "llama.cpp").mkdir()
        script = tmp_path / "llama.cpp" / "convert_lora_to_gguf.py"
        script.write_text(CONVERTER.format(fails=fails), encoding="utf-8")
        return str(tmp_path / "llama.cpp")

    return make


def export(run, tmp_path, *words):
    return main(["export", str(run), "--output", str(tmp_path / "out"), *words])


@pytest.mark.processes
def test_a_converter_that_is_there_is_called(run, tmp_path, converter, capsys, monkeypatch):
    folder = converter()
    assert export(run, tmp_path, "--target", "gguf", "--llama-cpp", folder) == 0
    assert (tmp_path / "out" / "adapter.gguf").read_bytes() == b"GGUF"
    monkeypatch.setenv("RANKWISE_LLAMA_CPP", folder)
    assert main(["export", str(run), "--output", str(tmp_path / "o2"), "--target", "gguf"]) == 0
    assert "o2/adapter.gguf" in capsys.readouterr().out


def test_else_the_command_is_said(run, tmp_path, converter, capsys):
    assert export(run, tmp_path, "--target", "gguf") == 0
    printed = "".join(capsys.readouterr().out.split())
    assert "pythonconvert_lora_to_gguf.py" in printed
    assert "--outfile" in printed
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


@pytest.mark.processes
def test_a_converter_that_fails_is_told_with_its_last_words(run, tmp_path, converter, capsys):
    words = ["--target", "gguf", "--llama-cpp", converter(fails=True)]
    assert export(run, tmp_path, *words) == 2
    assert "failed with 'no such architecture'" in capsys.readouterr().err
    assert not (tmp_path / "out" / "adapter.gguf").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "gguf", "--llama-cpp", "nowhere"], "no convert_lora_to_gguf.py in nowhere"),
        (["--llama-cpp", "nowhere"], "--llama-cpp is for --target gguf, got lora"),
        (["--target", "merged", "--check", "vllm"], "--check vllm is for --target lora"),
        (["--check", "vllm"], "needs vLLM and a GPU that it supports: pip install"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_written(
    run, tmp_path, capsys, monkeypatch, words, message
):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert export(run, tmp_path, *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_vllm_is_asked_for_a_few_tokens(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setattr(serving, "check_vllm", lambda *_: 4)
    assert export(run, tmp_path, "--check", "vllm") == 0
    assert "checked: vLLM loaded it and wrote 4 tokens" in capsys.readouterr().out


def test_merge_writes_what_export_writes(run, tmp_path):
    assert main(["merge", str(run), "--output", str(tmp_path / "merged")]) == 0
    assert export(run, tmp_path, "--target", "merged") == 0
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("merged", "out"))
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)
