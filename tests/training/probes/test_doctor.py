"""What the doctor sees before a run: above all the jump of PEFT's DeLoRA, at any learning rate."""

from __future__ import annotations

import pytest

from rankwise.core.errors import SettingsError
from rankwise.training.folder import RunFolder
from rankwise.training.probes.doctor import examine
from rankwise.training.settings.recipe import load_recipe


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Examine a method, all on one base model."""
    output = tmp_path_factory.mktemp("doctor")

    def examined(method, **training):
        overrides = {
            "task": {"pretrain_epochs": 2},
            "training": {"learning_rate": 1e-3, **training},
            "method": method,
        }
        settings = load_recipe("digits", overrides).run()
        return examine(settings, RunFolder.below(output, settings.name))

    return examined


def foreign(peft_type, **options):
    return {"name": "peft", "r": 4, "adapter": {"peft_type": peft_type, "options": options}}


def test_pefts_delora_jumps_at_any_learning_rate_and_ours_does_not(seen):
    theirs = seen(foreign("DELORA"))
    assert theirs.jump > 0.2
    assert seen(foreign("DELORA"), learning_rate=1e-5).jump > 0.2
    (warning,) = theirs.warnings
    assert "at any learning rate" in warning

    ours = seen({"name": "delora", "r": 4})
    assert ours.jump < 0.02
    assert seen({"name": "delora", "r": 4}, learning_rate=1e-5).jump < 0.01 * ours.jump * 1.5
    assert ours.warnings == []


def test_a_jump_of_the_learning_rate_is_told_from_one_of_the_method(seen):
    (warning,) = seen({"name": "full"}, learning_rate=0.1).warnings
    assert warning.endswith("lower training.learning_rate")


def test_the_jump_is_that_of_the_first_step_that_moves_a_weight(seen):
    """510 steps, of which a tenth warm up: the first is at a rate of zero, the next at 1/51."""
    method = {"name": "lora", "r": 4}
    warmed = seen(method, warmup_ratio=0.1)
    assert warmed.jump == pytest.approx(seen(method).jump / 51, rel=0.01)
    (warning,) = seen({"name": "full"}, learning_rate=0.1).warnings
    assert "lower training.learning_rate" in warning
    assert seen({"name": "full"}, learning_rate=0.1, warmup_ratio=0.1).warnings == []


def test_full_fine_tuning_captures_everything_and_starts_at_the_base(seen):
    full = seen({"name": "full"})
    assert (full.captured_share, full.relative_norm, full.output_change) == (1.0, 0.0, 0.0)
    assert [layer.name for layer in full.layers] == ["layers.0", "layers.2", "layers.4"]


def test_what_an_adapter_captures_grows_with_its_rank(seen):
    shares = [seen({"name": "lora", "r": r}).captured_share for r in (1, 4)]
    assert 0 < shares[0] < shares[1] < 1


def test_a_sketch_of_the_gradient_captures_more_of_it_than_a_random_one(seen):
    random, gradient = (seen({"name": n, "r": 4}) for n in ("rac-lora", "rac-lora-gradient"))
    assert 0 < random.captured_share < gradient.captured_share <= 1


@pytest.mark.parametrize(
    "method",
    [
        foreign("LORA", use_dora=True),
        foreign("LOHA"),
        foreign("LOKR"),
        foreign("VERA"),
        foreign("IA3", feedforward_modules=[]),
        foreign("OFT", r=0, oft_block_size=4),
    ],
    ids=lambda method: method["adapter"]["peft_type"],
)
def test_any_config_of_peft_is_measured(seen, method):
    found = seen(method)
    assert 0 < found.captured_share < 1
    assert found.relative_norm == pytest.approx(0, abs=1e-6)
    assert 0 < found.jump < 0.05


def test_an_init_that_changes_the_outputs_is_said(seen):
    (warning,) = seen({"name": "lora-sb", "r": 4}, learning_rate=1e-2).warnings
    assert warning.startswith("its start changes the outputs of the base by")


def test_a_rank_above_a_layer_and_a_loss_that_reaches_nothing_are_said(seen):
    (warning,) = seen({"name": "lora", "r": 12}).warnings
    assert warning == "rank 12 is above the size of layers.4: rank 5 does the same for less"
    nothing = seen(
        {"name": "lora", "r": 4, "init": {"kind": "random"}, "adapter": {"alpha": 1e-30}}
    )
    assert "no gradient reaches what trains: it will not learn" in nothing.warnings


def test_a_large_step_of_a_large_sketch_is_said_once_and_why(seen):
    frozen = {"name": "rac-lora", "r": 2, "schedule": {"sketch": "gaussian"}}
    (drawn,) = seen(frozen, learning_rate=3e-2).warnings
    # N(0, 1) against uniform numbers on ±1/√64: √(3 · 64) = 13.9.
    assert "is 14 times as large" in drawn or "is 13 times as large" in drawn
    assert drawn.startswith("one step moves the weights by")
    assert drawn.endswith("set schedule.sketch kaiming")
    scaled = {**frozen, "schedule": {"sketch": "kaiming"}}
    assert seen(scaled, learning_rate=3e-2).warnings == []


def test_the_sketch_of_the_paper_is_no_fault_where_its_step_is_small(seen):
    assert seen({"name": "rac-lora", "r": 2}, learning_rate=1e-3).warnings == []


def test_a_run_that_cannot_begin_is_refused(seen):
    with pytest.raises(SettingsError, match="r must be between 1 and 64"):
        seen({"name": "lora-xs", "r": 65})


def test_a_reference_is_not_trained_for_it(seen):
    (warning,) = seen({"name": "abm-lora-task", "r": 4}).warnings
    assert "reference is not trained" in warning


def test_layers_of_one_size_whose_rank_is_above_it_are_told_once(seen):
    found = seen({"name": "lora", "r": 200}).warnings
    told = [warning for warning in found if "is above the size of" in warning]
    assert len(told) == 2
    assert any(" and 1 more: rank 64 does the same for less" in warning for warning in told)
