"""The transport waist: dial, listen, send, receive, close; whole frames in order between two peers.

Knows nothing of messages. A transport proves who the other side is before it hands out a
connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from manyhands.domain.ids import PeerId
from manyhands.wire.frame import Frame


class Connection(Protocol):
    """Frames to and from one peer, in order, until either side closes or the link is lost."""

    @property
    def remote(self) -> PeerId:
        """The other side's proven key."""

    def send(self, frame: Frame) -> None:
        """Queue a frame; never waits. Frames sent after the connection was lost go nowhere."""

    async def receive(self) -> Frame:
        """The next frame. Raises PeerLost once the connection is closed and all frames are read.

        Raises FrameError, from then on, when bytes came that are no frames; `send` still works.
        """

    def close(self) -> None:
        """Send what is queued, then close; `receive` on both sides ends with PeerLost."""


Accept = Callable[[Connection], None]
"""Called once for each connection that was dialled to us."""


class Transport(Protocol):
    """One peer's way to reach others."""

    async def listen(self, accept: Accept) -> str:
        """Take connections from now on; the address others dial. Raises UserError if taken."""

    async def dial(self, address: str, peer: PeerId) -> Connection:
        """Connect to `peer` at `address`. Raises PeerLost if nobody, or somebody else, answers."""

    async def close(self) -> None:
        """Stop listening and close every connection."""
