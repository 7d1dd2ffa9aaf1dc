"""Who is here and holds what: signed, expiring records, spread from neighbour to neighbour.

The newest sequence wins, and a record is believed only for its signer. Knows nothing of sessions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import inf

from manyhands.domain.device import Device
from manyhands.domain.giving import Pause
from manyhands.domain.ids import ModelId, PeerId, is_name, short
from manyhands.domain.messages import Announce, SignedRecord
from manyhands.domain.settings import Settings
from manyhands.domain.swarm import (
    MOST_LINKS,
    Event,
    Holding,
    LinkTo,
    PeerGone,
    PeerRecord,
    RecordSeen,
    Swarm,
    apply,
)
from manyhands.errors import ProtocolError
from manyhands.node.peers import Clock
from manyhands.trust.signature import KeyPair, sign_record, verify_record

log = logging.getLogger(__name__)

FORGET_LIVES = 10
"""A peer that was not heard of for this many lives of a record is not looked for any more."""

KEPT_RECORDS = 4096
"""The most records a directory keeps, and the most peers it remembers.

Only members bring records, but a record carries no proof that its peer is one, and keys cost
nothing: a member can make up as many peers as it likes. This bounds what that costs, and no more
than that; nobody who is made up gets as far as a connection.
"""

PIECE_RECORDS = 256
"""So many records go in one message; a frame has a cap."""

LOOKED_FOR = 64
"""So many absent peers are dialled in one round, the others in the next ones."""

Send = Callable[[PeerId, Announce], None]


@dataclass(frozen=True, slots=True)
class About:
    """What a peer says of itself now."""

    device: Device
    kernels: str
    holdings: tuple[Holding, ...]
    room_bytes: int
    links: tuple[LinkTo, ...] = ()
    paused: Pause = ""
    moves: tuple[ModelId, ...] = ()
    name: str = ""


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
        self._warned: set[tuple[PeerId, str]] = set()
        self._address = ""
        self._sequence = 0
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Renew our record, forget expired ones, look for neighbours that went away."""
        while True:
            await asyncio.sleep(self._settings.record_every_s)
            self._expire()
            self.announce()
            self._look()

    def start(self, address: str) -> None:
        """From now on we can be reached at `address`."""
        self._address = address
        self.announce()

    def join(self, peer: PeerId, address: str) -> None:
        """Make a first contact; its records come back."""
        self._addresses[peer] = address
        self._forget_s[peer] = inf
        self._greet(peer)

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
            links=about.links,
            paused=about.paused,
            moves=about.moves,
            name=about.name,
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
        self._say(peer, tuple(self._records.values()))

    def receive(self, source: PeerId, announce: Announce) -> None:
        """Check records, keep the newer ones, pass them on."""
        news = tuple(signed for signed in announce.records if self._believe(source, signed))
        for signed in news:
            self._apply(RecordSeen(signed.record))
        if news:
            self._make_room()
            kept = tuple(one for one in news if self._records.get(one.record.peer) is one)
            self._tell(kept, source)

    def lost(self, peer: PeerId) -> None:
        """Our connection to this peer ended: it is gone until it speaks again.

        It is called once more, at once: if only the link broke, it answers and is back.
        """
        known = self._records.pop(peer, None)
        if known is not None:
            self._gone[peer] = known.record.sequence
            self._apply(PeerGone(peer))
            self._greet(peer)

    async def changed(self) -> None:
        """Return at the next change of the swarm."""
        await self._changed.wait()

    def _believe(self, source: PeerId, signed: SignedRecord) -> bool:
        record = signed.record
        known = self._records.get(record.peer)
        if record.peer == self._keys.peer:
            self._warn_of_a_copy(signed)
            return False
        if known is not None and known.record.sequence >= record.sequence:
            return False
        latest_s = self._clock() + 2 * self._settings.record_life_s
        if not self._clock() < record.expires_s <= latest_s:
            self._warn_of_clocks(source, signed)
            return False
        if source != record.peer and record.sequence <= self._gone.get(record.peer, -1):
            return False  # hearsay about a peer that we saw leave
        if not verify_record(signed):
            log.warning("%s sent a forged record of %s", short(source), short(record.peer))
            return False
        if not all(map(is_name, (record.address, record.kernels, record.device.kind, record.name))):
            # it would be passed on, to newcomers too, and shown on terminals
            name = short(record.peer)
            self._warn_once(
                record.peer,
                "words",
                f"the record of peer {name} is refused: its address, kernels, name or kind of "
                "device is too long or not printable ASCII",
            )
            return False
        if len(record.links) > MOST_LINKS:
            self._warn_once(
                record.peer,
                "links",
                f"the record of peer {short(record.peer)} is refused: it tells of "
                f"{len(record.links)} links, {MOST_LINKS} are most",
            )
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
                self._forget(peer)

    def _warn_of_clocks(self, source: PeerId, signed: SignedRecord) -> None:
        """Tell the user once of a peer that nobody sees because its clock, or ours, is wrong.

        Hearsay that has expired tells nothing of clocks: it is what is left of a peer that went.
        """
        record = signed.record
        ahead_s = record.expires_s - self._settings.record_life_s - self._clock()
        if (ahead_s < 0 and source != record.peer) or (record.peer, "clock") in self._warned:
            return
        if verify_record(signed):
            self._warn_once(
                record.peer,
                "clock",
                f"the record of peer {short(record.peer)} is refused: its clock seems to be "
                f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} ours; set the "
                "clocks of both machines (and record_life_s alike)",
            )

    def _warn_of_a_copy(self, signed: SignedRecord) -> None:
        """Tell the user once of another machine that speaks with our key: later than we did."""
        record = signed.record
        is_ours = record.sequence <= self._sequence or record.address == self._address
        if not is_ours and is_name(record.address) and verify_record(signed):
            self._warn_once(
                record.peer,
                "copy",
                f"this peer's key is in use at {record.address} as well: a home folder was copied; "
                "end one of the two, and delete `keys` and `joined` in its folder",
            )

    def _warn_once(self, peer: PeerId, reason: str, text: str) -> None:
        """Warn of a peer once for each reason; made-up peers cannot fill the log for ever."""
        if (peer, reason) not in self._warned and len(self._warned) < KEPT_RECORDS:
            self._warned.add((peer, reason))
            log.warning(text)

    def _make_room(self) -> None:
        """Forget what is over the bounds: never ourselves, a neighbour, or a first contact."""
        staying = {self._keys.peer, *self._neighbours()}
        over = len(self._records) - KEPT_RECORDS
        if over > 0:
            expires_s = {peer: signed.record.expires_s for peer, signed in self._records.items()}
            for peer in _soonest(expires_s, over, staying):
                del self._records[peer]
                self._forget(peer)
                self._apply(PeerGone(peer))
        over = len(self._forget_s) - KEPT_RECORDS
        if over > 0:
            for peer in _soonest(self._forget_s, over, staying | self._records.keys()):
                self._forget(peer)

    def _forget(self, peer: PeerId) -> None:
        """Look for this peer no more, unless it is a first contact."""
        if self._forget_s.get(peer) != inf:
            for known in (self._forget_s, self._addresses, self._gone):
                known.pop(peer, None)

    def _look(self) -> None:
        """Dial known peers that are no neighbours, in turns."""
        neighbours = frozenset(self._neighbours())
        absent = [peer for peer in self._addresses if peer not in neighbours]
        for peer in absent[:LOOKED_FOR]:
            self._addresses[peer] = self._addresses.pop(peer)  # to the end of the row
            self._greet(peer)

    def _greet(self, peer: PeerId) -> None:
        """Dial by saying who we are; once connected, both sides say everything."""
        mine = self._records.get(self._keys.peer)
        self._say(peer, (mine,) if mine is not None else ())

    def _tell(self, records: tuple[SignedRecord, ...], source: PeerId | None) -> None:
        if records:
            for peer in self._neighbours():
                if peer != source:
                    self._say(peer, records)

    def _say(self, peer: PeerId, records: tuple[SignedRecord, ...]) -> None:
        """Send records in pieces that fit a frame; what cannot be sent keeps back nothing else."""
        for first in range(0, max(len(records), 1), PIECE_RECORDS):
            self._send_piece(peer, records[first : first + PIECE_RECORDS])

    def _send_piece(self, peer: PeerId, piece: tuple[SignedRecord, ...]) -> None:
        try:
            self._send(peer, Announce(piece))
        except ProtocolError as error:
            half = len(piece) // 2
            if half:
                self._send_piece(peer, piece[:half])
                self._send_piece(peer, piece[half:])
            elif piece:
                name = piece[0].record.peer
                self._warn_once(
                    name, "size", f"the record of peer {short(name)} cannot be sent: {error}"
                )

    def _apply(self, event: Event) -> None:
        before = self.swarm
        self.swarm = apply(before, event)
        if self.swarm is not before:
            self._changed.set()
            self._changed = asyncio.Event()


def _soonest(
    times_s: Mapping[PeerId, float], count: int, staying: AbstractSet[PeerId]
) -> list[PeerId]:
    """The `count` peers whose time comes first, but for those that stay and those without end."""
    others = [peer for peer, at_s in times_s.items() if peer not in staying and at_s != inf]
    return sorted(others, key=times_s.__getitem__)[:count]
