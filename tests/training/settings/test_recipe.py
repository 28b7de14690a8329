"""Recipes are strict, and what is wrong is told in the words of the recipe."""

from __future__ import annotations

from importlib import resources

import pytest

from rankwise.core.errors import SettingsError
from rankwise.methods.table import METHODS
from rankwise.training.settings.recipe import load_recipe, recipe_names, recipe_summary


def test_the_shipped_recipes_load_and_say_what_they_are():
    assert "digits" in recipe_names()
    for name in recipe_names():
        load_recipe(name)
        assert recipe_summary(name).endswith(".")


def test_overrides_win_over_the_recipe():
    recipe = load_recipe("digits", {"training": {"epochs": 2}, "seed": 7})
    assert recipe.training.epochs == 2
    assert recipe.training.batch_size == 32
    assert recipe.run().seed == 7


@pytest.mark.parametrize("name", METHODS)
def test_every_named_method_is_a_valid_composition(name):
    method = load_recipe("digits", {"method": {"name": name}}).method
    assert method.name == name
    for axis, part in METHODS[name].parts().items():
        assert getattr(method, axis).kind == part["kind"]


def test_a_named_method_fills_what_the_user_leaves_open():
    overrides = {"method": {"name": "rac-lora", "schedule": {"every_epochs": 5}}}
    schedule = load_recipe("digits", overrides).method.schedule
    assert (schedule.kind, schedule.side, schedule.every_epochs) == ("chain", "left", 5)


def test_a_part_of_another_kind_replaces_the_named_one():
    overrides = {"method": {"name": "rac-lora", "schedule": {"kind": "single"}}}
    assert load_recipe("digits", overrides).method.schedule.model_dump() == {"kind": "single"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"training": {"lr": 1}},
            r"training\.lr: unknown setting; choose from accumulation_steps, b",
        ),
        ({"training": {"epoch": 1}}, r"training\.epoch: unknown setting; did you mean 'epochs'"),
        ({"trainin": {}}, r"trainin: unknown setting; did you mean 'training'"),
        ({"training": {"epochs": "x"}}, r"training\.epochs: .*valid integer.*got 'x'"),
        ({"training": {"learning_rate": -1}}, r"training\.learning_rate: .*greater than 0, got -1"),
        ({"training": {"learning_rate": float("nan")}}, r"learning_rate: .*finite number"),
        ({"method": {"adapter": {"alph": 2}}}, r"method\.adapter\.alph: .*did you mean 'alpha'"),
        ({"method": {"name": "lora-sbb"}}, r"no method 'lora-sbb'; did you mean 'lora-sb'"),
        (
            {"method": {"adapter": {"kind": "dlora"}}},
            r"method\.adapter\.kind: no 'dlora'; did you mean 'delora' or 'lora'",
        ),
        ({"task": {"name": "digit"}}, r"task\.name: no 'digit'; did you mean 'digits'"),
        ({"task": {"name": "digits", "hidden": 3}}, r"task\.hidden: unknown setting"),
        ({"method": 3}, r"method must be a method's name or a mapping, got 3"),
        ({"compare": {"methods": [{"name": "lora", "rank": 1}]}}, r"methods\[0\]\.rank: unknown"),
        ({"compare": {"methods": [{"name": "x"}]}}, r"no method 'x'"),
        (
            {"compare": {"sweep": {"adapter.alph": [1]}}},
            r"compare: sweep\.adapter\.alph: no method of this comparison has this setting",
        ),
        (
            {"compare": {"methods": [{"name": "full", "sweep": {"adapter": {"alpha": [1]}}}]}},
            r"compare: methods\[0\]\.sweep\.adapter\.alpha: full has no such setting; name",
        ),
        (
            {"compare": {"learning_rates": []}},
            r"compare: learning_rates: lora has none: name them here, or in its sweep as",
        ),
        (
            {"compare": {"sweep": {"learning_rate": ["x"]}}},
            r"sweep\.learning_rate takes numbers above 0, got \['x'\]",
        ),
        (
            {"compare": {"sweep": {"adapter.alpha": [2, 2]}}},
            r"sweep\.adapter\.alpha takes different values, at least one, got \[2, 2\]",
        ),
        (
            {"compare": {"methods": [{"name": "lora", "sweep": {"adapter.alpha": [-1]}}]}},
            r"compare\.methods\[0\]\.method\.adapter\.alpha: .* greater than 0, got -1",
        ),
    ],
)
def test_mistakes_are_named(overrides, message):
    with pytest.raises(SettingsError, match=message):
        load_recipe("digits", overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"compare": {"methods": [{"name": "lora", "rank": 1}]}}, "compare.methods[0].rank: "),
        # Two methods of the comparison begin with the recipe's own.
        ({"method": {"adapter": {"dropout": 2}}}, "method.adapter.dropout: "),
        ({"training": {"bf16": True}}, "training.bf16 True needs training.loop 'trainer'"),
        (
            {"compare": {"methods": ["lora", {"name": "lora", "training": {"epochs": "x"}}]}},
            "compare.methods[2].training.epochs: ",
        ),
        (
            {"compare": {"methods": [{"name": "lora", "training": {"bf16": True}}]}},
            "compare.methods[0]: training.bf16 True needs",
        ),
    ],
)
def test_a_mistake_is_told_once_and_with_its_place(overrides, message):
    with pytest.raises(SettingsError) as caught:
        load_recipe("digits", overrides)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(message)


