"""Swarms of real processes for tests: an owner here that holds nothing, `hands join` children.

As a script it is a process of such a swarm that can be killed: `own`, an owner of its own, or
`parent`, one that starts children.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from manyhands.cli.words import device_here
from manyhands.domain.ids import PeerId, SessionId
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span, even_cuts
from manyhands.domain.work import Sampling
from manyhands.engine.engine import Chunk, Engine
from manyhands.engine.sampler import draw
from manyhands.errors import ManyhandsError
from manyhands.launch.founding import Founding, Ports, found_swarm
from manyhands.launch.joining import enter, read_door
from manyhands.launch.local import LocalPeer, LocalPeers
from manyhands.node.answer import Answer, Request
from manyhands.node.app import Node
from manyhands.node.live import Listening, LivePeer
from manyhands.node.model import Model
from manyhands.node.opened import Opened, open_model
from manyhands.node.owner import Owner
from manyhands.node.ring import Ring
from manyhands.sim.emulator import Emulator
from manyhands.store.home import Home
from manyhands.trust.invite import read_invite

PATIENCE_S = 120.0
"""A process on a busy machine may take this long to start; nothing waits longer."""

SETTINGS = Settings(context_limit=512)
GREEDY, SAMPLED = Sampling(), Sampling(seed=7, temperature=1.5, top_k=40)


class ProcessHouse:
    """A founder that only asks, and the processes it started."""

    def __init__(
        self, founding: Founding, peers: LocalPeers, network: Emulator | None = None
    ) -> None:
        self.founding, self.peers, self.network = founding, peers, network
        self.node, self.model = founding.node, founding.opened.model

    @property
    def thirds(self) -> tuple[Span, ...]:
        """The model's layers in three."""
        return even_cuts(len(self.model.spec.layers), 3)

    async def start(self, span: Span | None, *options: str) -> LocalPeer:
        """One more process; it may not be ready yet. In a network it is `peer-1` and so on."""
        founding, name = self.founding, f"peer-{len(self.peers.peers) + 1}"
        if self.network is not None:
            port, public_port = await gated(self.network, name)
            options += ("--port", str(port), "--public-port", str(public_port))
        peer = await self.peers.start(
            founding.door, founding.founder.invite(), founding.opened.folder, span, *options
        )
        if self.network is not None:
            await self.network.know(name, peer.process.pid)
        return peer

    async def settled(self, node: Node | None = None) -> None:
        """Return once all processes that live are ready, and an owner (ours) knows so."""
        directory = (node or self.node).directory
        for peer in self.peers.alive():
            await peer.ready(PATIENCE_S)
        names = {name_of(peer) for peer in self.peers.alive()}
        async with asyncio.timeout(PATIENCE_S):
            while not names <= ready_in(directory.swarm):
                await directory.changed()

    def answer(
        self,
        prompt: Sequence[int],
        tokens: int,
        sampling: Sampling = GREEDY,
        owner: Owner | None = None,
    ) -> Answer:
        """One that no end token ends."""
        request = Request(tuple(prompt), tokens, sampling)
        return Answer(owner or self.node.owner, self.model, request, None)

    def named(self, name: PeerId) -> LocalPeer:
        """The process with this key."""
        return next(peer for peer in self.peers.peers if peer.told.get("peer") == name)

    def at(self, place: int, owner: Owner | None = None) -> LocalPeer:
        """Who runs the embedding (0), a layer in the middle (1) or the head (2) of the newest
        session."""
        layers = len(self.model.spec.layers)
        layer = (0, layers // 2, layers - 1)[place]
        route = newest(owner or self.node.owner).route
        return self.named(next(stage.peer for stage in route.stages if layer in stage.span))


@contextlib.asynccontextmanager
async def house(
    folder: Path,
    opened: Opened,
    spans: Sequence[Span | None] = (),
    *options: str,
    settings: Settings = SETTINGS,
    network: Emulator | None = None,
) -> AsyncIterator[ProcessHouse]:
    """A swarm with a process for each span, all ready; all ended on the way out.

    In a `network` all reach each other over its links only; we are `owner` there.
    """
    ports = Ports()
    if network is not None:
        port, public_port = await gated(network, "owner")
        ports = Ports(peers=port, public_port=public_port)
        await network.know("owner", os.getpid())
    with Home(folder / "owner") as home:
        owner = found_swarm(home, opened, device_here(None), settings, ports, holds=False)
        async with owner as founding, LocalPeers(folder, 3) as peers:
            made = ProcessHouse(founding, peers, network)
            for span in spans:
                await made.start(span, *options)
            await made.settled()
            yield made


async def gated(network: Emulator, name: str) -> tuple[int, int]:
    """A free port of this machine for a peer, and the gate by which others reach it there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return port, await network.gate(name, port)


@contextlib.asynccontextmanager
async def second_owner(
    folder: Path, door: str, invite: str, opened: Opened, settings: Settings = SETTINGS
) -> AsyncIterator[Node]:
    """A member that was let in at the door, holds nothing, and asks as well."""
    nothing_stored = replace(opened.model, stored=())
    with Home(folder) as home:
        keys = home.keys()
        entered = await enter(home, keys, read_door(door), read_invite(invite), settings)
        peer = LivePeer(
            entered.membership,
            (nothing_stored,),
            device_here(None),
            settings,
            Listening(entered.own_host),
        )
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(peer.run())
            await peer.node.started()
            for contact in entered.admission.contacts:
                peer.node.directory.join(contact.peer, contact.address)
            try:
                yield peer.node
            finally:
                running.cancel()


def name_of(peer: LocalPeer) -> PeerId:
    """The key it told."""
    return PeerId(peer.told["peer"])


def ready_in(swarm) -> set[PeerId]:
    """Peers that hold something."""
    return {
        name
        for name, record in swarm.peers.items()
        if any(held.state == "ready" for held in record.holdings)
    }


def newest(owner: Owner) -> Ring:
    """The session opened last."""
    return next(reversed(owner._sessions.values())).ring


async def spoken(answer: Answer) -> list[int]:
    """All tokens of an answer."""
    async for _ in answer.pieces():
        pass
    return ids(answer)


def ids(answer: Answer) -> list[int]:
    """Its tokens so far."""
    return [token.id for token in answer.tokens]


async def struck(
    answer: Answer, token: int, strike: Callable[[], None], after_s: float = 0.0
) -> list[int]:
    """All tokens of an answer, struck some time after `token` of them were spoken.

    At -1 it is struck while the prompt is fed, as soon as a part of it was sent. Where the answer
    is over before, nobody is struck.
    """

    async def strike_later() -> None:
        if token < 0:
            sessions = answer._owner._sessions
            await until(lambda: sessions and newest(answer._owner).sequence, "a step", 0.0)
        await asyncio.sleep(after_s)
        if not answer.finish:
            strike()

    failed: ManyhandsError | None = None
    async with asyncio.TaskGroup() as tasks:
        if token < 0:
            tasks.create_task(strike_later())
        try:
            async for _ in answer.pieces():
                if len(answer.tokens) == token:
                    tasks.create_task(strike_later())
                    await asyncio.sleep(0)
        except ManyhandsError as error:
            failed = error  # itself, not in a group
    if failed is not None:
        raise failed
    return ids(answer)


async def until(condition: Callable[[], object], what: str, every_s: float = 0.05) -> None:
    """Return once it is true."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, f"{what} did not come about in {PATIENCE_S} s"
        await asyncio.sleep(every_s)


class Judge:
    """Compares texts with the undisturbed one; differences must start at a near-tie.

    Numbers of one row computed alone and among others differ by up to the profile's tolerance (see
    PROTOCOL), so a token may change where the two best (noisy) scores are closer than twice that.
    """

    def __init__(self, model: Model) -> None:
        self.near_ties = 0
        self._model = model
        self._engine: Engine | None = None

    def must_be_same(
        self, prompt: Sequence[int], sampling: Sampling, said: list[int], text: list[int]
    ) -> None:
        """`said` is `text`, or differs from a near-tie on."""
        assert len(said) == len(text)
        if said == text:
            return
        at = next(n for n, (one, other) in enumerate(zip(said, text, strict=True)) if one != other)
        tokens = [*prompt, *text[:at]]
        scores = self._scores(tokens)
        gap = self._least_push(scores, sampling, tokens, said[at])
        assert gap < self._model.profile.tolerance, f"token {at} differs, gap {gap}"
        self.near_ties += 1

    def _scores(self, tokens: list[int]) -> np.ndarray:
        if self._engine is None:
            self._engine = self._model.load(self._model.spec.span)
        name = SessionId("judge")
        self._engine.open(name, len(tokens))
        chunk = Chunk(name, 0, tuple(tokens), None, (len(tokens) - 1,))
        scores = self._engine.step([chunk])[0].scores[0]
        self._engine.close(name)
        return scores

    def _least_push(
        self, scores: np.ndarray, sampling: Sampling, tokens: list[int], wanted: int
    ) -> float:
        """How far one score must rise, and all others fall, until `wanted` is drawn."""
        for push in self._model.profile.tolerance * np.array([0, 0.25, 0.5, 0.75, 0.99]):
            pushed = scores - np.float32(push)
            pushed[wanted] += np.float32(2 * push)
            if draw(pushed, sampling, len(tokens), tokens, _WANT).token == wanted:
                return float(push)
        return np.inf


_WANT = Request((0,), 1).want


async def _own(folder: Path, door: str, model: str, engine: str, dtype: str) -> None:
    """Be an owner that asks for a long answer, one line a token, until killed."""
    opened = open_model(model, SETTINGS, engine=engine, dtype=dtype)
    invite = sys.stdin.readline().strip()
    settings = Settings(context_limit=512, lease_s=2.0)
    async with second_owner(folder, door, invite, opened, settings) as node:
        while len(ready_in(node.directory.swarm)) < 2:
            await node.directory.changed()
        request = Request((5, 6, 7), 500)
        answer = Answer(node.owner, opened.model, request, None)
        async for _ in answer.pieces():
            print(json.dumps(ids(answer)[-1]), flush=True)
            await asyncio.sleep(0.02)


async def _parent(folder: Path, model: str) -> None:
    """Be a parent: start two children, say their process ids, wait."""
    opened = open_model(model, SETTINGS, engine="numpy")
    spans = even_cuts(len(opened.model.spec.layers), 2)
    async with house(folder, opened, spans) as made:
        print(json.dumps([peer.process.pid for peer in made.peers.peers]), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    forgotten = threading.Timer(2 * PATIENCE_S, os._exit, [1])  # a test that fails kills nobody
    forgotten.daemon = True
    forgotten.start()
    role, where, *rest = sys.argv[1:]
    asyncio.run({"own": _own, "parent": _parent}[role](Path(where), *rest))
