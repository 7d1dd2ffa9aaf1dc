"""Key/value memory of all sessions: arrays that never move, in pages that are counted and shared.

A session's memory is a range of addresses as long as a session may get, one pair of arrays a block:
keys [kv_heads, C, key_width], values [kv_heads, C, value_width], C tokens. Only what was written
takes memory, so nothing is copied as a session grows, and attention reads each head in one piece.
A session that begins as another did shows that one's pages at the same places. Blocks with a window
keep every token for now, and the engine masks them: simple and true, not yet small. Knows nothing
of what the numbers mean.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from manyhands.domain.ids import SessionId, short
from manyhands.engine.page_table import PAGE_TOKENS, Page, PageTable, pages_of
from manyhands.engine.pages import PAGESIZE, RESERVES_FREELY, Range
from manyhands.errors import ContextOverflow, ResourceError, SessionUnknown, UserError

MOST_MAPPINGS = 20_000
"""Parts of other ranges that all sessions show; a process may have 65,530 mappings on Linux."""


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

View = Callable[[mmap.mmap, int, tuple[int, int, int]], A]
"""(buffer, offset in bytes, [heads, tokens, width]) -> the array there.

A width may be 0: then there is nothing in the buffer.
"""


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


@dataclass(frozen=True, slots=True)
class _Lane:
    """Where one head's keys or values lie in a range: from `first` on, `row_bytes` a token."""

    first: int
    row_bytes: int


@dataclass(slots=True)
class Memory(Generic[A]):
    """One session's memory: `blocks` holds a (keys, values) pair for each of its `shapes`.

    `places` [blocks, 6] says where those lie: of keys, then of values, address, bytes from head to
    head, bytes from token to token. `pages` are what it may fill, `home` is the range its own pages
    are in, `mappings` how many parts of other ranges are shown there.
    """

    limit: int
    shapes: tuple[BlockShape, ...]
    home: Range
    lanes: Sequence[_Lane]
    blocks: list[tuple[A, A]]
    places: NDArray[np.int64]
    pages: list[Page[Range]]
    mappings: int = 0
    length: int = 0


