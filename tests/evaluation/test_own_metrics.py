"""A metric is one of ours by its name, or a function of the user's."""

from __future__ import annotations

import math
import sys

import pytest

from rankwise.core import plugins
from rankwise.core.errors import SettingsError
from rankwise.core.plugins import load_plugins, modules_of_metrics
from rankwise.evaluation.metrics import macro_f1, perplexity, r2
from rankwise.evaluation.own_metrics import find_metric


def test_macro_f1_weighs_the_classes_that_occur_alike():
    assert macro_f1([0, 0, 0, 1], [0, 0, 1, 1]) == pytest.approx((0.8 + 2 / 3) / 2)
    assert macro_f1([2, 2], [0, 0]) == 0.0


def test_r2_is_zero_for_the_mean_and_one_for_the_truth():
    assert r2([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]) == 0.0
    assert r2([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 1.0


def test_perplexity_is_the_inverse_of_the_likelihood():
    assert perplexity([math.log(0.25)], [2]) == pytest.approx(2.0)
    assert perplexity([None], [2]) == math.inf


def test_a_function_in_the_current_folder_is_a_metric(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_LOADED", [])
    (tmp_path / "my_scores.py").write_text(
        "def right(predictions, labels):\n    return sum(map(int.__eq__, predictions, labels))\n"
        "def words(predictions, labels):\n    return 'many'\n"
        "number = 3\n"
    )
    # What a record names is not imported for that alone.
    with pytest.raises(SettingsError, match=r"'my_scores:right' .* rankwise --plugin my_scores"):
        find_metric("my_scores:right")
    assert "my_scores" not in sys.modules
    load_plugins(modules_of_metrics("accuracy,my_scores:right"))
    assert find_metric("my_scores:right").compute([1, 2], [1, 3]) == 1.0
    with pytest.raises(SettingsError, match=r"'my_scores:words' must return a number, got 'many'"):
        find_metric("my_scores:words").compute([1], [1])
    with pytest.raises(SettingsError, match="'my_scores:number' must be a function, got int"):
        find_metric("my_scores:number")
    with pytest.raises(SettingsError, match="'my_scores:left': my_scores has no 'left'"):
        find_metric("my_scores:left")


def test_an_unknown_name_is_refused_and_the_nearest_named():
    with pytest.raises(SettingsError, match=r"no metric 'perplexty'; did you mean 'perplexity'\?"):
        find_metric("perplexty")
