"""From a request to pieces of text: opens a session, speaks, turns tokens into whole characters.

Ends at an end token, at a stop string (which is not part of the answer) or at the length asked for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from manyhands.domain.work import Sampling, Want
from manyhands.errors import ContextOverflow, UserError
from manyhands.node.generate import Draft, Token, no_draft, speak
from manyhands.node.model import Model
from manyhands.node.owner import Owner

Finish = Literal["", "stop", "length"]
""""" while it is being spoken; stop: an end token or stop string; length: as long as asked for."""


class TextStream(Protocol):
    """Token ids in, whole characters out."""

    def feed(self, ids: Sequence[int]) -> str:
        """The text that is certain now."""

    def finish(self) -> str:
        """The rest."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. Raises UserError for an empty prompt or a senseless length.

    An encoder-decoder reads the prompt; its answer has a `beginning` that is not shown.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    end_tokens: frozenset[int] = frozenset()
    want: Want = field(default_factory=Want)
    beginning: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompt:
            raise UserError("the prompt is empty; give at least one token")
        if self.max_tokens < 1:
            raise UserError(f"max_tokens is {self.max_tokens}; it must be 1 or more")
        if any(not text for text in self.stop):
            raise UserError("a stop string is empty; it would end every answer at once")


class StopStrings:
    """Lets text through, but holds back what may be the beginning of a stop string."""

    def __init__(self, stop: Sequence[str]) -> None:
        self.is_stopped = False
        self._stop = tuple(stop)
        self._held = ""

    def feed(self, text: str) -> str:
        """What may be shown now; nothing any more once a stop string was met."""
        if self.is_stopped:
            return ""
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.is_stopped = True
            return self._held[: min(found)]
        keep = max((self._overlap(stop) for stop in self._stop), default=0)
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(shown) :]
        return shown

    def finish(self) -> str:
        """What was held back, at the end of the answer."""
        return "" if self.is_stopped else self._held

    def _overlap(self, stop: str) -> int:
        """The longest beginning of `stop` that the held text ends with."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)


class Answer:
    """One answer while it is spoken and after. `pieces` may be run once."""

    def __init__(
        self,
        owner: Owner,
        model: Model,
        request: Request,
        text: TextStream | None,
        draft: Draft = no_draft,
        draft_tokens: int = 0,
    ) -> None:
        self.tokens: list[Token] = []
        self.finish: Finish = ""
        self.kernels: tuple[str, ...] = ()
        self.recovered_s: tuple[float, ...] = ()
        self._owner, self._model, self._request = owner, model, request
        self._text, self._draft, self._draft_tokens = text, draft, draft_tokens

    async def pieces(self) -> AsyncGenerator[str, None]:
        """Text as it becomes certain: one piece a token, empty while a character is not whole.

        Raises ContextOverflow when the prompt leaves no room, and what Session raises.
        """
        request = self._request
        context = self._owner.context(self._model, len(request.prompt))
        text = (*request.prompt, *request.beginning)
        room = context - len(text)
        if room < 1:
            raise ContextOverflow(
                f"the prompt has {len(request.prompt)} tokens and the context {context}; "
                "shorten the prompt"
            )
        limit = min(context, len(text) + request.max_tokens)
        stops = StopStrings(request.stop)
        session = await self._owner.open(
            self._model, request.sampling, len(request.prompt), limit, text
        )
        try:
            async for token in speak(
                session,
                text,
                min(request.max_tokens, room),
                end_tokens=request.end_tokens,
                want=request.want,
                draft=self._draft,
                draft_tokens=self._draft_tokens,
                held=session.length,
            ):
                self.tokens.append(token)
                self.kernels = session.kernels
                self.recovered_s = tuple(session.recovery.recovered_s)
                yield stops.feed(self._text.feed([token.id]) if self._text else "")
                if stops.is_stopped:
                    self.finish = "stop"
                    return
            yield stops.feed(self._text.finish() if self._text else "")
            yield stops.finish()
            is_long = len(self.tokens) >= min(request.max_tokens, room) and not stops.is_stopped
            self.finish = "length" if is_long else "stop"
        finally:
            self._owner.close(session)
