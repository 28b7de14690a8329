"""A judge: any endpoint that speaks OpenAI's protocol for chats, named by its URL.

What may pass is asked again, after a wait that doubles: a refused connection, a timeout, an answer
that is no JSON or lacks its text, and the statuses 408, 429 and 5xx. What stays is reported.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rankwise.core.errors import SettingsError

Message = dict[str, str]

_PASSING = (408, 429)


class Reply(NamedTuple):
    """What the endpoint said, or why it said nothing."""

    text: str | None
    error: str | None


@dataclass(frozen=True)
class Endpoint:
    """Where the judge is, and how patiently it is asked.

    Attributes:
        url: Such as http://localhost:8000/v1; ``/chat/completions`` is added.
        model: The name under which it serves the judge.
        key: Sent as a bearer token where there is one.
        attempts: Of one question.
        wait: Seconds after the first failure; each further one doubles it.
        timeout: Seconds of one attempt.
        sleep: Waits so many seconds.

    Raises:
        SettingsError: The URL is none of http or https.
    """

    url: str
    model: str
    key: str | None = None
    attempts: int = 5
    wait: float = 1.0
    timeout: float = 120.0
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise SettingsError(f"the judge's URL must begin with http:// or https://: {self.url}")

    def ask(self, messages: Sequence[Message]) -> Reply:
        """Return the reply to ``messages``; an error only when no attempt is left."""
        reply = Reply(None, "was not asked")
        for attempt in range(self.attempts):
            if attempt:
                self.sleep(self.wait * 2 ** (attempt - 1))
            reply, is_final = self._attempt(messages)
            if reply.text is not None or is_final:
                return reply
        return Reply(None, f"{reply.error} ({self.attempts} attempts)")

    def _attempt(self, messages: Sequence[Message]) -> tuple[Reply, bool]:
        """Return the reply, and whether asking again would change nothing."""
        try:
            with urllib.request.urlopen(self._request(messages), timeout=self.timeout) as response:
                return Reply(_text_of(response.read()), None), True
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(200).decode("utf-8", "replace")
            is_final = error.code < 500 and error.code not in _PASSING
            return Reply(None, f"{self.url} answered status {error.code}: {said}"), is_final
        except TimeoutError:
            return Reply(None, f"{self.url} timed out after {self.timeout:g} s"), False
        except (OSError, http.client.HTTPException) as error:
            return Reply(None, f"{self.url} cannot be reached: {error}"), False
        except ValueError as error:
            return Reply(None, f"{self.url} answered with a malformed reply: {error}"), False

    def _request(self, messages: Sequence[Message]) -> urllib.request.Request:
        content = {"model": self.model, "messages": list(messages), "temperature": 0}
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return urllib.request.Request(
            self.url.rstrip("/") + "/chat/completions",
            data=json.dumps(content).encode(),
            headers=headers,
        )


def _text_of(body: bytes) -> str:
    """Return the text in a reply; a ``ValueError`` says what it lacks."""
    content: Any = json.loads(body)
    try:
        text = content["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"no choices[0].message.content in {body[:200]!r}") from error
    if not isinstance(text, str):
        raise ValueError(f"choices[0].message.content must be text, got {text!r}")
    return text
