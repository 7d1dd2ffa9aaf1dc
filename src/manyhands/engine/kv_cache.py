"""Key/value memory of all sessions, under one byte budget that is checked before use.

Arrays are made by whoever allocates (numpy or torch), one pair a session and block:
keys [kv_heads, C, key_width], values [kv_heads, C, value_width], C tokens of capacity. Blocks with
a window keep every token for now, and the engine masks them: simple and true, not yet small. Knows
nothing of what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from manyhands.domain.ids import SessionId, short
from manyhands.errors import ContextOverflow, ResourceError, SessionUnknown, UserError

CHUNK_TOKENS = 64
GROWTH = 1.5


class Array(Protocol):
    """The little that numpy and torch arrays need to have in common here."""

    @property
    def shape(self) -> Sequence[int]:
        """Sides."""

    def __getitem__(self, key: Any, /) -> Any:
        """A view."""

    def __setitem__(self, key: Any, value: Any, /) -> None:
        """Copy into a view."""


A = TypeVar("A", bound=Array)


@dataclass(frozen=True, slots=True)
class BlockShape:
    """What one block keeps of one token: `heads` keys and as many values."""

    heads: int
    key_width: int
    value_width: int

    @property
    def elements(self) -> int:
        """Numbers a token."""
        return self.heads * (self.key_width + self.value_width)


@dataclass(slots=True)
class Memory(Generic[A]):
    """One session's memory: `blocks` holds a (keys, values) pair for each of its `shapes`.

    `capacity` tokens fit in every block; `held_bytes` is what all arrays take.
    """

    limit: int
    shapes: tuple[BlockShape, ...]
    blocks: list[tuple[A, A]]
    length: int = 0
    capacity: int = 0
    held_bytes: int = 0


class KvCache(Generic[A]):
    """All sessions' memories. Every method that raises has changed nothing.

    Bytes are counted by capacity, which is what is allocated. Memories grow block by block, so that
    only one block of one session exists twice for a moment; that moment is not counted.
    """

    def __init__(
        self,
        budget_bytes: int,
        element_bytes: int,
        allocate: Callable[[int, int, int], A],
    ) -> None:
        self._budget_bytes = budget_bytes
        self._element_bytes = element_bytes
        self._allocate = allocate
        self._memories: dict[SessionId, Memory[A]] = {}
        self._used_bytes = 0

    @property
    def element_bytes(self) -> int:
        """Bytes of one number."""
        return self._element_bytes

    def room(self) -> int:
        """Bytes still free."""
        return self._budget_bytes - self._used_bytes

    def open(
        self,
        session: SessionId,
        limit: int,
        shapes: Sequence[BlockShape],
        parent: SessionId | None = None,
        at: int = 0,
    ) -> None:
        """Begin a memory for at most `limit` tokens, empty or a copy of `parent`'s first `at`.

        The parent must have the same shapes. Raises UserError (open already, parent holds fewer),
        ContextOverflow (at > limit), SessionUnknown (no such parent), ResourceError.
        """
        if session in self._memories:
            raise UserError(f"session {short(session)} is open already; close it first")
        if limit < 1:
            raise UserError(f"a session needs a limit of 1 token or more, not {limit}")
        source = None if parent is None else self.memory(parent)
        held = 0 if source is None else source.length
        if not 0 <= at <= held:
            whom = "nothing" if parent is None else f"session {short(parent)}"
            raise UserError(
                f"cannot copy {at} tokens: {whom} holds {held}; ask for at most that many"
            )
        if at > limit:
            raise ContextOverflow(f"{at} tokens to copy are over the session's limit of {limit}")
        capacity, kept = min(_chunks(at), limit), tuple(shapes)
        self._need(capacity * self._token_bytes(kept))
        memory: Memory[A] = Memory(limit, kept, [self._pair(shape, 0) for shape in kept])
        if source is not None and at:
            try:
                self._enlarge(memory, capacity, source.blocks, at)
            except ResourceError:
                self._used_bytes -= memory.held_bytes
                raise
            memory.length = at
        self._memories[session] = memory

    def close(self, session: SessionId) -> None:
        """Free a session's memory; unknown sessions are no error."""
        memory = self._memories.pop(session, None)
        if memory is not None:
            self._used_bytes -= memory.held_bytes

    def memory(self, session: SessionId) -> Memory[A]:
        """A session's memory. Raises SessionUnknown."""
        memory = self._memories.get(session)
        if memory is None:
            raise SessionUnknown(f"session {short(session)} is not open here; open it first")
        return memory

    def truncate(self, session: SessionId, position: int) -> None:
        """Forget all from `position` on; capacity stays. Raises SessionUnknown, UserError."""
        memory = self.memory(session)
        if position < 0:
            raise UserError(f"cannot truncate at {position}; positions start at 0")
        memory.length = min(memory.length, position)

    def reserve(self, ends: Sequence[tuple[SessionId, int]]) -> None:
        """Make room for each session to hold `end` tokens: for all of them or, raising, for none.

        Grows by half in chunks of 64 tokens; when that is over the budget, by what is needed only.
        Raises SessionUnknown, ContextOverflow, ResourceError.
        """
        growing: list[tuple[Memory[A], int]] = []
        for session, end in ends:
            memory = self.memory(session)
            if end > memory.limit:
                raise ContextOverflow(
                    f"session {short(session)} would hold {end} tokens, its limit is "
                    f"{memory.limit}; open it with a larger limit or send less"
                )
            if end > memory.capacity:
                growing.append((memory, end))
        if not growing:
            return
        capacities = [
            min(_chunks(max(end, int(memory.capacity * GROWTH))), memory.limit)
            for memory, end in growing
        ]
        if self._growth_bytes(growing, capacities) > self.room():
            capacities = [min(_chunks(end), memory.limit) for memory, end in growing]
            self._need(self._growth_bytes(growing, capacities))
        for (memory, _), capacity in zip(growing, capacities, strict=True):
            self._enlarge(memory, capacity, memory.blocks, memory.length)

    def _growth_bytes(self, growing: list[tuple[Memory[A], int]], capacities: list[int]) -> int:
        return sum(
            (capacity - memory.capacity) * self._token_bytes(memory.shapes)
            for (memory, _), capacity in zip(growing, capacities, strict=True)
        )

    def _token_bytes(self, shapes: Sequence[BlockShape]) -> int:
        return self._element_bytes * sum(shape.elements for shape in shapes)

    def _need(self, needed_bytes: int) -> None:
        if needed_bytes > self.room():
            raise ResourceError(
                f"key/value memory needs {needed_bytes} bytes more, {self.room()} of "
                f"{self._budget_bytes} are free ({len(self._memories)} sessions open); end other "
                "answers, ask for fewer tokens, or raise kv_bytes (Settings(kv_bytes=…))"
            )

    def _pair(self, shape: BlockShape, capacity: int) -> tuple[A, A]:
        return (
            self._allocate(shape.heads, capacity, shape.key_width),
            self._allocate(shape.heads, capacity, shape.value_width),
        )

    def _enlarge(
        self, memory: Memory[A], capacity: int, source: list[tuple[A, A]], length: int
    ) -> None:
        """Give every block `capacity` tokens, holding the first `length` of `source`."""
        for place, shape in enumerate(memory.shapes):
            try:
                keys, values = self._pair(shape, capacity)
            except MemoryError as fault:
                raise ResourceError(
                    f"the system has no memory for {capacity * self._token_bytes(memory.shapes)} "
                    "bytes of keys and values though the budget has; lower kv_bytes or free memory"
                ) from fault
            if length:
                keys[:, :length] = source[place][0][:, :length]
                values[:, :length] = source[place][1][:, :length]
            added = capacity - memory.blocks[place][0].shape[1]
            memory.blocks[place] = (keys, values)
            memory.held_bytes += added * shape.elements * self._element_bytes
            self._used_bytes += added * shape.elements * self._element_bytes
        memory.capacity = capacity


def _chunks(tokens: int) -> int:
    return -(-tokens // CHUNK_TOKENS) * CHUNK_TOKENS
