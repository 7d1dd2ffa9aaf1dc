"""Gets a model's files, or a span's part of them, from peers that have them.

First what the manifest is, then the pieces. Knows nothing of engines.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from manyhands.domain.ids import ModelId, PeerId, short
from manyhands.domain.manifest import ManifestId, Piece, pieces_in
from manyhands.domain.messages import AskPieces, Block, ManifestTold, Message, NotGiven, PiecesHad
from manyhands.domain.settings import Settings
from manyhands.engine.compute import Compute
from manyhands.errors import DeadlinePassed, ManyhandsError, PeerLost
from manyhands.node.directory import Directory
from manyhands.node.fetching import ASK_AGAIN_S, MOST_BUSY_S, Fetching
from manyhands.node.peers import Clock
from manyhands.node.seeder import BUSY
from manyhands.store.fetched import FetchedFolder

log = logging.getLogger(__name__)

MOST_ASKED_PEERS = 64
LOCK_EVERY_S = 0.2

Elsewhere = Callable[[str, Piece], Awaitable[bytes]]
"""The bytes of a piece from its origin, such as the hub. Raises CheckpointError."""


@dataclass(slots=True)
class _Inquiry:
    """What peers said when they were asked for a model's manifest."""

    manifests: dict[PeerId, ManifestTold] = field(default_factory=dict)
    refusals: dict[PeerId, str] = field(default_factory=dict)
    heard: asyncio.Event = field(default_factory=asyncio.Event)


