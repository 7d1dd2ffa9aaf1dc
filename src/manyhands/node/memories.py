"""All stage memories of one peer, by session and span, and the newest epoch of each session.

Knows nothing of links.
"""

from __future__ import annotations

from manyhands.domain.ids import SessionId
from manyhands.domain.span import Span
from manyhands.engine.engine import Engine
from manyhands.node.stage import StageMemory

Key = tuple[SessionId, Span]


class Memories:
    """StageMemory by (session, span)."""

    def __init__(self) -> None:
        self.by_key: dict[Key, StageMemory] = {}
        self._engines: dict[Key, Engine] = {}
        self._newest: dict[SessionId, int] = {}

    def add(self, memory: StageMemory, engine: Engine) -> None:
        """Keep a memory, and the engine that holds its keys and values."""
        self.by_key[memory.session, memory.span] = memory
        self._engines[memory.session, memory.span] = engine

    def engine(self, memory: StageMemory) -> Engine:
        """The engine this memory was opened in: another that covers its span knows it not."""
        return self._engines[memory.session, memory.span]

    def remove(self, memory: StageMemory) -> None:
        """Forget a memory."""
        self.by_key.pop((memory.session, memory.span), None)
        self._engines.pop((memory.session, memory.span), None)
        if not self.of(memory.session):
            self._newest.pop(memory.session, None)

    def all(self) -> list[StageMemory]:
        """Every memory, oldest first."""
        return list(self.by_key.values())

    def of(self, session: SessionId) -> list[StageMemory]:
        """The memories of one session: one a span."""
        return [memory for (name, _), memory in self.by_key.items() if name == session]

    def at(self, session: SessionId, stage: int) -> StageMemory | None:
        """The memory that stands at this place of its route."""
        return next((memory for memory in self.of(session) if memory.stage == stage), None)

    def journal_bytes(self) -> int:
        """Bytes of all journals together."""
        return sum(memory.journal.size_bytes for memory in self.by_key.values())

    def announce(self, session: SessionId, epoch: int) -> None:
        """An epoch has begun, though the queue may not have come to it yet."""
        self._newest[session] = max(epoch, self._newest.get(session, 0))

    def newest(self, session: SessionId) -> int:
        """The newest epoch that was announced."""
        return self._newest.get(session, 0)
