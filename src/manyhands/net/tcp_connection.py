"""One TLS connection over TCP: frames are read straight into their own buffers, sends never wait.

Knows nothing of addresses, dialling or listening. TLS has checked the certificates when
`connection_made` is called; here the key is read, and compared by the side that dialled.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import cast

from manyhands.domain.ids import PeerId, short
from manyhands.errors import FrameError, PeerLost, ProtocolError
from manyhands.trust.certificate import peer_of
from manyhands.wire.frame import Frame, FrameReader, encode

UNSENT_BYTES = 64 << 20
"""A connection that has more than this waiting to be written is lost."""

UNREAD_BYTES = 64 << 20
"""With more than this in frames that nobody has read, the other side is made to wait."""

_WASTE = memoryview(bytearray(1 << 20))
"""Where bytes go that nobody will read: more than TLS ever holds, so that it is emptied at once."""


class TcpConnection(asyncio.BufferedProtocol):
    """See Connection. Made by TcpTransport only; `changed` hears when it is made, and when lost.

    Memory is bounded: at most twice `UNSENT_BYTES` and one frame wait to be written (asyncio keeps
    as much below TLS as in it), at most `UNREAD_BYTES` and one frame to be read.

    Known gap: when the other side is sending while we `close`, all that has not left this machine
    may be lost. OpenSSL takes data after our farewell for an error, and asyncio then resets.
    """

    def __init__(self, changed: Callable[[TcpConnection], None], expect: PeerId | None) -> None:
        self.is_over = False
        self.is_gone = asyncio.Event()
        self._changed, self._expect = changed, expect
        self._remote = PeerId("")
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._inbox: deque[Frame] = deque()
        self._unread_bytes = 0
        self._is_paused = False
        self._has_heard = False
        self._arrived = asyncio.Event()
        self._reason = "was never made"
        self._fault: FrameError | None = None

    @property
    def remote(self) -> PeerId:
        """The other side's proven key; empty until the connection is made."""
        return self._remote

    @property
    def is_made(self) -> bool:
        """True once the other side has proven who it is, and for ever after."""
        return bool(self._remote)

    @property
    def reason(self) -> str:
        """Why it ended, in words that follow "the connection"."""
        return self._reason

    def send(self, frame: Frame) -> None:
        """Queue a frame; see Connection. Raises FrameError for one over its cap."""
        if self.is_over or self._transport is None:
            return
        buffers = encode(frame)
        if self._transport.get_write_buffer_size() > UNSENT_BYTES:
            self._end(f"had {UNSENT_BYTES >> 20} MiB waiting that the other side did not take")
            self._transport.abort()
            return
        self._transport.writelines(buffers)

    async def receive(self) -> Frame:
        """The next frame; PeerLost once ended and empty, FrameError when what came is no frame."""
        while not self._inbox:
            if self._fault is not None:
                raise FrameError(str(self._fault))
            if self.is_over:
                raise PeerLost(f"the connection to {short(self._remote)} {self._reason}")
            self._arrived.clear()
            await self._arrived.wait()
        frame = self._inbox.popleft()
        self._unread_bytes -= frame.size
        if self._is_paused and self._unread_bytes <= UNREAD_BYTES // 2:
            self._resume()
        return frame

    def close(self) -> None:
        """Send what is queued, then close; see Connection."""
        if self._transport is None or self.is_over:
            return
        self._end("is closed")
        self._resume()  # what still comes is thrown away, or it would stand before the farewell
        self._transport.close()

    def abort(self) -> None:
        """End at once; what is queued is dropped."""
        self._end("was ended here")
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up. Nothing of ours has been sent yet, not even our certificate if we dialled."""
        self._transport = cast("asyncio.Transport", transport)
        # asyncio does it too, but not for the sockets that `sock_accept` makes
        plug = transport.get_extra_info("socket")
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
            found = peer_of(certificate or b"")
        except ProtocolError as error:
            self._refuse(str(error))
            return
        if self._expect is not None and found != self._expect:
            self._refuse(f"leads to peer {short(found)}, where {short(self._expect)} should be")
            return
        self._remote = found
        self._changed(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (the frame knows better)
        """Where the next bytes go: into the frame they belong to."""
        return _WASTE if self.is_over or self._fault is not None else self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        self._has_heard = True
        if self.is_over or self._fault is not None:
            return
        try:
            frames = self._reader.advance(nbytes)
        except FrameError as fault:
            # told by `receive`; the owner may still say why it closes
            self._fault = fault
            self._arrived.set()
            return
        if not frames:
            return
        self._inbox.extend(frames)
        self._unread_bytes += sum(frame.size for frame in frames)
        self._arrived.set()
        if self._unread_bytes > UNREAD_BYTES and not self._is_paused and self._transport:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """The other side said that it is done: so are we."""
        self._end("is closed by the other side")

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, for this reason or for none."""
        if exc is not None:
            self._end(f"is lost: {exc}")
        elif self._has_heard:
            self._end("is closed by the other side")
        else:
            self._end(
                "ended before the other side said a word; a peer does so to whom it does not "
                "know: is it of our swarm, and neither membership out of date?"
            )
        self.is_gone.set()
        self._changed(self)

    def _resume(self) -> None:
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    def _refuse(self, reason: str) -> None:
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    def _end(self, reason: str) -> None:
        """The first reason stays: what follows comes of it."""
        if not self.is_over:
            self.is_over, self._reason = True, reason
            self._arrived.set()
