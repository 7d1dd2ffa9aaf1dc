"""A swarm of processes: an owner here that holds nothing, and peers of one thread each."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from manyhands.cli.words import device_here
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.launch.founding import Founding, Ports, found_swarm
from manyhands.launch.local import LocalPeer, LocalPeers
from manyhands.node.live import until_covered
from manyhands.node.opened import Opened
from manyhands.store.home import Home

READY_S = 300.0
SETTINGS = Settings(kv_bytes=2**28)


@contextlib.asynccontextmanager
async def swarm(
    folder: Path, opened: Opened, spans: Sequence[Span]
) -> AsyncIterator[tuple[Founding, Sequence[LocalPeer]]]:
    """One `hands join` process a span, ready, and the owner who asks them."""
    with Home(folder / "owner") as home:
        owner = found_swarm(home, opened, device_here(None), SETTINGS, Ports(), holds=False)
        async with owner as founding, LocalPeers(folder, len(spans)) as peers:
            for span in spans:
                invite = founding.founder.invite()
                await peers.start(founding.door, invite, opened.folder, span, "--threads", "1")
            for peer in peers.peers:
                await peer.ready(READY_S)
            await until_covered(founding.node, opened.model, READY_S)
            yield founding, peers.peers