def test_a_run_that_could_not_be_is_refused_without_a_comparison_too(tmp_path):
    file = write_recipe(tmp_path, "training: {loop: lean, bf16: true}")
    with pytest.raises(SettingsError, match=r"^training\.bf16 True needs training\.loop 'trainer'"):
        load_recipe(file)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"name": "full", "init": {"kind": "update"}}, "needs an adapter of kind lora"),
        ({"name": "delora", "schedule": {"kind": "frozen"}}, "works on adapter.kind 'lora'"),
        ({"name": "peft", "schedule": {"kind": "chain"}}, "works on adapter.kind 'lora' or 'lora"),
        ({"name": "cola", "schedule": {"every_steps": 5}}, "both say when to fold"),
        ({"name": "cola", "schedule": {"every_epochs": None, "fractions": [2]}}, "must rise and"),
        (
            {"name": "cola", "schedule": {"captured_below": 0.1, "look_every": 5}},
            "every_epochs 3 and captured_below 0.1 both say when to fold",
        ),
        (
            {"name": "cola", "schedule": {"every_epochs": None, "captured_below": 0.1}},
            "captured_below 0.1 needs look_every",
        ),
        ({"name": "cola", "schedule": {"least_steps": 5}}, "least_steps 5 says when to look"),
        (
            {
                "name": "cola",
                "schedule": {
                    "every_epochs": None,
                    "captured_below": 0.1,
                    "look_every": 5,
                    "most_steps": 5,
                },
            },
            "most_steps must be above 5",
        ),
        ({"name": "delora-chain", "schedule": {"moments": "carried"}}, "'delora' normalises"),
        (
            {"name": "cola", "schedule": {"moments": "carried", "reset_optimizer": False}},
            "leave reset_optimizer out",
        ),
        ({"name": "sb-chain", "schedule": {"side": "left"}}, "of adapter.kind 'lora_xs' both are"),
        ({"name": "asymm-lora", "init": {"kind": "boundary"}}, "overwritten by the frozen sketch"),
    ],
)
def test_combinations_that_cannot_work_are_refused_with_the_reason(method, message):
    with pytest.raises(SettingsError, match=message):
        load_recipe("digits", {"method": method})


