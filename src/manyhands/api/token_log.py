"""The tokens of an answer with their texts, places and log-probabilities, as far as it was shown.

Knows nothing of JSON.
"""

from __future__ import annotations

from dataclasses import dataclass

from manyhands.node.generate import Token
from manyhands.store.tokenizer import Tokenizer

LEAST_LOGPROB = -9999.0
"""What OpenAI says for "never": JSON has no -inf."""


@dataclass(frozen=True, slots=True)
class LoggedToken:
    """`offset` is where its text begins in the answer, in characters.

    A token that is part of a character has U+FFFD as its text.
    """

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]
    offset: int


class TokenTexts:
    """The text of single tokens, spaces before words kept, special tokens by their names."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # behind another token, or some tokenizers would drop a leading space
        self._before = tokenizer.encode("a", add_special=False)[-1:]
        self._before_text = tokenizer.decode(self._before, skip_special=False)
        self._known: dict[int, str] = {}

    def of(self, token_id: int) -> str:
        """The text of one token."""
        text = self._known.get(token_id)
        if text is None:
            both = self._tokenizer.decode([*self._before, token_id], skip_special=False)
            text = self._known[token_id] = both.removeprefix(self._before_text)
        return text


class TokenLog:
    """Keeps tokens back until their text is shown: what a stop string cuts off is never told.

    `shown_top` alternatives a token are told; the answer begins at character `start` of its text.
    """

    def __init__(
        self, tokenizer: Tokenizer, texts: TokenTexts, shown_top: int, start: int = 0
    ) -> None:
        self._stream, self._texts = tokenizer.stream(), texts
        self._shown_top, self._start = shown_top, start
        self._waiting: list[LoggedToken] = []
        self._length = 0

    def add(self, token: Token) -> None:
        """The next token of the answer."""
        logged = LoggedToken(
            self._texts.of(token.id),
            _finite(token.logprob),
            tuple(
                (self._texts.of(other), _finite(logprob))
                for other, logprob in token.top[: self._shown_top]
            ),
            self._start + self._length,
        )
        self._waiting.append(logged)
        self._length += len(self._stream.feed([token.id]))

    def release(self, shown: int) -> tuple[LoggedToken, ...]:
        """The tokens whose text begins within the first `shown` characters; each once."""
        count = sum(token.offset - self._start < shown for token in self._waiting)
        ready, self._waiting = self._waiting[:count], self._waiting[count:]
        return tuple(ready)

    def finish(self, shown: int) -> tuple[LoggedToken, ...]:
        """What is left: all of it, unless the answer was cut after `shown` characters."""
        whole = self._length + len(self._stream.finish())
        ready = self.release(shown)
        return ready if shown < whole else (*ready, *self._waiting)


def _finite(logprob: float | None) -> float:
    return LEAST_LOGPROB if logprob is None else max(logprob, LEAST_LOGPROB)
