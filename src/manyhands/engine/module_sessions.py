"""The sessions of a transformers engine: their memories, limits and bytes under one budget.

Bytes are counted by what the model's spec says a token and a session keep, before anything is
computed. Knows nothing of models at work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from manyhands.domain.ids import SessionId, short
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.sizes import span_kv_elements, span_state_elements
from manyhands.domain.span import Span
from manyhands.engine.module_memory import KEPT_STATES, Memory, memory_of
from manyhands.errors import ContextOverflow, ResourceError, SessionUnknown, UserError


@dataclass(slots=True)
class Session:
    """One session: which layers it runs, what it may hold, what it holds."""

    span: Span
    limit: int
    memory: Memory
    reserved_bytes: int = 0


class Sessions:
    """Sessions by name. A method that raises has changed nothing, but where it says so."""

    def __init__(self, spec: ModelSpec, config: Any, element_bytes: int, budget_bytes: int) -> None:
        self._spec, self._config = spec, config
        self._element_bytes, self._budget_bytes = element_bytes, budget_bytes
        self._used_bytes = 0
        self._sessions: dict[SessionId, Session] = {}

    def room(self) -> int:
        """Bytes still free."""
        return self._budget_bytes - self._used_bytes

    def open(
        self, name: SessionId, span: Span, limit: int, parent: SessionId | None, at: int
    ) -> None:
        """Begin a memory for at most `limit` tokens: empty, or `parent`'s first `at` tokens.

        Raises UserError, ContextOverflow, SessionUnknown, ResourceError.
        """
        if name in self._sessions:
            raise UserError(f"session {short(name)} is open already; close it first")
        if not max(1, at) <= limit <= self._spec.context:
            raise ContextOverflow(
                f"a session of {limit} tokens for {at} in it; the model has a context of "
                f"{self._spec.context}"
            )
        memory: Memory | None = None
        if parent is not None:
            source = self.named(parent)
            if source.span == span and 0 <= at <= source.memory.length:
                memory = source.memory.copy(at)
        elif not at:
            memory = memory_of(self._config, self._spec.source > 0)
        if memory is None:
            whom = "nobody" if parent is None else f"session {short(parent)}"
            raise UserError(
                f"session {short(name)} over {span} cannot share {at} tokens of {whom}: they are "
                "not held there, not kept, or of another span; open it empty"
            )
        opened = Session(span, limit, memory)
        self.reserve(opened, at)
        self._sessions[name] = opened

    def close(self, name: SessionId) -> None:
        """Free a session's memory; unknown sessions are no error."""
        closed = self._sessions.pop(name, None)
        if closed is not None:
            self._used_bytes -= closed.reserved_bytes

    def named(self, name: SessionId) -> Session:
        """A session. Raises SessionUnknown."""
        found = self._sessions.get(name)
        if found is None:
            raise SessionUnknown(f"session {short(name)} is not open here; open it first")
        return found

    def cut(self, name: SessionId, position: int) -> None:
        """Forget all from `position` on.

        A recurrent state that is kept no more cannot be gone back to, nor a part of a source: then
        the session is closed and SessionUnknown raised, so that its owner opens it anew and sends
        its tokens again.
        """
        if position < 0:
            raise UserError(f"cannot truncate at {position}; positions start at 0")
        if not self.named(name).memory.cut(position):
            self.close(name)
            raise SessionUnknown(
                f"session {short(name)} cannot go back to {position} tokens: the state there is "
                "not kept; open it anew"
            )

    def trim(self, name: SessionId) -> None:
        """Give back what is reserved beyond the session's length, which becomes its limit."""
        session = self.named(name)
        session.limit = max(1, session.memory.length)
        surplus = session.reserved_bytes - self._bytes(session, session.memory.length)
        session.reserved_bytes -= surplus
        self._used_bytes -= surplus

    def check_room(self, ends: Iterable[tuple[SessionId, int]]) -> None:
        """Raise ResourceError unless all these sessions can hold so many tokens."""
        self._check(sum(self._lacking(self.named(name), end) for name, end in ends))

    def reserve(self, session: Session, tokens: int) -> None:
        """Count the bytes of `tokens` tokens. Raises ResourceError."""
        added = self._lacking(session, tokens)
        self._check(added)
        session.reserved_bytes += added
        self._used_bytes += added

    def _lacking(self, session: Session, tokens: int) -> int:
        return max(0, self._bytes(session, tokens) - session.reserved_bytes)

    def _bytes(self, session: Session, tokens: int) -> int:
        state = span_state_elements(self._spec, session.span) * (1 + KEPT_STATES)
        numbers = span_kv_elements(self._spec, session.span) * tokens + state
        return numbers * self._element_bytes

    def _check(self, added_bytes: int) -> None:
        if added_bytes > self.room():
            raise ResourceError(
                f"key/value memory needs {added_bytes} bytes more, {self.room()} of "
                f"{self._budget_bytes} are free ({len(self._sessions)} sessions open); end other "
                "answers, ask for fewer tokens, or raise kv_bytes (Settings(kv_bytes=…))"
            )
