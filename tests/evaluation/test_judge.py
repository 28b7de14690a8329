"""A judge behind a URL: asked patiently, believed only where it rates, its failures reported."""

from __future__ import annotations

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from rankwise.core.errors import DataError, SettingsError
from rankwise.evaluation.generation_answers import write_alpaca_eval, write_mt_bench
from rankwise.evaluation.judge import Endpoint, Reply
from rankwise.evaluation.judge_mt_bench import judge_mt_bench, parse_rating
from rankwise.tasks.generation.examples import find_file, read_examples
from rankwise.tasks.generation.questions import Question
from tests.tasks.generation.generation_files import write_lines

MESSAGES = [{"role": "user", "content": "?"}]
LATE = "late"


def reply_with(text):
    return (200, json.dumps({"choices": [{"message": {"content": text}}]}))


class Judge:
    """A server on this machine that gives the replies that a test sets, and keeps the requests."""

    def __init__(self):
        self.replies, self.requests, self.release = [], [], threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, self.headers, json.loads(body)))
                reply = outer.replies.pop(0) if len(outer.replies) > 1 else outer.replies[0]
                if reply is LATE:
                    outer.release.wait(10)
                    return
                self.send_response(reply[0])
                self.send_header("Content-Type", "application/json")
                self.send_header("Retry-After-Ms", "1")  # spares the test the client's wait
                self.end_headers()
                self.wfile.write(reply[1].encode())

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def judge():
    server = Judge()
    yield server
    server.close()


@pytest.fixture
def endpoint(judge):
    return Endpoint(judge.url, "judge-1", key="k", attempts=3, timeout=5)


def test_a_reply_is_its_text(judge, endpoint):
    judge.replies = [reply_with("fine")]
    assert endpoint.complete(MESSAGES) == Reply("fine", None)
    path, headers, body = judge.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer k"
    assert body == {"model": "judge-1", "messages": MESSAGES, "temperature": 0}


@pytest.mark.parametrize("passing", [(500, "oops"), (429, "slow down")])
def test_what_may_pass_is_asked_again(judge, endpoint, passing):
    judge.replies = [passing, passing, reply_with("fine")]
    assert endpoint.complete(MESSAGES).text == "fine"
    assert len(judge.requests) == 3


@pytest.mark.parametrize(
    ("reply", "requests", "message"),
    [
        ((503, "busy"), 3, "answered status 503: busy"),
        ((401, "no such key"), 1, "answered status 401: no such key"),
        ((200, "{"), 1, "answered with a malformed reply: "),
        ((200, "[]"), 1, r"no text in choices\[0\]\.message\.content: \[\]"),
        ((200, '{"choices": []}'), 1, "no text in"),
        ((200, '{"choices": 1}'), 1, "no text in"),
        ((200, '{"choices": [{"message": {"content": 1}}]}'), 1, "no text in"),
    ],
)
def test_what_does_not_pass_is_reported(judge, endpoint, reply, requests, message):
    judge.replies = [reply]
    text, error = endpoint.complete(MESSAGES)
    assert text is None
    assert re.search(message, error)
    assert len(judge.requests) == requests


def test_the_key_is_in_no_text_about_the_judge(judge):
    assert "secret" not in repr(Endpoint(judge.url, "judge-1", key="secret"))


def test_without_a_key_the_client_sends_a_placeholder(judge):
    judge.replies = [reply_with("fine")]
    assert Endpoint(judge.url, "judge-1").complete(MESSAGES).text == "fine"
    assert judge.requests[0][1]["Authorization"] == "Bearer EMPTY"


def test_an_endpoint_that_is_not_there_is_reported(judge):
    url = judge.url.replace(str(judge.server.server_port), "1")
    error = Endpoint(url, "judge-1", attempts=1).complete(MESSAGES).error
    assert "cannot be reached: " in error
    assert error.endswith("(1 attempts)")


def test_an_endpoint_that_is_late_is_reported(judge):
    judge.replies = [LATE]
    late = Endpoint(judge.url, "judge-1", attempts=1, timeout=0.05)
    assert "timed out after 0.05 s" in late.complete(MESSAGES).error


def test_the_missing_client_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(SettingsError, match=r"pip install 'rankwise\[judge\]'"):
        Endpoint("http://x", "judge-1")


def test_a_url_of_another_kind_is_refused():
    with pytest.raises(SettingsError, match="must begin with http:// or https://: file:///x"):
        Endpoint("file:///x", "judge-1")


@pytest.mark.parametrize(
    ("text", "rating"),
    [("[[7]]", 7.0), ("x [[9.5]] y", 9.5), ("[7]", None), ("[[11]]", None), ("[[A]]", None)],
)
def test_a_rating_stands_in_double_brackets(text, rating):
    assert parse_rating(text) == rating


QUESTIONS = [
    Question(("Write.", "Again."), labels={"question_id": 81, "category": "writing"}),
    Question(("Add.", "Twice."), labels={"question_id": 111, "category": "math"}),
]
ANSWERS = [["a {x}", "b"], ["2", "4"]]


@pytest.fixture
def root(tmp_path):
    fields = {
        "single-v1": "{question}|{answer}",
        "single-math-v1": "{question}|{ref_answer_1}|{answer}",
        "single-v1-multi-turn": "{question_1}|{answer_1}|{question_2}|{answer_2}",
        "single-math-v1-multi-turn": "{ref_answer_2}|{answer_2}",
    }
    prompts = [
        {"name": name, "system_prompt": "Judge.", "prompt_template": template}
        for name, template in fields.items()
    ]
    write_lines(tmp_path, "dialogue/mt_bench/judge_prompts", prompts)
    right = {"question_id": 111, "choices": [{"turns": ["two", "four"]}]}
    write_lines(tmp_path, "dialogue/mt_bench/reference_answer_gpt-4", [right])
    return tmp_path