class KvCache(Generic[A]):
    """All sessions' memories. Every method that raises has changed nothing.

    `context` is the most tokens any session may hold.
    """

    def __init__(self, budget_bytes: int, element_bytes: int, context: int, view: View[A]) -> None:
        self._table: PageTable[Range] = PageTable(budget_bytes)
        self._element_bytes = element_bytes
        self._context = context
        self._view = view
        self._memories: dict[SessionId, Memory[A]] = {}
        self._mappings = 0
        self._known_lanes: dict[tuple[tuple[BlockShape, ...], int], Sequence[_Lane]] = {}

    @property
    def element_bytes(self) -> int:
        """Bytes of one number."""
        return self._element_bytes

    def room(self) -> int:
        """Bytes still free."""
        return self._table.room()

    def open(
        self,
        session: SessionId,
        limit: int,
        shapes: Sequence[BlockShape],
        parent: SessionId | None = None,
        at: int = 0,
    ) -> None:
        """Begin a memory for `limit` tokens, empty or with `parent`'s first `at`, not copied.

        The parent must have the same shapes. Raises UserError (open already, parent holds fewer),
        ContextOverflow (at > limit), SessionUnknown (no such parent), MemoryFull, ResourceError.
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
                f"cannot share {at} tokens: {whom} holds {held}; ask for at most that many"
            )
        if at > limit:
            raise ContextOverflow(f"{at} tokens to share are over the session's limit of {limit}")
        self._memories[session] = self._begun(limit, tuple(shapes), source, at)

    def __deepcopy__(self, seen: dict[int, Any]) -> KvCache[A]:
        """Every session's numbers as they are now; what sessions shared, the copy holds twice."""
        budget_bytes = self._table.budget_bytes
        twin = KvCache(budget_bytes, self._element_bytes, self._context, self._view)
        seen[id(self)] = twin
        for session, memory in self._memories.items():
            twin.open(session, memory.limit, memory.shapes)
            copied, length = twin.memory(session), memory.length
            for ours, theirs in zip(memory.blocks, copied.blocks, strict=True):
                for source, target in zip(ours, theirs, strict=True):
                    target[:, :length] = source[:, :length]
            copied.length = length
        return twin

    def close(self, session: SessionId) -> None:
        """Free a session's memory; unknown sessions are no error."""
        memory = self._memories.pop(session, None)
        if memory is not None:
            self._end(memory)

    def trim(self, session: SessionId) -> None:
        """Give back what the session has beyond its length, which becomes its limit."""
        memory = self.memory(session)
        count = pages_of(memory.length)
        memory.limit = memory.length
        beyond, memory.pages = memory.pages[count:], memory.pages[:count]
        self._drop(self._table.take_back(beyond), memory.lanes)

    def memory(self, session: SessionId) -> Memory[A]:
        """A session's memory. Raises SessionUnknown."""
        memory = self._memories.get(session)
        if memory is None:
            raise SessionUnknown(f"session {short(session)} is not open here; open it first")
        return memory

    def truncate(self, session: SessionId, position: int) -> None:
        """Forget all from `position` on; pages stay. Raises SessionUnknown, UserError."""
        memory = self.memory(session)
        if position < 0:
            raise UserError(f"cannot truncate at {position}; positions start at 0")
        memory.length = min(memory.length, position)

    def write_at(self, session: SessionId, position: int, end: int) -> None:
        """Make positions [position, end) the session's own to write: shared pages are replaced.

        Raises SessionUnknown, ContextOverflow; MemoryFull and ResourceError only where the session
        writes over what it shares.
        """
        memory = self.memory(session)
        if end > memory.limit:
            raise ContextOverflow(
                f"session {short(session)} would hold {end} tokens, its limit is {memory.limit}; "
                "open it with a larger limit or send less"
            )
        touched = memory.pages[position // PAGE_TOKENS :]
        if any(page.users > 1 or page.home is not memory.home for page in touched):
            fresh = self._begun(memory.limit, memory.shapes, memory, position)
            self._end(memory)
            self._memories[session] = fresh

    def _begun(
        self, limit: int, shapes: tuple[BlockShape, ...], source: Memory[A] | None, at: int
    ) -> Memory[A]:
        """A memory with the first `at` tokens of `source`: whole pages are shown, the rest copied.

        Once there is room for all of it, nothing fails but the system.
        """
        page_bytes = PAGE_TOKENS * self._element_bytes * sum(shape.elements for shape in shapes)
        tokens = limit
        if RESERVES_FREELY:  # whole pages of the system's for each head, whatever its width
            unit = PAGESIZE // self._element_bytes
            tokens = -(-self._context // unit) * unit
        lanes = self._lanes(shapes, tokens)
        shared, mappings = self._shareable(source, at, len(lanes))
        self._table.check(limit, page_bytes, len(shared))
        try:
            home = Range(max(1, sum(tokens * lane.row_bytes for lane in lanes)))
            if source is not None and at:
                _fill(home, lanes, source, shared, at)
        except MemoryError as fault:
            raise ResourceError(
                f"the system has no memory for {limit} tokens of keys and values though the budget "
                f"has ({fault}); lower kv_bytes or free memory"
            ) from fault
        blocks = self._blocks(home, shapes, tokens)
        places = self._places(home, shapes, tokens)
        pages = self._table.give(limit, page_bytes, home, shared)
        self._mappings += mappings
        return Memory(limit, shapes, home, lanes, blocks, places, pages, mappings, at)

    def _lanes(self, shapes: tuple[BlockShape, ...], tokens: int) -> Sequence[_Lane]:
        """Block after block its keys head by head, then its values; made once for all sessions."""
        known = self._known_lanes.get((shapes, tokens))
        if known is not None:
            return known
        lanes: list[_Lane] = []
        end = 0
        for shape in shapes:
            for width in (shape.key_width, shape.value_width):
                for _ in range(shape.heads):
                    lanes.append(_Lane(end, width * self._element_bytes))
                    end += tokens * width * self._element_bytes
        self._known_lanes[shapes, tokens] = lanes
        return lanes

    def _blocks(self, home: Range, shapes: Sequence[BlockShape], tokens: int) -> list[tuple[A, A]]:
        blocks: list[tuple[A, A]] = []
        first = 0
        for shape in shapes:
            pair: list[A] = []
            for width in (shape.key_width, shape.value_width):
                pair.append(self._view(home.buffer, first, (shape.heads, tokens, width)))
                first += shape.heads * tokens * width * self._element_bytes
            blocks.append((pair[0], pair[1]))
        return blocks

    def _places(self, home: Range, shapes: Sequence[BlockShape], tokens: int) -> NDArray[np.int64]:
        places, first = np.empty((len(shapes), 2, 3), np.int64), home.address
        for block, shape in enumerate(shapes):
            for side, width in enumerate((shape.key_width, shape.value_width)):
                row_bytes = width * self._element_bytes
                places[block, side] = first, tokens * row_bytes, row_bytes
                first += shape.heads * tokens * row_bytes
        return places.reshape(-1, 6)

    def _shareable(
        self, source: Memory[A] | None, at: int, lanes: int
    ) -> tuple[list[Page[Range]], int]:
        """The pages of `source` below `at` that can be shown, and how many mappings that takes."""
        pages = [] if source is None else source.pages[: at // PAGE_TOKENS]
        mappings = 2 * lanes * len(_runs(pages))  # each may cut another one in two
        can_be_shown = all(page.home.can_be_shown for page in pages)
        if not can_be_shown or self._mappings + mappings > MOST_MAPPINGS:
            return [], 0
        return pages, mappings

    def _end(self, memory: Memory[A]) -> None:
        """A range that nobody reads any more goes back as a whole, with its last array."""
        self._mappings -= memory.mappings
        free = self._table.take_back(memory.pages)
        if all(page.users == 0 for page in memory.pages if page.home is memory.home):
            free = [page for page in free if page.home is not memory.home]
        self._drop(free, memory.lanes)

    def _drop(self, free: Iterable[Page[Range]], lanes: Sequence[_Lane]) -> None:
        """Free pages of a range that lives on, for others read a part of it, go back at once."""
        for home, first, last in _runs(free):
            for lane in lanes:
                row_bytes = PAGE_TOKENS * lane.row_bytes
                home.drop(lane.first + first * row_bytes, lane.first + last * row_bytes)


def _runs(pages: Iterable[Page[Range]]) -> list[tuple[Range, int, int]]:
    """Neighbouring pages of one range as (range, first, last)."""
    runs: list[tuple[Range, int, int]] = []
    for page in pages:
        if runs and runs[-1][0] is page.home and runs[-1][2] == page.number:
            runs[-1] = (page.home, runs[-1][1], page.number + 1)
        else:
            runs.append((page.home, page.number, page.number + 1))
    return runs


def _fill(
    home: Range,
    lanes: Sequence[_Lane],
    source: Memory[A],
    shared: Sequence[Page[Range]],
    at: int,
) -> None:
    """Let `home` hold the first `at` tokens of `source`, `shared` pages without a copy."""
    mine, theirs = memoryview(home.buffer), memoryview(source.home.buffer)
    runs = _runs(shared)
    for lane, origin in zip(lanes, source.lanes, strict=True):
        row_bytes = PAGE_TOKENS * lane.row_bytes
        shown = [
            home.show(other, lane.first + first * row_bytes, lane.first + last * row_bytes)
            for other, first, last in runs
        ]
        done, end = lane.first, lane.first + at * lane.row_bytes
        for begin, until in (*shown, (end, end)):
            there = origin.first + done - lane.first
            mine[done:begin] = theirs[there : there + begin - done]
            done = until
