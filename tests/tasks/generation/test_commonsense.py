"""Rows of the Hub in the words of LLM-Adapters, as its own files have them."""

from __future__ import annotations

import pytest

from rankwise.core.errors import DataError
from rankwise.tasks.generation.commonsense import instructed
from rankwise.tasks.generation.examples import Example

FOG = {"text": ["a marsh", "a tundra", "the plains", "a desert"], "label": ["A", "B", "C", "D"]}
CASES = {
    "boolq": (
        {"question": "is house tax and property tax are same", "answer": True, "passage": "..."},
        "Please answer the following question with true or false, question: is house tax and "
        "property tax are same?\n\nAnswer format: true/false",
        "true",
    ),
    "piqa": (
        {
            "goal": "dresser",
            "sol1": "replace drawer with bobby pin ",
            "sol2": "finish, woodgrain with  bobby pin ",
            "label": 1,
        },
        "Please choose the correct solution to the question: dresser\n\nSolution1: replace drawer "
        "with bobby pin \n\nSolution2: finish, woodgrain with  bobby pin \n\n"
        "Answer format: solution1/solution2",
        "solution2",
    ),
    "siqa": (
        {
            "context": "Tracy didn't go home that evening and resisted Riley's attacks.",
            "question": "What does Tracy need to do before this?",
            "answerA": "make a new plan",
            "answerB": "Go home and see Riley",
            "answerC": "Find somewhere to go",
            "label": "3",
        },
        "Please choose the correct answer to the question: Tracy didn't go home that evening and "
        "resisted Riley's attacks. What does Tracy need to do before this?\n\nAnswer1: make a new "
        "plan Answer2: Go home and see Riley Answer3: Find somewhere to go\n\n"
        "Answer format: answer1/answer2/answer3",
        "answer3",
    ),
    "hellaswag": (
        {
            "activity_label": "Roof shingle removal",
            "ctx": "A man is sitting on a roof. he",
            "endings": ["is using wrap.", "is ripping tiles off.", "is holding a cube.", "starts."],
            "label": "3",
        },
        "Please choose the correct ending to complete the given sentence: Roof shingle removal: A "
        "man is sitting on a roof. he\n\nEnding1: is using wrap. Ending2: is ripping tiles off. "
        "Ending3: is holding a cube. Ending4: starts.\n\n"
        "Answer format: ending1/ending2/ending3/ending4",
        "ending4",
    ),
    "winogrande": (
        {
            "sentence": "Sarah was a much better surgeon than Maria so _ always got the easier "
            "cases.",
            "option1": "Sarah",
            "option2": "Maria",
            "answer": "2",
        },
        "Please choose the correct answer to fill in the blank to complete the given sentence: "
        "Sarah was a much better surgeon than Maria so _ always got the easier cases.\n\n"
        "Option1: Sarah Option2: Maria Answer format: option1/option2",
        "option2",
    ),
    "arc": (
        {
            "question": "Which piece of safety equipment is used to keep mold spores from entering "
            "the respiratory system?",
            "choices": {
                "text": ["safety goggles", "breathing mask", "rubber gloves", "lead apron"],
                "label": ["1", "2", "3", "4"],
            },
            "answerKey": "2",
        },
        "Please choose the correct answer to the question: Which piece of safety equipment is used "
        "to keep mold spores from entering the respiratory system?\n\nAnswer1: safety goggles "
        "Answer2: breathing mask Answer3: rubber gloves Answer4: lead apron\n\n"
        "Answer format: answer1/answer2/answer3/answer4",
        "answer2",
    ),
    "obqa": (
        {
            "question_stem": "There is most likely going to be fog around:",
            "choices": FOG,
            "answerKey": "A",
        },
        "Please choose the correct answer to the question: There is most likely going to be fog "
        "around:\n\nAnswer1: a marsh Answer2: a tundra Answer3: the plains Answer4: a desert\n\n"
        "Answer format: answer1/answer2/answer3/answer4",
        "answer1",
    ),
}


@pytest.mark.parametrize(("row", "instruction", "answer"), CASES.values(), ids=CASES)
def test_a_row_of_the_hub_becomes_an_instruction(row, instruction, answer):
    assert instructed(Example(row, "here")) == (instruction, answer)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("boolq", {"answer": "yes"}, "here: expected true or false in 'answer', got 'yes'"),
        ("piqa", {"label": -1}, "here: the label must be from 0 to 1, got -1"),
        ("siqa", {"label": "0"}, "here: the label must be from 1 to 3, got '0'"),
        ("hellaswag", {"label": ""}, "here: the label must be from 0 to 3, got ''"),
        ("winogrande", {"answer": True}, "here: the answer must be from 1 to 2, got True"),
        ("arc", {"answerKey": "E"}, r"here: the answerKey must be one of \['1', .*\], got 'E'"),
        ("obqa", {"choices": None}, "here, choices: expected a list of texts in 'text', got None"),
    ],
)
def test_a_label_that_is_none_of_the_options_is_named(name, change, message):
    with pytest.raises(DataError, match=message):
        instructed(Example(CASES[name][0] | change, "here"))


def test_other_columns_are_refused():
    with pytest.raises(DataError, match="here: expected the columns instruction and answer, or"):
        instructed(Example({"a": 1}, "here"))
