"""Answers in OpenAI's JSON: chats and completions, whole and in pieces. Nothing else is in them.

What only a swarm has to tell (time lost, kernels) goes into headers and comments of the
stream, so that a client that checks every field finds the fields it knows, and no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from manyhands.api.token_log import LoggedToken

Json = dict[str, Any]
Tokens = Sequence[LoggedToken] | None
"""None: log-probabilities were not asked for."""


@dataclass(frozen=True, slots=True)
class Heading:
    """What every object of one answer repeats. `created` is in unix seconds."""

    id: str
    created: int
    model: str
    fingerprint: str

    def over(self, kind: str, choices: list[Json], usage: Json | None = None) -> Json:
        """One object."""
        made: Json = {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        }
        return made if usage is None else {**made, "usage": usage}


class Form(Protocol):
    """One of the two dialects."""

    prefix: str
    whole: str
    piece: str

    def choice(self, index: int, text: str, tokens: Tokens, finish: str) -> Json:
        """A whole answer."""

    def opening(self, index: int) -> Json | None:
        """What comes before the first piece, if anything."""

    def delta(self, index: int, text: str, tokens: Tokens) -> Json:
        """A piece of an answer."""

    def ending(self, index: int, finish: str) -> Json:
        """What comes after the last piece."""


class ChatForm:
    """`/v1/chat/completions`."""

    prefix = "chatcmpl-"
    whole = "chat.completion"
    piece = "chat.completion.chunk"

    def choice(self, index: int, text: str, tokens: Tokens, finish: str) -> Json:
        """A message."""
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": _chat_logprobs(tokens),
            "finish_reason": finish,
        }

    def opening(self, index: int) -> Json | None:
        """Who speaks."""
        return self._delta(index, {"role": "assistant", "content": ""}, None, None)

    def delta(self, index: int, text: str, tokens: Tokens) -> Json:
        """More of the message."""
        return self._delta(index, {"content": text}, tokens, None)

    def ending(self, index: int, finish: str) -> Json:
        """Why it ends."""
        return self._delta(index, {}, None, finish)

    def _delta(self, index: int, delta: Json, tokens: Tokens, finish: str | None) -> Json:
        return {
            "index": index,
            "delta": delta,
            "logprobs": _chat_logprobs(tokens),
            "finish_reason": finish,
        }


class CompletionForm:
    """`/v1/completions`."""

    prefix = "cmpl-"
    whole = "text_completion"
    piece = "text_completion"

    def choice(self, index: int, text: str, tokens: Tokens, finish: str | None) -> Json:
        """A text; `finish` is None in a stream's pieces, as OpenAI sends them."""
        return {
            "index": index,
            "text": text,
            "logprobs": _completion_logprobs(tokens),
            "finish_reason": finish,
        }

    def opening(self, index: int) -> Json | None:
        """Nothing."""
        del index
        return None

    def delta(self, index: int, text: str, tokens: Tokens) -> Json:
        """More of the text."""
        return self.choice(index, text, tokens, None)

    def ending(self, index: int, finish: str) -> Json:
        """Why it ends."""
        return self.choice(index, "", None, finish)


def usage(prompt_tokens: int, completion_tokens: int) -> Json:
    """Counts of tokens."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _chat_logprobs(tokens: Tokens) -> Json | None:
    if tokens is None:
        return None
    content = [
        {
            **_entry(token.text, token.logprob),
            "top_logprobs": [_entry(text, logprob) for text, logprob in token.top],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _entry(text: str, logprob: float) -> Json:
    is_whole = "\N{REPLACEMENT CHARACTER}" not in text
    return {
        "token": text,
        "logprob": logprob,
        "bytes": list(text.encode("utf-8")) if is_whole else None,
    }


def _completion_logprobs(tokens: Tokens) -> Json | None:
    if tokens is None:
        return None
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_top(token) for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }


def _top(token: LoggedToken) -> dict[str, float]:
    """The likeliest and always the chosen one; of several with the same text the likelier."""
    top: dict[str, float] = {}
    for text, logprob in (*token.top, (token.text, token.logprob)):
        top.setdefault(text, logprob)
    return top