def test_an_unknown_recipe_is_refused():
    with pytest.raises(SettingsError, match=r"no recipe 'digit'.*did you mean 'digits'"):
        load_recipe("digit")


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "is not valid YAML"), ("- 1", "must hold a mapping, got list")],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_recipe(str(file))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"no recipe file .*gone\.yaml"):
        load_recipe(str(tmp_path / "gone.yaml"))


def test_a_label_names_a_run_and_cannot_leave_its_folder():
    method = {"name": "lora", "label": "lora-kept"}
    assert load_recipe("digits", {"method": method}).run().name.startswith("lora-kept-r4-")
    with pytest.raises(SettingsError, match=r"method\.label: .*pattern.*got '\.\./x'"):
        load_recipe("digits", {"method": {"label": "../x"}})


def test_what_a_paper_reports_and_where_data_lie_do_not_make_another_run(tmp_path):
    overrides = {"task": {"name": "mnist", "data_root": str(tmp_path)}}
    here = load_recipe("rac-mnist", overrides).run()
    there = load_recipe("rac-mnist", {"method": {"published": 0.5}}).run()
    assert here.name == there.name
    assert load_recipe("rac-mnist", {"task": {"seed": 1}}).run().name != here.name


def test_a_variant_lies_between_the_recipe_and_the_overrides():
    quick = load_recipe("rac-mnist", {"compare": {"seeds": [7, 8]}}, variant="quick").compare
    assert quick.seeds == (7, 8)
    assert quick.widenings == 0
    assert {method.budget for method in quick.chosen_methods} == {"full", "rank 1", "rank 2"}
    assert load_recipe("rac-mnist", variant="full").training.epochs == 50


@pytest.mark.parametrize(("name", "has"), [("rac-mnist", "full, quick"), ("digits", "none")])
def test_a_variant_that_the_recipe_lacks_is_refused(name, has):
    with pytest.raises(SettingsError, match=f"no variant 'fast'; it has {has}"):
        load_recipe(name, variant="fast")


def test_a_budget_that_no_method_has_is_refused():
    with pytest.raises(SettingsError, match=r"compare: budgets: no '30'; did you mean '300'"):
        load_recipe("digits", {"compare": {"budgets": ["30"]}})


def write_recipe(folder, text):
    file = folder / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


BY_TASK = """
task: {name: mrpc, model: m}
method: {name: delora, r: 8, adapter: {delora_lambda: 4}}
training: {epochs: 80}
tasks:
  sst2:
    training: {epochs: 30}
    method: {adapter: {delora_lambda: 12}}
compare:
  learning_rates: [0.01]
  methods: [{name: delora}, {name: delora, r: 4}, {name: lora, r: 2}]
"""


def test_a_recipe_may_hold_settings_for_single_tasks(tmp_path):
    file = write_recipe(tmp_path, BY_TASK)
    mrpc, sst2 = (load_recipe(file, {"task": {"name": name}}) for name in ("mrpc", "sst2"))
    assert (mrpc.training.epochs, mrpc.method.adapter.delora_lambda) == (80, 4)
    assert (sst2.training.epochs, sst2.method.adapter.delora_lambda) == (30, 12)


def test_an_option_is_stronger_than_the_tasks_settings(tmp_path):
    overrides = {"task": {"name": "sst2"}, "training": {"epochs": 1}}
    assert load_recipe(write_recipe(tmp_path, BY_TASK), overrides).training.epochs == 1


def test_a_compared_method_begins_with_the_settings_of_the_recipes_own(tmp_path):
    recipe = load_recipe(write_recipe(tmp_path, BY_TASK), {"task": {"name": "sst2"}})
    own, smaller, other = recipe.compare.methods
    assert (own.r, own.adapter.delora_lambda) == (8, 12)
    assert (smaller.r, smaller.adapter.delora_lambda) == (4, 12)
    assert (other.name, other.r, other.adapter.kind) == ("lora", 2, "lora")


