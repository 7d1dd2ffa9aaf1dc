"""A swarm inside this process: full nodes on memory links, each with a compute thread of its own.

What `mh.load` runs on, and the way to try a split, or a loss, on one machine.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from manyhands.domain.device import Device
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span, even_cuts
from manyhands.engine.compute import ComputeThread, join_all
from manyhands.errors import DeadlinePassed, UserError
from manyhands.net.memory import MemoryNetwork
from manyhands.node.app import Node, Outside
from manyhands.node.model import Model
from manyhands.trust.signature import KeyPair

log = logging.getLogger(__name__)

END_DEADLINE_S = 3.0
"""Ending waits this long for steps that compute."""


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
        self.nodes: dict[int, Node] = {}
        self._device, self._settings, self._on_start = device, settings, on_start
        self._spans: Sequence[Span] = even_cuts(layers, peers)
        self._chance = random.Random(secrets.randbits(64))  # noqa: S311 (keys come from `secrets`)
        self._network = MemoryNetwork(self._chance)
        self._threads: dict[int, tuple[ComputeThread, ...]] = {}
        self._ending: list[ComputeThread] = []
        self._running: dict[int, asyncio.Task[None]] = {}
        self._is_over = asyncio.Event()
        self._is_started = False

    @property
    def owner(self) -> Node:
        """The node that opens sessions. Raises UserError once `serve` has ended."""
        node = self.nodes.get(0)
        if node is None:
            raise UserError("the swarm is closed; load the model again")
        return node

    async def serve(self, started: asyncio.Event) -> None:
        """Start all nodes, load their spans, set `started`, and run until `stop`.

        Raises DeadlinePassed for peers that do not start, or are not known as ready once their
        spans are loaded, within `load_deadline_s`, and what a peer fails by until then.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._start(tasks)
                await self._by_deadline(self._until_covered(), self._missing)
                self._is_started = True
                started.set()
                await self._is_over.wait()
                for task in self._running.values():
                    task.cancel()
        finally:
            for number in list(self._threads):
                self._free(number)
            join_all(self._ending, END_DEADLINE_S)  # nobody else is on this loop any more

    # nothing in `serve` itself may name a node: its frame would keep a killed peer's memory

    async def _start(self, tasks: asyncio.TaskGroup) -> None:
        """Every node runs, knows the owner, and holds its span."""
        for number in range(len(self._spans)):
            self.nodes[number] = self._node(number)
            self._running[number] = tasks.create_task(self._live(number))
        nodes = list(self.nodes.values())
        for number, node in enumerate(nodes):
            await self._by_deadline(node.started(), partial(_names, number))
        for node in nodes[1:]:
            node.directory.join(self.owner.peer, f"memory:{self.owner.peer}")
        for node, span in zip(nodes, self._spans, strict=True):
            await node.hold(self.model, span)

    async def _until_covered(self) -> None:
        while self._missing():
            await self.owner.directory.changed()

    async def _by_deadline(
        self, waiting: Awaitable[None], missing: Callable[[], list[str]]
    ) -> None:
        limit_s = self._settings.load_deadline_s
        try:
            async with asyncio.timeout(limit_s):
                await waiting
        except TimeoutError:
            raise DeadlinePassed(
                f"the swarm did not start within {limit_s} s; missing: {', '.join(missing())}; "
                "look in the log for what failed, or give more load_deadline_s"
            ) from None

    async def _live(self, number: int) -> None:
        """Once all have started, a peer that fails is a peer lost; without the owner all ends."""
        node = self.nodes[number]
        try:
            await node.run()
        except Exception:
            if number == 0 or not self._is_started:
                raise
            log.exception("peer %d failed and is lost", number)
            self._network.reset(node.peer)
        finally:
            self._free(number)

    def _free(self, number: int) -> None:
        """End a peer's threads and let go of its engines and memories."""
        self._running.pop(number, None)
        self.nodes.pop(number, None)
        for thread in self._threads.pop(number, ()):
            thread.close()
            self._ending.append(thread)

    def alive(self) -> Mapping[int, Node]:
        """The nodes that run, by number."""
        return dict(self.nodes)

    def stop(self) -> None:
        """End `serve`."""
        self._is_over.set()

    def kill(self, number: int) -> None:
        """End a peer at once, as if its machine had lost power. Raises UserError for the owner."""
        if number == 0 or number not in self._running:
            others = [str(n) for n in sorted(self._running) if n]
            choice = f"choose one of {', '.join(others)}" if others else "nobody else is left"
            raise UserError(f"peer {number} cannot be killed; {choice}")
        self._network.reset(self.nodes.pop(number).peer)
        self._running.pop(number).cancel()  # its threads end after it

    def _missing(self) -> list[str]:
        """The peers of which the owner does not know that they hold their spans."""
        ready = {
            (peer, held.span)
            for peer, record in self.owner.directory.swarm.peers.items()
            for held in record.holdings
            if held.state == "ready"
        }
        return [
            f"peer {number} with layers {self._spans[number]}"
            for number, node in self.nodes.items()
            if (node.peer, self._spans[number]) not in ready
        ]

    def _node(self, number: int) -> Node:
        keys = KeyPair.from_seed(secrets.token_bytes(32))
        compute, loading = ComputeThread(self._on_start), ComputeThread(self._on_start, "loading")
        disk = ComputeThread(name="disk")
        self._threads[number] = compute, loading, disk
        outside = Outside(
            keys=keys,
            transport=self._network.transport(keys.peer),
            compute=compute,
            loading=loading,
            disk=disk,
            clock=asyncio.get_running_loop().time,
            wall_clock=lambda: datetime.now(UTC).timestamp(),
            chance=random.Random(secrets.randbits(64)),  # noqa: S311 (names sessions, no secret)
            device=self._device,
        )
        return Node(outside, [self.model], self._settings)


def _names(number: int) -> list[str]:
    return [f"peer {number}"]
