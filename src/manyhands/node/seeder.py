"""Gives pieces of the models on this disk to peers that ask: one block for one question, in turns.

Whoever asks decides how much is on its way, so nothing piles up here and steps are held up by a
block at most. Knows nothing of spans.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from manyhands.domain.ids import ModelId, PeerId, short
from manyhands.domain.manifest import BLOCK_BYTES, ManifestId
from manyhands.domain.messages import (
    AskBlock,
    AskPieces,
    Block,
    ManifestTold,
    Message,
    NotGiven,
    PiecesHad,
)
from manyhands.engine.compute import Compute
from manyhands.errors import ManyhandsError, MemoryFull, NotServed
from manyhands.node.allowance import Allowance
from manyhands.store.pieces import Shelf

log = logging.getLogger(__name__)

MOST_ASKED = 64
"""Questions of one peer that may wait here; one that keeps the rules asks far fewer at a time."""

READ_AT_A_TIME = 8
"""Blocks of one peer that are read in one go; then it is the next one's turn."""

READ_AHEAD = 2
"""So many times that much may be read and not sent yet."""

Send = Callable[[PeerId, Message], None]
_Read = tuple[PeerId, list[AskBlock], list[bytes]]


class Seeder:
    """Use: `offer` shelves, hand it messages, keep `run` running."""

    def __init__(self, disk: Compute, send: Send, allowance: Allowance) -> None:
        self._disk, self._send, self._allowance = disk, send, allowance
        self._paused: ManyhandsError | None = None
        self._shelves: dict[ModelId, Shelf] = {}
        self._known: dict[ManifestId, Shelf] = {}
        self._names: dict[ModelId, ManifestId] = {}
        self._wanting: dict[ModelId, dict[PeerId, AskPieces]] = {}
        self._asked: dict[PeerId, deque[AskBlock]] = {}
        self._something = asyncio.Event()
        self._read: asyncio.Queue[_Read] = asyncio.Queue(READ_AHEAD)
        self.given_bytes = 0

    def offer(self, shelf: Shelf) -> None:
        """Give these pieces from now on, in place of others of that model."""
        old = self._names.pop(shelf.model, None)
        if old is not None:
            self._known.pop(old, None)
        self._shelves[shelf.model] = shelf

    def receive(self, source: PeerId, message: AskPieces | AskBlock) -> None:
        """Somebody asks."""
        if isinstance(message, AskPieces):
            if self._paused is None:
                self._asked_pieces(source, message)
            else:
                self._send(source, NotGiven(message.model, BUSY, str(self._paused)))
        elif self._paused is not None:
            self._refuse(source, message.manifest, self._paused)
        elif message.manifest not in self._known:
            self._refuse(source, message.manifest, NotServed("this manifest is not known here"))
        else:
            queue = self._asked.setdefault(source, deque())
            if len(queue) < MOST_ASKED:
                queue.append(message)
                self._something.set()
            else:
                why = MemoryFull(f"{MOST_ASKED} questions wait already; ask fewer at a time")
                self._refuse(source, message.manifest, why)

    def pause(self, why: ManyhandsError) -> None:
        """Hash, read and send nothing until `resume`; who asks is told to ask others, or later."""
        self._paused = why
        for source, queue in self._asked.items():
            self._refuse(source, queue[0].manifest, why)
        for model, wanting in self._wanting.items():
            for source in wanting:
                self._send(source, NotGiven(model, BUSY, str(why)))
        self._asked.clear()
        self._wanting.clear()

    def resume(self) -> None:
        """Answer again."""
        self._paused = None

    def link_lost(self, peer: PeerId) -> None:
        """Nobody waits there any more."""
        self._asked.pop(peer, None)
        for wanting in self._wanting.values():
            wanting.pop(peer, None)

    async def run(self) -> None:
        """Answer until cancelled: one task reads while the other sends what was read."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send_what_is_read())
            while True:
                await self._something.wait()
                self._something.clear()
                while self._asked or self._wanting:
                    await self._read_some()
                    await self._prepare_some()

    def _asked_pieces(self, source: PeerId, question: AskPieces) -> None:
        if question.model not in self._shelves:
            why = NotServed(f"no files of model {short(question.model)} are here to give")
            self._refuse(source, question.model, why)
            return
        self._wanting.setdefault(question.model, {})[source] = question
        if question.model not in self._names:  # so that it knows why nothing comes
            self._send(source, NotGiven(question.model, BUSY, "the files are being hashed"))
        self._something.set()

    async def _send_what_is_read(self) -> None:
        """Block by block: whatever else is to be sent goes between them."""
        while True:
            source, some, read = await self._read.get()
            for one, data in zip(some, read, strict=True):
                await self._allowance.to_send()
                if self._paused is not None:
                    break
                self._send(source, Block(one.manifest, one.piece, one.first, data))
                self.given_bytes += len(data)
                await asyncio.sleep(0)

    async def _read_some(self) -> None:
        """A few blocks for whoever has waited longest."""
        source = next(iter(self._asked), None)
        if source is None:
            return
        queue = self._asked.pop(source)
        name = queue[0].manifest
        shelf = self._known.get(name)
        some: list[AskBlock] = []
        while queue and len(some) < READ_AT_A_TIME and queue[0].manifest == name:
            some.append(queue.popleft())
        if queue:
            self._asked[source] = queue  # behind the others
        if shelf is None:
            return
        try:
            read = await self._disk.run(lambda: [_read(shelf, one) for one in some], 0.0)
        except ManyhandsError as error:
            self._refuse(source, name, error)
            return
        await self._read.put((source, some, read))

    async def _prepare_some(self) -> None:
        """Some of the hashing that is due, then the answers."""
        model = next(iter(self._wanting), None)
        if model is None:
            return
        shelf = self._shelves[model]
        try:
            if not await self._disk.run(shelf.prepare, 0.0):
                return
            if model not in self._names:
                name = await self._disk.run(lambda: shelf.manifest.digest(), 0.0)
                self._names[model], self._known[name] = name, shelf
                log.info("the files of model %s are manifest %s", short(model), short(name))
            runs = await self._disk.run(shelf.runs, 0.0)
        except ManyhandsError as error:
            for source in self._wanting.pop(model):
                self._refuse(source, model, error)
            return
        name = self._names[model]
        for source, question in self._wanting.pop(model).items():
            try:
                if question.known != name:
                    self._send(source, ManifestTold(shelf.manifest, shelf.origin))
                self._send(source, PiecesHad(model, name, runs))
            except ManyhandsError as error:  # a manifest over the cap of a frame
                self._refuse(source, model, error)

    def _refuse(self, source: PeerId, about: str, why: ManyhandsError) -> None:
        self._send(source, NotGiven(about, why.code, str(why)))


BUSY = "busy"
"""The code of a NotGiven that means: later."""


def _read(shelf: Shelf, one: AskBlock) -> bytes:
    return shelf.read(one.piece, one.first, min(one.last, one.first + BLOCK_BYTES))