def test_tasks_that_map_no_names_are_refused(tmp_path):
    with pytest.raises(
        SettingsError, match=r"tasks of recipe .* must map names to settings, got 3"
    ):
        load_recipe(write_recipe(tmp_path, "tasks: 3"))


def test_every_hyper_parameter_of_the_delora_table_is_there():
    """Bini et al. 2025: λ, learning rate, λ's rate, batch, epochs and dropout of eight tasks."""
    found = {}
    for name in ("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb"):
        recipe = load_recipe("delora-glue", {"task": {"name": name}})
        adapter, training = recipe.method.adapter, recipe.training
        found[name] = (
            adapter.delora_lambda,
            training.learning_rate,
            adapter.lambda_learning_rate,
            training.batch_size,
            training.epochs,
            adapter.dropout,
        )
    assert found == {
        "mnli": (12, 1e-3, 3e-3, 32, 30, 0),
        "sst2": (12, 1e-3, 3e-3, 32, 30, 0.1),
        "mrpc": (4, 3e-2, 1e-2, 32, 40, 0.2),
        "cola": (4, 1e-2, 1e-2, 8, 80, 0.2),
        "qnli": (12, 3e-3, 3e-3, 32, 25, 0.25),
        "qqp": (12, 3e-3, 3e-3, 32, 25, 0.1),
        "rte": (4, 1e-2, 1e-2, 32, 80, 0),
        "stsb": (12, 1e-2, 1e-2, 8, 40, 0.2),
    }


def test_another_method_keeps_of_the_recipes_own_what_fits_it():
    recipe = load_recipe("abm-glue", {"method": {"name": "lora"}})
    assert (recipe.method.name, recipe.method.r) == ("lora", 8)
    assert (recipe.method.adapter.alpha, recipe.method.adapter.dropout) == (16, 0.05)
    assert recipe.method.init.kind == "random"
    other = load_recipe("delora-glue", {"method": {"name": "lora"}}).method
    assert (other.adapter.kind, other.published, other.published_parameters) == ("lora", None, None)


@pytest.mark.parametrize("part", ["adapter", "init", "schedule"])
def test_a_part_that_is_no_mapping_is_told_as_what_it_is(part):
    with pytest.raises(SettingsError, match=rf"method\.{part}: .*got 3"):
        load_recipe("digits", {"method": {part: 3}})


def missing_controls(comparison):
    """Which of the controls a comparison lacks, as its recipe calls them."""
    methods = comparison.chosen_methods
    adapters = [method.adapter for method in methods]
    starts = {getattr(method.init, "kind", None) for method in methods} & {"update", "boundary"}
    nulls = {
        method.init.kind
        for method in methods
        if getattr(method.init, "directions", None) == "random"
    }
    there = {
        "full fine-tuning": any(adapter.kind == "full" for adapter in adapters),
        "LoRA over α": any(
            method.name == "lora" and "adapter.alpha" in comparison.grid_of(method)
            for method in methods
        ),
        "rsLoRA": any(getattr(adapter, "use_rslora", False) for adapter in adapters),
        "LoRA+": any(getattr(adapter, "loraplus_lr_ratio", None) for adapter in adapters),
        "null": starts <= nulls,
    }
    return [control for control, is_there in there.items() if not is_there]


COMPARISONS = [name for name in recipe_names() if load_recipe(name).compare]


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_shipped_comparison_has_its_controls_or_says_why_not(name):
    file = resources.files("rankwise") / "recipes" / f"{name}.yaml"
    text = file.read_text(encoding="utf-8")
    variant = "controls" if "\n  controls:" in text else None
    missing = missing_controls(load_recipe(name, variant=variant).compare)
    comments = [line.strip() for line in text.splitlines() if line.strip().startswith("#")]
    said = " ".join(comments).partition("# Controls")[2]
    assert [control for control in missing if control not in said] == []
    if variant:
        assert f"rankwise compare {name} --controls" in text


def test_the_digits_have_all_controls():
    assert missing_controls(load_recipe("digits").compare) == []
