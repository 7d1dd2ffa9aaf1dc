"""A whole swarm of real nodes in one process, on memory links and virtual time, with its faults.

Peers can be killed, restarted (even with memory of a former life), held still, and cut apart.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from manyhands.domain.device import Device
from manyhands.domain.ids import PeerId
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.engine.engine import Engine
from manyhands.errors import DeadlinePassed
from manyhands.net.memory import MemoryNetwork, Path
from manyhands.node.app import Node, Outside
from manyhands.node.memories import Key
from manyhands.node.model import Model
from manyhands.node.mover import Followed
from manyhands.node.rules import ALL_RULES, Rules
from manyhands.node.stage import StageMemory
from manyhands.sim.virtual_loop import VirtualCompute
from manyhands.trust.signature import KeyPair

DEVICE = Device(
    kind="virtual", memory_bytes=1 << 30, read_bytes_per_s=10e9, flops_per_s=100e9, overhead_s=1e-4
)


@dataclass(frozen=True, slots=True)
class Member:
    """One peer of a fleet: the spans it begins with, its speed, its kernel set if another.

    `moves`: its layers may be moved where the fleet is planned. `is_late`: it comes by `arrive`.
    """

    spans: tuple[Span, ...] = ()
    can_load: bool = True
    speed: float = 1.0
    kernels: str = ""
    memory_bytes: int = DEVICE.memory_bytes
    moves: bool = False
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class Saved:
    """A worker's state at one moment: what a stale restart comes back with."""

    memories: Mapping[Key, StageMemory]
    engines: Mapping[Span, Engine]