def test_each_turn_is_rated_with_its_reference(judge, endpoint, root, tmp_path):
    judge.replies = [
        reply_with("[[4]]"),
        reply_with("[[6]]"),
        reply_with("none"),
        reply_with("[[8]]"),
    ]
    file = tmp_path / "judgements.jsonl"
    options = {"root": root, "file": file, "model": "mine"}
    judged = judge_mt_bench(endpoint, QUESTIONS, ANSWERS, **options)
    asked = [body["messages"][1]["content"] for _, _, body in judge.requests]
    assert asked == ["Write.|a {x}", "Write.|a {x}|Again.|b", "Add.|two|2", "four|4"]
    assert judged.score == 6
    assert judged.errors == ["question 111, turn 1: no rating such as [[7]] in 'none'"]
    # What has no rating is asked again, the rest is kept; a half-written line is not.
    with file.open("a") as lines:
        lines.write('{"question_id": 1')
    judge.replies = [reply_with("[[2]]")]
    again = judge_mt_bench(endpoint, QUESTIONS, ANSWERS, **options)
    assert (again.score, again.errors) == (5, [])
    assert len(judge.requests) == 5


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "3",
        "{}",
        '{"error": null}',
        '{"error": null, "question_id": [], "turn": 1, "score": 2}',
        '{"error": null, "question_id": 81, "turn": 1, "score": "much"}',
        "[" * 99_999,
        "\udcff",
    ],
    ids=lambda line: ascii(line[:30]),
)
def test_judgements_that_somebody_changed_are_named(endpoint, root, tmp_path, line):
    file = tmp_path / "j.jsonl"
    file.write_bytes(line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(DataError, match=r"j\.jsonl is no file of judgements .*: remove it"):
        judge_mt_bench(endpoint, QUESTIONS, ANSWERS, root=root, file=file, model="mine")


def test_a_judgement_may_hold_any_character(judge, endpoint, root, tmp_path):
    judge.replies = [reply_with("one\u2028two\x85three\x1cfour [[4]]")]
    options = {"root": root, "file": tmp_path / "j.jsonl", "model": "mine"}
    judged = judge_mt_bench(endpoint, QUESTIONS, ANSWERS, **options)
    assert judge_mt_bench(endpoint, QUESTIONS, ANSWERS, **options) == judged
    assert len(judge.requests) == 4


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("judge_prompts", {"name": []}, r"expected a text or a number in 'name', got \[\]"),
        ("judge_prompts", {"prompt_template": "{"}, "'prompt_template' cannot be filled with"),
        ("judge_prompts", {"prompt_template": "{0} {x}"}, "'prompt_template' cannot be filled"),
        ("judge_prompts", {"prompt_template": "{answer.x}"}, "'prompt_template' cannot be filled"),
        ("reference_answer_gpt-4", {"choices": []}, r"has no choices\[0\]\.turns"),
        ("reference_answer_gpt-4", {"choices": [{"turns": [3]}]}, r"has no choices\[0\]\.turns"),
    ],
)
def test_prompts_and_references_of_another_form_are_named(
    judge, endpoint, root, tmp_path, name, changed, message
):
    judge.replies = [reply_with("[[4]]")]
    path = f"dialogue/mt_bench/{name}"
    rows = [each.content for each in read_examples(find_file(root, path))]
    for file in root.glob(f"{path}*"):
        file.unlink()
    write_lines(root, path, [row | changed for row in rows])
    with pytest.raises(DataError, match=message):
        judge_mt_bench(
            endpoint, QUESTIONS, ANSWERS, root=root, file=tmp_path / "j.jsonl", model="mine"
        )


def test_a_judge_that_is_away_leaves_errors_and_no_score(judge, endpoint, root, tmp_path):
    judge.replies = [(500, "x")]
    options = {"root": root, "file": tmp_path / "j.jsonl", "model": "mine"}
    judged = judge_mt_bench(endpoint, QUESTIONS, ANSWERS, **options)
    assert judged.score is None
    assert len(judged.errors) == 4


def test_a_missing_prompt_is_named(judge, endpoint, root, tmp_path):
    write_lines(root, "dialogue/mt_bench/judge_prompts", [{"name": "x"}])
    options = {"root": root, "file": tmp_path / "j.jsonl", "model": "mine"}
    with pytest.raises(DataError, match="has no prompt 'single-v1'"):
        judge_mt_bench(endpoint, QUESTIONS, ANSWERS, **options)


def test_answers_are_in_the_files_of_the_tools(tmp_path):
    write_mt_bench(tmp_path / "mt.jsonl", QUESTIONS, ANSWERS, model="mine", time=1.5)
    first, _ = map(json.loads, (tmp_path / "mt.jsonl").read_text().splitlines())
    assert len(first.pop("answer_id")) == 22
    assert first == {
        "question_id": 81,
        "model_id": "mine",
        "choices": [{"index": 0, "turns": ["a {x}", "b"]}],
        "tstamp": 1.5,
    }
    asked = [Question(("é?",), labels={"dataset": "koala", "instruction": "é?"})]
    write_alpaca_eval(tmp_path / "alpaca.json", asked, ["è"], model="mine")
    assert json.loads((tmp_path / "alpaca.json").read_text(encoding="utf-8")) == [
        {"dataset": "koala", "instruction": "é?", "output": "è", "generator": "mine"}
    ]
