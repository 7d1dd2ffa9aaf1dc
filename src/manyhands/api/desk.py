"""What a server keeps while it serves: its models by name, how much it does now, that it closes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from manyhands.api.refusals import RETRY_AFTER_S, RequestRefused
from manyhands.api.serving import Serving
from manyhands.api.token_log import TokenTexts
from manyhands.errors import UserError
from manyhands.node.speaker import Prompt, Speaker

MOST_REQUESTS = 64
"""Requests for answers at a time; a swarm of this size is busy long before."""

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
        self._by_name = {speaker.name: speaker for speaker in serving.speakers}
        self._texts: dict[str, TokenTexts] = {}
        self._abilities = {name: _abilities(one) for name, one in self._by_name.items()}
        self._encoding = threading.Lock()

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

    async def ids(self, speaker: Speaker, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of a prompt, made beside the event loop: the peer's beats go on meanwhile.

        Raises UserError.
        """

        def encode() -> tuple[int, ...]:
            with self._encoding:  # a template renders one chat at a time
                return speaker.ids(prompt)

        return await asyncio.to_thread(encode)

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

    def named(self, prefix: str) -> str:
        """A name for an answer."""
        return f"{prefix}{self.serving.chance.getrandbits(96):024x}"


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
