"""Word problems are cut out of MAWPS, and a comparison's runs asked for some of them."""

from __future__ import annotations

import json

import pytest

from rankwise.training.finished import score_test
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from tests.benchmarks.scripts import load
from tests.tasks.generation.generation_files import tiny_llama, write_lines

SPLITS = ("train", "validation", "test")


def problem(question="How many are 7 + 3 ?", equation="X=(7.0+3.0)", answer=10.0):
    return {"original_text": question, "equation": equation, "ans": answer}


@pytest.mark.parametrize(
    ("equation", "written"),
    [
        ("X=(7.0+3.0)", "7+3 = 10"),
        ("x=((7+1)*(2.50-1))", "(7+1)*(2.50-1) = 10"),
        ("x=(7+1)*(2-1)", "(7+1)*(2-1) = 10"),
    ],
)
def test_an_equation_is_written_with_what_it_comes_to(tmp_path, equation, written):
    for split in SPLITS:
        rows = [problem(equation=equation), problem("What else ?", "6+x=10"), problem(answer="2.5")]
        write_lines(tmp_path, f"arithmetic/mawps/{split}_equations", rows)
    found = load("word_problems").problems(tmp_path)
    assert found == [{"prompt": "How many are 7 + 3 ?\n", "completion": written}]


@pytest.mark.runs
def test_runs_are_asked_for_the_first_of_the_test_rows(tmp_path, monkeypatch, capsys):
    for split in SPLITS:
        rows = [problem(f"ask {split} {i} ?") for i in range(140)]
        write_lines(tmp_path, f"arithmetic/mawps/{split}_equations", rows)
    monkeypatch.setenv("RANKWISE_DATA", str(tmp_path))
    words = ["--output", str(tmp_path / "problems"), "--rows", "3"]
    script = load("word_problems")
    script.main(words)
    task = {"model": tiny_llama(tmp_path / "llama", has_pad=False), "rows": 8}
    settings = {"task": task, "method": {"r": 2}, "training": {"epochs": 1}}
    run = load_recipe(str(tmp_path / "problems"), settings).run()
    train_run(run, tmp_path / "runs")
    score_test(run, tmp_path / "runs")
    for _ in range(2):
        script.main([*words, "--solved-by", str(tmp_path / "runs")])
        assert "| lora | 0 | 0.00 | 0.000 |" in capsys.readouterr().out
        # What was written is read again.
        (kept,) = (tmp_path / "runs").glob("runs/*/answers/word-problems-3.json")
        assert len(json.loads(kept.read_text(encoding="utf-8"))) == 3
    kept.write_text(json.dumps(["7+3 = 10", "10", "= 11"]), encoding="utf-8")
    script.main([*words, "--solved-by", str(tmp_path / "runs")])
    assert "| lora | 0 | 0.67 | 0.667 |" in capsys.readouterr().out
