"""All stage memories of one peer, by session and span, and the newest epoch of each session.

Sessions that ended are kept for a while, so that others may begin as they did: the one used longest
ago goes first, and all of them before anybody is refused. Knows nothing of links.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from manyhands.domain.ids import PeerId, SessionId
from manyhands.domain.span import Span
from manyhands.engine.engine import Engine
from manyhands.node.stage import StageMemory

Key = tuple[SessionId, Span]


@dataclass(frozen=True, slots=True)
class Kept:
    """The memory of a session that has ended, until `until_s`."""

    memory: StageMemory
    engine: Engine
    until_s: float


class Memories:
    """StageMemory by (session, span); `discarded` are those an engine is still to be freed of."""

    def __init__(self) -> None:
        self.by_key: dict[Key, StageMemory] = {}
        self._engines: dict[Key, Engine] = {}
        self._newest: dict[SessionId, int] = {}
        self._kept: dict[Key, Kept] = {}
        self.discarded: list[Kept] = []

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

    def keep(self, memory: StageMemory, until_s: float) -> None:
        """Its session has ended: nothing finds it any more but `kept`."""
        key = memory.session, memory.span
        self._kept[key] = Kept(memory, self._engines[key], until_s)
        self.remove(memory)

    def beginning(self, session: SessionId, span: Span, owner: PeerId) -> Kept | None:
        """A memory of this owner, live or kept, that another session may begin with."""
        key = session, span
        live = self.by_key.get(key)
        if live is not None:
            found = Kept(live, self._engines[key], inf)
        elif key in self._kept:
            found = self._kept[key] = self._kept.pop(key)  # used now: it is the last to go
        else:
            return None
        return found if found.memory.owner == owner else None

    def discard(self, session: SessionId, span: Span) -> None:
        """Keep this one no longer."""
        if (session, span) in self._kept:
            self.discarded.append(self._kept.pop((session, span)))

    def discard_oldest(self, engine: Engine | None = None) -> bool:
        """Keep one fewer (of this engine): the one used longest ago; False when there is none."""
        for (session, span), kept in self._kept.items():
            if engine is None or kept.engine is engine:
                self.discard(session, span)
                return True
        return False

    def discard_expired(self, now_s: float) -> None:
        """Keep none longer than it may be kept."""
        for (session, span), kept in list(self._kept.items()):
            if kept.until_s <= now_s:
                self.discard(session, span)

    def discard_of(self, engine: Engine) -> None:
        """Keep nothing in this engine any longer."""
        while self.discard_oldest(engine):
            pass

    def users(self, engine: Engine) -> int:
        """How many live memories this engine holds."""
        return sum(held is engine for held in self._engines.values())

    def kept(self) -> list[StageMemory]:
        """The memories of ended sessions, the one used longest ago first."""
        return [kept.memory for kept in self._kept.values()]

    def journal_bytes_at_most(self) -> int:
        """Bytes of all journals, shared pages counted wherever they are: quick to tell."""
        return sum(memory.journal.size_bytes for memory in (*self.by_key.values(), *self.kept()))

    def journal_bytes(self) -> int:
        """Bytes of all journals together, shared pages counted once."""
        memories = (*self.by_key.values(), *self.kept())
        pages = {id(page): len(page) for memory in memories for page in memory.journal.pages}
        return sum(pages.values())

    def announce(self, session: SessionId, epoch: int) -> None:
        """An epoch has begun, though the queue may not have come to it yet."""
        self._newest[session] = max(epoch, self._newest.get(session, 0))

    def newest(self, session: SessionId) -> int:
        """The newest epoch that was announced."""
        return self._newest.get(session, 0)
