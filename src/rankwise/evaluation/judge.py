"""A judge: any endpoint that speaks OpenAI's protocol for chats, named by its URL.

The ``openai`` client asks it, and asks again after what may pass: a refused connection, a timeout,
the statuses 408, 409, 429 and 5xx, after waits that double or that the server names. What stays is
reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rankwise.core.errors import SettingsError

Message = dict[str, str]

# The client insists on a key; servers that ask for none are given this one, as vLLM's examples do.
_NO_KEY = "EMPTY"


class Reply(NamedTuple):
    """What the endpoint answered, or why there is no answer."""

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
        timeout: Seconds of one attempt.

    Raises:
        SettingsError: The URL is none of http or https, or the ``openai`` client is not installed.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    attempts: int = 5
    timeout: float = 120.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise SettingsError(f"the judge's URL must begin with http:// or https://: {self.url}")
        _client_library()

    def complete(self, messages: Sequence[Message]) -> Reply:
        """Return the reply to ``messages``; an error only when no attempt is left."""
        openai = _client_library()
        client = openai.OpenAI(
            base_url=self.url,
            api_key=self.key or _NO_KEY,
            max_retries=self.attempts - 1,
            timeout=self.timeout,
        )
        try:
            with client:
                completion = client.chat.completions.create(
                    model=self.model, messages=list(messages), temperature=0
                )
        except openai.APITimeoutError:
            return Reply(None, f"{self.url} timed out after {self.timeout:g} s{self._tried}")
        except openai.APIConnectionError as error:
            return Reply(None, f"{self.url} cannot be reached: {error.__cause__}{self._tried}")
        except openai.APIStatusError as error:
            said = error.response.text[:200]
            return Reply(None, f"{self.url} answered status {error.status_code}: {said}")
        except ValueError as error:
            return Reply(None, f"{self.url} answered with a malformed reply: {error}")
        return _read(completion, self.url)

    @property
    def _tried(self) -> str:
        return f" ({self.attempts} attempts)"


def _client_library() -> Any:
    try:
        import openai
    except ImportError:
        raise SettingsError("a judge needs the client: pip install 'rankwise[judge]'") from None
    return openai


def _read(completion: Any, url: str) -> Reply:
    """Return the text of a completion; the client hands on malformed ones as they are."""
    try:
        text = completion.choices[0].message.content
    except (AttributeError, IndexError, TypeError):
        text = None
    if not isinstance(text, str):
        received = repr(completion)[:200]
        return Reply(None, f"{url}: a reply has no text in choices[0].message.content: {received}")
    return Reply(text, None)
