"""Who is here and holds what: signed, expiring records, spread from neighbour to neighbour.

The newest sequence wins, and a record is believed only for its signer. Knows nothing of sessions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from manyhands.domain.device import Device
from manyhands.domain.ids import PeerId, short
from manyhands.domain.messages import Announce, SignedRecord
from manyhands.domain.settings import Settings
from manyhands.domain.swarm import (
    Event,
    Holding,
    PeerGone,
    PeerRecord,
    RecordSeen,
    Swarm,
    apply,
)
from manyhands.node.peers import Clock
from manyhands.trust.signature import KeyPair, sign_record, verify_record

log = logging.getLogger(__name__)

FORGET_LIVES = 10
"""A peer that was not heard of for this many lives of a record is not looked for any more."""

Send = Callable[[PeerId, Announce], None]


@dataclass(frozen=True, slots=True)
class About:
    """What a peer says of itself now."""

    device: Device
    kernels: str
    holdings: tuple[Holding, ...]
    room_bytes: int


class Directory:
    """One peer's view of the swarm, and its own record in everybody else's."""

    def __init__(
        self,
        keys: KeyPair,
        clock: Clock,
        settings: Settings,
        describe: Callable[[], About],
        send: Send,
        neighbours: Callable[[], tuple[PeerId, ...]],
    ) -> None:
        self.swarm = Swarm()
        self._keys, self._clock, self._settings = keys, clock, settings
        self._describe, self._send, self._neighbours = describe, send, neighbours
        self._records: dict[PeerId, SignedRecord] = {}
        self._gone: dict[PeerId, int] = {}
        self._addresses: dict[PeerId, str] = {}
        self._forget_s: dict[PeerId, float] = {}
        self._address = ""
        self._sequence = 0
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Renew our record, forget expired ones, look for neighbours that went away."""
        while True:
            await asyncio.sleep(self._settings.record_every_s)
            self._expire()
            self.announce()
            neighbours = self._neighbours()
            for peer in self._addresses:
                if peer not in neighbours:
                    self._send(peer, self._everything())

    def start(self, address: str) -> None:
        """From now on we can be reached at `address`."""
        self._address = address
        self.announce()

    def join(self, peer: PeerId, address: str) -> None:
        """Make a first contact; its records come back."""
        self._addresses[peer] = address
        self._forget_s[peer] = inf
        self._send(peer, self._everything())

    def announce(self) -> None:
        """Say anew what we are and hold; called whenever that changes."""
        about = self._describe()
        # from the clock, so that a restarted peer's records are newer than those of its former life
        self._sequence = max(self._sequence + 1, int(self._clock() * 1e3) + 1)
        record = PeerRecord(
            peer=self._keys.peer,
            sequence=self._sequence,
            expires_s=self._clock() + self._settings.record_life_s,
            address=self._address,
            device=about.device,
            kernels=about.kernels,
            holdings=about.holdings,
            room_bytes=about.room_bytes,
        )
        signed = sign_record(self._keys, record)
        self._records[record.peer] = signed
        self._apply(RecordSeen(record))
        self._tell((signed,), None)

    def address_of(self, peer: PeerId) -> str | None:
        """Where a peer can be dialled, if anybody said so."""
        known = self._records.get(peer)
        return known.record.address if known is not None else self._addresses.get(peer)

    def connected(self, peer: PeerId) -> None:
        """A new neighbour is told everything."""
        self._send(peer, self._everything())

    def receive(self, source: PeerId, announce: Announce) -> None:
        """Check records, keep the newer ones, pass them on."""
        news = tuple(signed for signed in announce.records if self._believe(source, signed))
        for signed in news:
            self._apply(RecordSeen(signed.record))
        if news:
            self._tell(news, source)

    def lost(self, peer: PeerId) -> None:
        """Our connection to this peer ended: it is gone until it speaks again."""
        known = self._records.pop(peer, None)
        if known is not None:
            self._gone[peer] = known.record.sequence
            self._apply(PeerGone(peer))

    def broken(self, event: Event) -> None:
        """Take note of a link's state."""
        self._apply(event)

    async def changed(self) -> None:
        """Return at the next change of the swarm."""
        await self._changed.wait()

    def _believe(self, source: PeerId, signed: SignedRecord) -> bool:
        record = signed.record
        known = self._records.get(record.peer)
        latest_s = self._clock() + 2 * self._settings.record_life_s
        if record.peer == self._keys.peer or not self._clock() < record.expires_s <= latest_s:
            return False
        if known is not None and known.record.sequence >= record.sequence:
            return False
        if source != record.peer and record.sequence <= self._gone.get(record.peer, -1):
            return False  # hearsay about a peer that we saw leave
        if not verify_record(signed):
            log.warning("%s sent a forged record of %s", short(source), short(record.peer))
            return False
        self._gone.pop(record.peer, None)
        self._records[record.peer] = signed
        self._addresses[record.peer] = record.address
        if self._forget_s.get(record.peer) != inf:
            later_s = FORGET_LIVES * self._settings.record_life_s
            self._forget_s[record.peer] = self._clock() + later_s
        return True

    def _expire(self) -> None:
        now_s = self._clock()
        for peer, signed in list(self._records.items()):
            if peer != self._keys.peer and signed.record.expires_s <= now_s:
                self.lost(peer)
        for peer in [peer for peer, until_s in self._forget_s.items() if until_s <= now_s]:
            if peer not in self._records:
                for known in (self._forget_s, self._addresses, self._gone):
                    known.pop(peer, None)

    def _everything(self) -> Announce:
        return Announce(tuple(self._records.values()))

    def _tell(self, records: tuple[SignedRecord, ...], source: PeerId | None) -> None:
        for peer in self._neighbours():
            if peer != source:
                self._send(peer, Announce(records))

    def _apply(self, event: Event) -> None:
        before = self.swarm
        self.swarm = apply(before, event)
        if self.swarm is not before:
            self._changed.set()
            self._changed = asyncio.Event()
