"""Options become a tree of settings, and a tree becomes the options that make it again."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.cli.arguments import ALL_SECTIONS
from rankwise.cli.overrides import option_words, parse_variations, split_options
from rankwise.core.errors import SettingsError
from rankwise.training.settings.catalogue import all_settings


def read(words, *, declared=(), sections=ALL_SECTIONS):
    tree, rest = split_options(words, declared=declared, sections=sections)
    assert rest == []
    return tree


def test_options_are_nested_and_values_are_yaml():
    words = ["--training.epochs", "3", "--method.adapter.rank_pattern={a: 1}", "--seed", "7"]
    words += ["--method.label", ""]
    assert read(words) == {
        "training": {"epochs": 3},
        "method": {"adapter": {"rank_pattern": {"a": 1}}, "label": None},
        "seed": 7,
    }


def test_the_last_of_two_equal_options_counts():
    assert read(["--seed", "1", "--seed", "2"]) == {"seed": 2}


def test_what_the_command_declares_is_left_to_its_parser():
    words = ["digits", "--output", "here", "--lr", "1", "--workers=2", "-h"]
    tree, rest = split_options(words, declared=["--output", "--workers"], sections=ALL_SECTIONS)
    assert tree == {"training": {"learning_rate": 1}}
    assert rest == ["digits", "--output", "here", "--workers=2", "-h"]


@pytest.mark.parametrize(
    ("option", "tree"),
    [
        ("--lr", {"training": {"learning_rate": 2}}),
        ("--epochs", {"training": {"epochs": 2}}),
        ("--batch-size", {"training": {"batch_size": 2}}),
        ("--rank", {"method": {"r": 2}}),
        ("--method.rank", {"method": {"r": 2}}),
        ("--method.lora_alpha", {"method": {"adapter": {"alpha": 2}}}),
        ("--method.target_modules", {"method": {"adapter": {"target_modules": "2"}}}),
        ("--margin", {"method": {"init": {"margin": 2}}}),
        ("--rounds", {"federated": {"rounds": 2}}),
        ("--num-clients", {"federated": {"clients": 2}}),
        ("--training.lr", {"training": {"learning_rate": 2}}),
        ("--method", {"method": 2}),
        (
            "--method.adapter.rank_pattern.layers.4",
            {"method": {"adapter": {"rank_pattern": {"layers.4": 2}}}},
        ),
        ("--method.adapter.options.a.b", {"method": {"adapter": {"options": {"a": {"b": 2}}}}}),
    ],
)
def test_what_people_type_names_the_setting_that_is_meant(option, tree):
    assert read([option, "2"]) == tree


@pytest.mark.parametrize("setting", all_settings(), ids=lambda setting: setting.name)
def test_a_full_name_always_means_itself(setting):
    tree = read([f"--{setting.name}=null"])
    for part in setting.name.split("."):
        tree = tree[part]
    assert tree is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("compare.seeds", "3", [3]),
        ("compare.seeds", "0,1,2", [0, 1, 2]),
        ("compare.seeds", "[4, 5]", [4, 5]),
        ("compare.learning_rates", "0.01,0.03", [0.01, 0.03]),
        ("compare.methods", "lora,lora-sb", ["lora", "lora-sb"]),
        ("compare.methods", "{name: lora, r: 2}", [{"name": "lora", "r": 2}]),
        ("compare.budgets", "null", None),
        ("compare.budgets", "300", ["300"]),
        ("compare.budgets", "300,1200", ["300", "1200"]),
        ("compare.budgets", "['300']", ["300"]),
        ("method.label", "1e3", "1e3"),
        ("method.label", "null", None),
        ("method.label", "'null'", "null"),
        ("task.delimiter", ",", ","),
        ("task.delimiter", "|", "|"),
        ("task.delimiter", r'"\t"', "\t"),
        ("task.label", "#", "#"),
        ("task.label", "size: small", "size: small"),
        ("task.label", "'quoted' or not", "'quoted' or not"),
        ("training.report_to", "tensorboard", ["tensorboard"]),
        ("method.target_modules", "q_proj,v_proj", ["q_proj", "v_proj"]),
        ("method.target_modules", "all-linear", "all-linear"),
        ("method.target_modules", r"layers\.\d{1,2}", r"layers\.\d{1,2}"),
    ],
)
def test_a_list_is_read_as_the_list_that_it_is(name, text, value):
    tree = read([f"--{name}", text])
    while isinstance(tree, dict):
        ((_, tree),) = tree.items()
    assert tree == value


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--training.bf16"], True),
        (["--bf16"], True),
        (["--bf16", "--seed", "1"], True),
        (["--bf16", "false"], False),
        (["--bf16=no"], False),
    ],
)
def test_a_switch_needs_no_value(words, value):
    assert read(words)["training"] == {"bf16": value}


def test_a_switch_does_not_swallow_what_stands_behind_it():
    words = ["--bf16", "digits", "--epochs", "3", "x"]
    assert split_options(words, declared=(), sections=ALL_SECTIONS) == (
        {"training": {"bf16": True, "epochs": 3}},
        ["digits", "x"],
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs"], "--epochs needs a value"),
        (["--epochs", "--seed", "1"], "--epochs needs a value"),
        (["--epochs", "[1"], "--training.epochs: '[1' is not a YAML value"),
        (["--epochs", "&a [*a]"], "more than 20,000 values"),
        (
            ["--epoch", "3"],
            "--epoch: there is no such option or setting; did you mean --training.e",
        ),
        (["--compare.seed", "3"], "did you mean --compare.seeds?"),
        (["--wrkers", "3"], "did you mean --workers?"),
        (["--compare.workers", "3"], "did you mean --workers?"),
        (["--compare.wrkers", "3"], "did you mean --workers?"),
        (["--training.seed", "3"], "did you mean --seed or "),
        (["--nonsense", "3"], "`rankwise list settings`"),
        (["--device", "cuda"], "CUDA_VISIBLE_DEVICES"),
        (["--steps", "3"], "--steps could mean --method.init.steps or --task.small.steps"),
        (["--method", "lora", "--method.r", "2"], "'method' was given a value of its own"),
    ],
)
def test_mistakes_are_named(words, message):
    with pytest.raises(SettingsError) as caught:
        read(words, declared=["--workers"])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--federated.rounds", "takes settings of task, training, and none of federated"),
        ("--rounds", "takes settings of task, training, and none of federated"),
    ],
)
def test_a_setting_of_another_command_is_refused(option, message):
    with pytest.raises(SettingsError, match=message):
        read([option, "3"], sections=("task", "training"))


def test_a_command_without_settings_says_so():
    with pytest.raises(SettingsError, match="takes no settings"):
        read(["--seed", "3"], sections=())


def test_variations_are_values_by_setting():
    assert parse_variations(["rank=1,2", "training.bf16=true,false"]) == {
        "method.r": [1, 2],
        "training.bf16": [True, False],
    }


@pytest.mark.parametrize("word", ["method.r", "method.r="])
def test_a_variation_without_values_is_refused(word):
    with pytest.raises(SettingsError, match=r"SETTING=VALUE,VALUE, got 'method\.r"):
        parse_variations([word])


# Everything that YAML reads, strings that look like something else among them.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(
        ["null", "true", "3", "1e-3", "0.1", "~", "a,b", "--x", "[1", "{a", "#", "&a"]
    )
)
KEYS = st.sampled_from(["a", "layers.4", "4", "null", "--x", "a b"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
)


@given(st.sampled_from(all_settings()), VALUES)
def test_what_was_read_can_be_written_and_read_again(setting, value):
    tree: object = value
    for part in reversed(setting.name.split(".")):
        tree = {part: tree}
    # Only what an option can mean: a mere word in the place of a list is read as that list.
    once = read(option_words(tree))
    written = shlex.join(option_words(once))
    assert read(shlex.split(written)) == once
    # Whatever is no text is one where a setting takes texts alone.
    is_a_text = setting.takes_only_texts and not isinstance(value, str | list | None)
    is_a_text |= setting.takes_only_texts and isinstance(value, list) and not setting.takes("array")
    if not is_a_text and not (setting.takes("array") and not isinstance(value, list)):
        assert once == tree


@pytest.mark.parametrize(
    "tree",
    [
        {"method": "lora-sb", "seed": 0},
        {"method": {"adapter": {"rank_pattern": {"layers.4": 5}}}},
        {"method": {"adapter": {"rank_pattern": {}}, "label": None}},
        {"method": {"adapter": {"options": {"a": {"b": [1, {"c": None}]}}}}},
        {"compare": {"methods": ["lora", {"name": "cola", "published": None}], "budgets": None}},
        {"task": {"data_root": "/a b/c", "model": "package:x/y"}, "training": {}},
        {"method": {"label": "a\x85b\u2028c\u2029d é"}},
    ],
)
def test_a_tree_survives_being_written(tree):
    assert read(shlex.split(shlex.join(option_words(tree)))) == tree


def test_lists_are_written_as_one_types_them():
    tree = {
        "compare": {"methods": ["lora", "lora-sb"], "seeds": [0], "learning_rates": [0.01, 0.1]}
    }
    assert option_words(tree) == [
        "--compare.methods=lora,lora-sb",
        "--compare.seeds=0",
        "--compare.learning_rates=0.01,0.1",
    ]
    doubtful = {"compare": {"methods": ["lora", {"name": "cola"}]}, "task": {"metrics": ["a, b"]}}
    assert read(option_words(doubtful)) == doubtful
