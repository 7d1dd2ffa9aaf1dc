"""What a server keeps while it serves: its models by name, how much it does now, that it closes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from manyhands.api.refusals import RETRY_AFTER_S, RequestRefused
from manyhands.api.serving import Serving
from manyhands.api.token_log import TokenTexts
from manyhands.errors import UserError
from manyhands.node.speaker import Speaker

MOST_REQUESTS = 64
"""Requests for answers at a time; a swarm of this size is busy long before."""

LONG_CHARACTERS = 1 << 16
"""A text over this takes its turn to be encoded: some 30 ms."""

LEAST_TOKEN_CHARACTERS = 32
"""What one token is taken to cover at least: several unknown characters may be one token."""

MOST_VIEWERS = 64
"""Open streams of the swarm's events."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a model's folder lets it do. `hears_system`: its template shows a system message."""

    speaks: bool
    chats: bool
    hears_system: bool


class Desk:
    """One a server. `closing` is set when open streams must end."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.closing = asyncio.Event()
        self.requests = 0
        self.viewers = 0
        self._spoken_tokens = 0
        self._at_work: list[Callable[[], int]] = []
        self._by_name = {speaker.name: speaker for speaker in serving.speakers}
        self._texts: dict[str, TokenTexts] = {}
        self._abilities = {name: _abilities(one) for name, one in self._by_name.items()}
        self._rendering = threading.Lock()
        self._a_long_one = asyncio.Semaphore(1)

    def speaker(self, name: str | None) -> Speaker:
        """The model of this name; the first one for None. Raises RequestRefused."""
        if name is None:
            return self.serving.speakers[0]
        found = self._by_name.get(name)
        if found is None:
            raise RequestRefused(
                404,
                f"there is no model {name[:200]!r} here; there is {', '.join(self._by_name)}",
                "model",
                "model_not_found",
            )
        return found

    def abilities(self, speaker: Speaker) -> Abilities:
        """What a model can do."""
        return self._abilities[speaker.name]

    def texts(self, speaker: Speaker) -> TokenTexts:
        """The texts of a model's tokens. Raises UserError for a model without a tokenizer."""
        if speaker.name not in self._texts:
            self._texts[speaker.name] = TokenTexts(speaker.tokenizer)
        return self._texts[speaker.name]

    async def text_ids(self, speaker: Speaker, text: str, param: str) -> tuple[int, ...]:
        """Token ids of a text, made beside the event loop: the peer's beats go on meanwhile.

        Of long texts one at a time, so that short ones find a thread. Raises UserError, and
        RequestRefused (it names `param`) for a text that cannot fit.
        """
        _check_characters(text, speaker, param)
        async with self._turn(len(text)):
            return await asyncio.to_thread(speaker.ids, text)

    async def chat_ids(
        self, speaker: Speaker, messages: Sequence[dict[str, str]], param: str
    ) -> tuple[int, ...]:
        """The same of a chat, whose template may leave out some of what was sent."""

        def render() -> str:
            with self._rendering:  # a template renders one chat at a time
                return speaker.chat_text(messages)

        async with self._turn(sum(len(one["content"]) for one in messages)):
            text = await asyncio.to_thread(render)
            _check_characters(text, speaker, param)
            encode = functools.partial(speaker.tokenizer.encode, add_special=False)
            return tuple(await asyncio.to_thread(encode, text))

    def _turn(self, characters: int) -> contextlib.AbstractAsyncContextManager[object]:
        is_long = characters > LONG_CHARACTERS
        return self._a_long_one if is_long else contextlib.nullcontext()

    async def text(self, speaker: Speaker, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return await asyncio.to_thread(speaker.tokenizer.decode, ids)

    @contextlib.contextmanager
    def a_request(self) -> Iterator[None]:
        """A place among the requests at work. Raises RequestRefused when all are taken."""
        if self.requests >= MOST_REQUESTS:
            raise RequestRefused(
                429,
                f"{MOST_REQUESTS} requests are at work here; ask again in {RETRY_AFTER_S} s",
                headers={"retry-after": str(RETRY_AFTER_S)},
            )
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @property
    def tokens(self) -> int:
        """Tokens of all answers, those at work too, since the server began."""
        return self._spoken_tokens + sum(tokens() for tokens in self._at_work)

    @contextlib.contextmanager
    def counting(self, tokens: Callable[[], int]) -> Iterator[None]:
        """Count an answer at work, of which `tokens()` are there."""
        self._at_work.append(tokens)
        try:
            yield
        finally:
            self._at_work.remove(tokens)
            self._spoken_tokens += tokens()

    def named(self, prefix: str) -> str:
        """A name for an answer."""
        return f"{prefix}{self.serving.chance.getrandbits(96):024x}"


def _check_characters(text: str, speaker: Speaker, param: str) -> None:
    """Raise RequestRefused for a text that no cutting into tokens makes fit: cheap to know."""
    longest = max(speaker.tokenizer.longest_token, LEAST_TOKEN_CHARACTERS)
    if len(text) > speaker.context * longest:
        raise RequestRefused(
            400,
            f"the prompt has {len(text)} characters, far over the context of {speaker.context} "
            "tokens; shorten the prompt",
            param,
            "context_length_exceeded",
        )


def _abilities(speaker: Speaker) -> Abilities:
    try:
        tokenizer = speaker.tokenizer
    except UserError:
        return Abilities(speaks=False, chats=False, hears_system=False)
    if not tokenizer.has_chat_template:
        return Abilities(speaks=True, chats=False, hears_system=False)
    probe: Any = [{"role": "system", "content": "be-brief"}, {"role": "user", "content": "hello"}]
    try:
        shown = tokenizer.render_text(probe, now=datetime.fromtimestamp(0, UTC))
    except UserError:  # a template that takes no system message
        shown = ""
    return Abilities(speaks=True, chats=True, hears_system="be-brief" in shown)