class Fleet:
    """`members[0]` is usually the owner. Use within `run_virtual`, inside `async with`.

    With `planned_tokens` the model is placed anew where that pays; member `founder` decides.
    """

    def __init__(
        self,
        seed: int,
        model: Model,
        members: Sequence[Member],
        *,
        settings: Settings | None = None,
        rules: Rules = ALL_RULES,
        path: Path | None = None,
        planned_tokens: int = 0,
        founder: int = 0,
    ) -> None:
        self.model, self.members = model, tuple(members)
        self.settings = settings or Settings()
        self.chance = random.Random(seed)
        self.network = MemoryNetwork(self.chance, path)
        self.network.observer = self._observe
        self.nodes: list[Node] = []
        self.taps: list[Callable[[PeerId, PeerId, bytes], None]] = []
        self._rules = rules
        self._planned_tokens, self._founder = planned_tokens, founder
        self._computes: dict[int, VirtualCompute] = {}
        self._keys = [KeyPair.from_seed(self.chance.randbytes(32)) for _ in members]
        self._tasks = asyncio.TaskGroup()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._engines: dict[tuple[int, Span], Engine] = {}
        self._trace = hashlib.sha256()

    async def __aenter__(self) -> Fleet:
        await self._tasks.__aenter__()
        self.nodes = [self._node(number) for number in range(len(self.members))]
        for number, member in enumerate(self.members):
            if not member.is_late:
                await self._start(number)
        for number, member in enumerate(self.members):
            for span in member.spans:
                await self.nodes[number].hold(self.model, span)
        await self._until_known()
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        for task in self._running.values():
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    @property
    def trace(self) -> str:
        """Digest of every frame so far: when, from whom, to whom, what. Same seed, same digest."""
        return self._trace.hexdigest()

    def peer(self, number: int) -> PeerId:
        """A member's id."""
        return self._keys[number].peer

    def number(self, peer: PeerId) -> int:
        """Which member a peer is."""
        return next(n for n, keys in enumerate(self._keys) if keys.peer == peer)

    def kill(self, number: int) -> None:
        """As SIGKILL: connections are reset, memory is gone."""
        self.network.reset(self.peer(number))
        task = self._running.pop(number, None)
        if task is not None:
            task.cancel()

    async def arrive(self, number: int) -> None:
        """A late member comes, and holds its spans."""
        await self._start(number)
        for span in self.members[number].spans:
            await self.nodes[number].hold(self.model, span)

    def slow(self, number: int, factor: float) -> None:
        """From now on a member's steps take `factor` times as long."""
        self._computes[number].speed /= factor

    def is_alive(self, number: int) -> bool:
        """False after `kill` until `restart`."""
        return number in self._running

    def save(self, number: int) -> Saved:
        """What this peer's worker holds now, copied."""
        engines = {span: copy.deepcopy(e) for (n, span), e in self._engines.items() if n == number}
        return Saved(copy.deepcopy(self.nodes[number].worker.memories.by_key), engines)

    async def restart(self, number: int, saved: Saved | None = None) -> None:
        """A new life with the same key: with nothing, or with the memory of an earlier moment."""
        self.kill(number)
        self.nodes[number] = self._node(number, saved)
        await self._start(number)
        spans = self.members[number].spans if saved is None else tuple(saved.engines)
        for span in spans:
            await self.nodes[number].hold(self.model, span)
        if saved is not None:
            node = self.nodes[number]
            for memory in saved.memories.values():
                engine = node.holdings.find(memory.model, memory.span)
                if engine is not None:
                    node.worker.memories.add(memory, engine)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something for as long as the fleet lives."""
        return self._tasks.create_task(work)

    def _node(self, number: int, saved: Saved | None = None) -> Node:
        keys, member = self._keys[number], self.members[number]

        def load(span: Span) -> Engine:
            engine = saved.engines.get(span) if saved is not None else None
            self._engines[number, span] = engine or self.model.load(span)
            return self._engines[number, span]

        stored = (self.model.spec.span,) if member.can_load else member.spans
        own = replace(self.model.profile, kernels=member.kernels or self.model.profile.kernels)
        model = replace(self.model, profile=own, load=load, stored=stored)
        models = [model] if stored or self._planned_tokens else []
        compute = self._computes[number] = VirtualCompute(member.speed)
        loop = asyncio.get_running_loop()
        outside = Outside(
            keys=keys,
            transport=self.network.transport(keys.peer),
            compute=compute,
            loading=VirtualCompute(member.speed),
            disk=VirtualCompute(),
            clock=loop.time,
            wall_clock=loop.time,
            chance=random.Random(self.chance.getrandbits(64)),
            device=replace(DEVICE, memory_bytes=member.memory_bytes),
        )
        return Node(outside, models, self.settings, self._rules)

    async def _start(self, number: int) -> None:
        node = self.nodes[number]
        self._running[number] = self._tasks.create_task(node.run())
        await node.started()
        if self._planned_tokens:
            moves, founder = self.members[number].moves, self.peer(self._founder)
            node.follow(Followed(self.model.id, founder, self._planned_tokens, moves))
        for other in range(len(self.members)):
            if other < number and other in self._running:
                node.directory.join(self.peer(other), f"memory:{self.peer(other)}")

    async def _until_known(self) -> None:
        """Until everybody knows what everybody holds. Raises DeadlinePassed for who does not."""
        holding = {
            self.peer(n): n for n, one in enumerate(self.members) if one.spans and not one.is_late
        }

        def unknown(node: Node) -> list[int]:
            known = node.directory.swarm.peers
            ready = {p for p in known if any(h.state == "ready" for h in known[p].holdings)}
            return [number for peer, number in holding.items() if peer not in ready]

        limit_s = self.settings.load_deadline_s
        try:
            async with asyncio.timeout(limit_s):
                for node in (self.nodes[number] for number in sorted(self._running)):
                    while unknown(node):
                        await node.directory.changed()
        except TimeoutError:
            missing = [
                f"member {number} does not know what {unknown(node)} hold"
                for number, node in enumerate(self.nodes)
                if unknown(node)
            ]
            raise DeadlinePassed(
                f"after {limit_s:.1f} s {'; '.join(missing)}; mend the links or give more "
                "load_deadline_s"
            ) from None

    def _observe(self, source: PeerId, target: PeerId, data: bytes) -> None:
        when = f"{asyncio.get_running_loop().time():.9f} {source} {target} ".encode()
        self._trace.update(when + data)
        for tap in self.taps:
            tap(source, target, data)