class Fetcher:
    """One peer's fetches; each writes to a folder of its own."""

    def __init__(
        self,
        me: PeerId,
        directory: Directory,
        disk: Compute,
        clock: Clock,
        settings: Settings,
        send: Callable[[PeerId, Message], None],
    ) -> None:
        self._me, self._directory, self._send = me, directory, send
        self.disk, self._clock, self._settings = disk, clock, settings
        self.elsewhere: Elsewhere | None = None  # asked for what nobody here gives
        self._inquiries: dict[ModelId, _Inquiry] = {}
        self._fetches: dict[ManifestId, Fetching] = {}

    def receive(self, source: PeerId, message: ManifestTold | PiecesHad | Block | NotGiven) -> None:
        """An answer; what nobody asked for is dropped."""
        match message:
            case Block():
                fetching = self._fetches.get(message.manifest)
                if fetching is not None:
                    fetching.block(source, message)
            case PiecesHad():
                self._told_pieces(source, message)
            case ManifestTold():
                inquiry = self._inquiries.get(message.manifest.model)
                if inquiry is not None:
                    inquiry.manifests[source] = message
                    inquiry.heard.set()
            case NotGiven():
                self._refused(source, message)

    def link_lost(self, peer: PeerId) -> None:
        """What was asked there does not come."""
        for fetching in self._fetches.values():
            fetching.lost(peer)

    async def manifest(self, model: ModelId) -> ManifestTold:
        """What the peers here say the model's files are; of several the one most of them say.

        Raises PeerLost when nobody has the files, DeadlinePassed when nobody says for
        `fetch_wait_s`.
        """
        inquiry = self._inquiries[model] = _Inquiry()
        try:
            return await self._agreed(model, inquiry)
        finally:
            del self._inquiries[model]

    async def fetch(
        self,
        folder: FetchedFolder,
        numbers: Iterable[int],
        told: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Have these pieces in `folder`; `told` hears the bytes of each that comes.

        Raises ResourceError before anything is written when the disk or the budget is too small,
        and what `Fetching.run` raises. What has come is kept, whatever happens.
        """
        wanted = frozenset(numbers)
        if await self.disk.run(lambda: folder.had >= wanted, 0.0):
            return
        await self._locked(folder)
        try:
            budget = self._settings.fetched_bytes
            await self.disk.run(lambda: folder.check_room(wanted, budget), 0.0)
            name = await self.disk.run(folder.manifest.digest, 0.0)
            left = await self.disk.run(lambda: wanted - folder.had, 0.0)
            await self._fetch(folder, name, left, told)
        finally:
            with contextlib.suppress(ManyhandsError):  # the disk's thread may be closed by now
                await self.disk.run(folder.release, 0.0)

    async def _locked(self, folder: FetchedFolder) -> None:
        """Be the one process that fetches into `folder`; what another has fetched is ours too."""
        is_told = False
        while True:
            if await self.disk.run(folder.try_lock, 0.0):
                return
            if not is_told:
                log.info("another process fetches into %s; waiting for it", folder.folder)
            is_told = True
            await asyncio.sleep(LOCK_EVERY_S)

    async def _fetch(
        self,
        folder: FetchedFolder,
        name: ManifestId,
        left: Iterable[int],
        told: Callable[[int], None],
    ) -> None:
        def look() -> None:
            self._ask(folder.model, name, fetching.lacks)

        fetching = Fetching(
            folder,
            name,
            left,
            self.disk,
            self._clock,
            self._settings,
            self._send,
            look,
            told,
        )
        elsewhere, origin = self.elsewhere, folder.origin
        if elsewhere is not None and origin:
            fetching.elsewhere = lambda piece: elsewhere(origin, piece)
        self._fetches[name] = fetching
        try:
            await fetching.run()
        finally:
            del self._fetches[name]

    def _others(self) -> list[PeerId]:
        known = [peer for peer in self._directory.swarm.peers if peer != self._me]
        return known[:MOST_ASKED_PEERS]

    def _ask(self, model: ModelId, known: str, is_due: Callable[[PeerId], bool]) -> None:
        for peer in self._others():
            if is_due(peer):
                self._send(peer, AskPieces(model, known))

    async def _agreed(self, model: ModelId, inquiry: _Inquiry) -> ManifestTold:
        began_s = self._clock()
        first_s: float | None = None
        due_s = began_s
        while True:
            if self._clock() >= due_s:  # not for each answer that comes
                due_s = self._clock() + ASK_AGAIN_S
                self._ask(model, "", lambda peer: peer not in inquiry.manifests)
            inquiry.heard.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due_s):
                    await inquiry.heard.wait()
            now_s = self._clock()
            first_s = now_s if inquiry.manifests and first_s is None else first_s
            silent = [
                peer
                for peer in self._others()
                if peer not in inquiry.manifests and inquiry.refusals.get(peer, BUSY) == BUSY
            ]
            if first_s is not None and (not silent or now_s - first_s > ASK_AGAIN_S):
                return await self._most_said(model, inquiry)
            is_busy = any(inquiry.refusals.get(peer) == BUSY for peer in self._others())
            if now_s - began_s > (MOST_BUSY_S if is_busy else self._settings.fetch_wait_s):
                raise self._nobody_has(model, inquiry)

    def _nobody_has(self, model: ModelId, inquiry: _Inquiry) -> ManyhandsError:
        asked = len(self._others())
        if asked and len(inquiry.refusals) < asked:
            return DeadlinePassed(
                f"of {asked} peers {len(inquiry.refusals)} have no files of model {short(model)} "
                f"to give, and the others did not say within {self._settings.fetch_wait_s:.0f} s"
            )
        return PeerLost(
            f"none of the {asked} peers here has the files of model {short(model)} to give; name "
            "the folder with --model FOLDER, or let a device join that has it"
        )

    async def _most_said(self, model: ModelId, inquiry: _Inquiry) -> ManifestTold:
        """The manifest that most peers say, of equals the one that was said first."""
        names: dict[PeerId, ManifestId] = {}
        for peer, told in tuple(inquiry.manifests.items()):
            names[peer] = await self.disk.run(told.manifest.digest, 0.0)
        counts = Counter(names.values())
        best = max(counts, key=counts.__getitem__)
        for peer, name in names.items():
            if name != best:
                log.warning(
                    "peer %s has other files of model %s and is not asked",
                    short(peer),
                    short(model),
                )
        return next(inquiry.manifests[peer] for peer, name in names.items() if name == best)

    def _told_pieces(self, source: PeerId, message: PiecesHad) -> None:
        fetching = self._fetches.get(message.manifest)
        if fetching is not None:
            fetching.give(source, pieces_in(message.had, len(fetching.table)))

    def _refused(self, source: PeerId, message: NotGiven) -> None:
        inquiry = self._inquiries.get(ModelId(message.about))
        if inquiry is not None:
            inquiry.refusals[source] = message.code
            inquiry.heard.set()
        if message.code == BUSY:
            for one in self._fetches.values():
                if one.folder.model == message.about:
                    one.wait()
        fetching = self._fetches.get(ManifestId(message.about))
        if fetching is not None:
            log.info("peer %s gives no more: %s", short(source), message.message)
            fetching.lost(source)
