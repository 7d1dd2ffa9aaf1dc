"""A swarm inside this process: full nodes on memory links, each with a compute thread of its own.

What `mh.load` runs on, and the way to try a split, or a loss, on one machine.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from manyhands.domain.device import Device
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span, even_cuts
from manyhands.engine.compute import ComputeThread
from manyhands.errors import UserError
from manyhands.net.memory import MemoryNetwork
from manyhands.node.app import Node, Outside
from manyhands.node.model import Model
from manyhands.trust.signature import KeyPair

log = logging.getLogger(__name__)


class LocalSwarm:
    """`peers` nodes that share a model evenly; the first is the owner of all sessions.

    `on_start` runs in each compute thread before its first work.
    """

    def __init__(
        self,
        model: Model,
        peers: int,
        device: Device,
        settings: Settings,
        on_start: Callable[[], None] | None = None,
    ) -> None:
        layers = len(model.spec.layers)
        if not isinstance(peers, int) or isinstance(peers, bool):
            raise UserError(f"peers is {peers!r}; it must be a whole number")
        if not 1 <= peers <= layers:
            raise UserError(
                f"peers is {peers}; a model of {layers - 2} blocks, embedding and head has "
                f"{layers} layers to share, so 1 to {layers} peers"
            )
        self.model = replace(model, stored=(model.spec.span,))
        self.nodes: list[Node] = []
        self._device, self._settings, self._on_start = device, settings, on_start
        self._spans: Sequence[Span] = even_cuts(layers, peers)
        self._chance = random.Random(secrets.randbits(64))  # noqa: S311 (keys come from `secrets`)
        self._network = MemoryNetwork(self._chance)
        self._threads: list[ComputeThread] = []
        self._running: dict[int, asyncio.Task[None]] = {}
        self._is_over = asyncio.Event()

    @property
    def owner(self) -> Node:
        """The node that opens sessions."""
        return self.nodes[0]

    async def serve(self, started: asyncio.Event) -> None:
        """Start all nodes, load their spans, set `started`, and run until `stop`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self.nodes = [self._node() for _ in self._spans]
                for number, node in enumerate(self.nodes):
                    self._running[number] = tasks.create_task(self._live(number, node))
                for node in self.nodes:
                    await node.started()
                for node in self.nodes[1:]:
                    node.directory.join(self.owner.peer, f"memory:{self.owner.peer}")
                for node, span in zip(self.nodes, self._spans, strict=True):
                    await node.hold(self.model, span)
                while not self._is_covered():
                    await self.owner.directory.changed()
                started.set()
                await self._is_over.wait()
                for task in self._running.values():
                    task.cancel()
        finally:
            for thread in self._threads:
                thread.close()

    async def _live(self, number: int, node: Node) -> None:
        """A peer that fails is a peer lost; only without the owner there is nothing left to do."""
        try:
            await node.run()
        except Exception:
            if number == 0:
                raise
            log.exception("peer %d failed and is lost", number)
            self._network.reset(node.peer)
            self._running.pop(number, None)

    def alive(self) -> Mapping[int, Node]:
        """The nodes that run, by number."""
        return {number: self.nodes[number] for number in sorted(self._running)}

    def stop(self) -> None:
        """End `serve`."""
        self._is_over.set()

    def kill(self, number: int) -> None:
        """End a peer at once, as if its machine had lost power. Raises UserError for the owner."""
        if number == 0 or number not in self._running:
            others = [str(n) for n in sorted(self._running) if n]
            choice = f"choose one of {', '.join(others)}" if others else "nobody else is left"
            raise UserError(f"peer {number} cannot be killed; {choice}")
        self._network.reset(self.nodes[number].peer)
        self._running.pop(number).cancel()

    def _is_covered(self) -> bool:
        """True once the owner knows of everybody's loaded span."""
        ready = {
            (peer, held.span)
            for peer, record in self.owner.directory.swarm.peers.items()
            for held in record.holdings
            if held.state == "ready"
        }
        return all(
            (node.peer, span) in ready for node, span in zip(self.nodes, self._spans, strict=True)
        )

    def _node(self) -> Node:
        keys = KeyPair.from_seed(secrets.token_bytes(32))
        compute, loading = ComputeThread(self._on_start), ComputeThread(self._on_start, "loading")
        self._threads += [compute, loading]
        outside = Outside(
            keys=keys,
            transport=self._network.transport(keys.peer),
            compute=compute,
            loading=loading,
            clock=asyncio.get_running_loop().time,
            wall_clock=lambda: datetime.now(UTC).timestamp(),
            chance=random.Random(secrets.randbits(64)),  # noqa: S311 (names sessions, no secret)
            device=self._device,
        )
        return Node(outside, [self.model], self._settings)
