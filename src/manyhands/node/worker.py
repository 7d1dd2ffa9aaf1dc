"""The worker role: holds spans, runs other peers' steps through them, passes on what comes out.

Everything that touches a session's memory goes through one queue, in order of arrival, so that a
close or a new route never overtakes the step before it. Knows nothing of why a route is as it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, assert_never

from manyhands.codec import codec
from manyhands.domain.ids import PeerId, short
from manyhands.domain.messages import (
    Beat,
    LinkLost,
    Message,
    Ready,
    Renew,
    Replay,
    Rewire,
    SessionClose,
)
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.work import SessionOpen, Step
from manyhands.engine.compute import Compute
from manyhands.engine.engine import Engine
from manyhands.errors import ManyhandsError, NotServed, ProtocolError, ResourceError, SessionUnknown
from manyhands.node.holdings import Holdings
from manyhands.node.memories import Key, Memories
from manyhands.node.peers import Clock
from manyhands.node.rules import ALL_RULES, Rules
from manyhands.node.stage import StageMemory
from manyhands.node.stepping import Stepping, Taken, refuse

log = logging.getLogger(__name__)

BATCH_STEPS = 32

MOST_LEASES = 10
"""Nobody may ask for a lease of more than this many of our own."""


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A message in the queue, and what to call when it is worked off."""

    source: PeerId
    message: SessionOpen | Rewire | Step | Replay | SessionClose
    done: Callable[[], None]


class Links(Protocol):
    """What a worker needs of the connections to other peers."""

    def send(self, peer: PeerId, message: Message) -> None:
        """Queue a message; never waits."""

    def connect(self, peer: PeerId) -> None:
        """Open a connection before it is needed."""


class Worker:
    """One peer's work for the sessions of others (and its own)."""

    def __init__(
        self,
        me: PeerId,
        holdings: Holdings,
        compute: Compute,
        clock: Clock,
        settings: Settings,
        peers: Links,
        rules: Rules = ALL_RULES,
    ) -> None:
        self._me, self._holdings, self._compute = me, holdings, compute
        self._clock, self._settings = clock, settings
        self._send, self._connect = peers.send, peers.connect
        self._rules = rules
        self._memories = Memories()
        self._stepping = Stepping(self._memories, compute, clock, settings, peers.send, rules)
        self._queue: deque[_Arrived] = deque()
        self._arrived = asyncio.Event()
        self._opening: dict[Key, SessionOpen] = {}
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def memories(self) -> Memories:
        """Every session's state here."""
        return self._memories

    async def run(self) -> None:
        """Work the queue off and beat; ends only by cancellation."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._beat())
            while True:
                while not self._queue:
                    self._arrived.clear()
                    await self._arrived.wait()
                await self._work_off()

    def receive(self, source: PeerId, message: Message, done: Callable[[], None]) -> None:
        """A message for a stage of this peer; never waits."""
        match message:
            case SessionOpen() | Rewire():
                try:
                    self._check_owner(source, message)
                except ProtocolError as error:
                    self._refuse(source, message, error)
                    done()
                    return
                if self._memories.of(message.session):
                    self._memories.announce(message.session, message.epoch)
                if isinstance(message, SessionOpen):
                    self._prepare(_Arrived(source, message, done), message)
                else:
                    self._enqueue(_Arrived(source, message, done))
            case Step() | Replay() | SessionClose():
                self._enqueue(_Arrived(source, message, done))
            case Renew(session):
                for memory in self._memories.of(session):
                    if memory.owner == source:
                        memory.heard_s = self._clock()
            case _:
                log.warning("a %s is not for a worker", type(message).__name__)

    def link_lost(self, peer: PeerId) -> None:
        """What was sent to `peer` may not have arrived: tell the owners of sessions through it."""
        for memory in self._memories.all():
            following = memory.next_stage
            if following is not None and following.peer == peer and peer != self._me:
                self._send(memory.owner, LinkLost(memory.session, memory.epoch, self._me, peer))

    def _enqueue(self, arrived: _Arrived) -> None:
        self._queue.append(arrived)
        self._arrived.set()

    def _prepare(self, arrived: _Arrived, opening: SessionOpen) -> None:
        """Queue an opening; first load its span, beside the queue, if it is not held."""
        span = opening.route.stages[opening.stage].span
        if self._holdings.find(opening.model, span) is not None:
            self._enqueue(arrived)
            return
        try:
            self._check(opening)
        except ManyhandsError as error:
            refuse(self._send, arrived.source, opening, error)
            arrived.done()
            return
        if self._tasks is None:
            refuse(self._send, arrived.source, opening, ManyhandsError("this peer is starting"))
            arrived.done()
        else:
            self._opening[opening.session, span] = opening
            self._tasks.create_task(self._load(arrived, opening, span))

    async def _load(self, arrived: _Arrived, opening: SessionOpen, span: Span) -> None:
        try:
            await self._holdings.hold(opening.model, span)
        except ManyhandsError as error:
            refuse(self._send, arrived.source, opening, error)
            arrived.done()
        except Exception as error:  # a disk or an engine that fails must not end the worker
            log.exception("span %s could not be loaded", span)
            refuse(self._send, arrived.source, opening, ResourceError(repr(error)))
            arrived.done()
        else:
            self._enqueue(arrived)
        finally:
            if self._opening.get((opening.session, span)) is opening:
                del self._opening[opening.session, span]

    async def _work_off(self) -> None:
        """The next message, or the next steps that can be computed together."""
        message = self._queue[0].message
        if isinstance(message, Step):
            waiting = len(self._queue)
            try:
                await self._steps()
            except Exception:  # the role's top loop: no step may end the worker, or hold it up
                log.exception("steps could not be worked off")
                if len(self._queue) >= waiting:
                    self._queue.popleft().done()
            return
        arrived = self._queue.popleft()
        try:
            self._check_owner(arrived.source, message)
            await self._control(message)
        except ManyhandsError as error:
            self._refuse(arrived.source, message, error)
        except Exception as error:  # the role's top loop: no message may end the worker
            log.exception("a message could not be worked off")
            self._refuse(arrived.source, message, ManyhandsError(repr(error)))
        arrived.done()

    def _refuse(
        self,
        source: PeerId,
        message: SessionOpen | Rewire | Replay | SessionClose,
        error: ManyhandsError,
    ) -> None:
        if isinstance(message, SessionClose):
            log.warning("a session was not closed: %s", error)
        else:
            refuse(self._send, source, message, error)

    def _check_owner(
        self, source: PeerId, message: SessionOpen | Rewire | Replay | SessionClose
    ) -> None:
        """Only the owner of a session decides anything about it."""
        owners = {memory.owner for memory in self._memories.of(message.session)}
        if isinstance(message, SessionOpen):
            owners.add(message.owner)
        if owners - {source}:
            raise ProtocolError(f"{short(source)} does not own session {short(message.session)}")

    async def _control(self, message: SessionOpen | Rewire | Replay | SessionClose) -> None:
        match message:
            case SessionOpen():
                await self._open(message)
            case Rewire():
                await self._rewire(message)
            case Replay():
                self._stepping.replay(message)
            case SessionClose(session):
                for memory in self._memories.of(session):
                    await self._forget(memory)
            case _:
                assert_never(message)

    async def _open(self, opening: SessionOpen) -> None:
        span = opening.route.stages[opening.stage].span
        known = self._memories.by_key.get((opening.session, span))
        if known is not None:
            await self._take_up(known, opening)
            return
        self._check(opening)
        engine = self._engine_for(opening, span)
        if engine is None:
            raise SessionUnknown(f"span {span} of {short(opening.model)} is not held any more")
        parent, at = opening.parent, opening.parent_position
        is_kept = self._holdings.model(opening.model).spec.keeps_memory
        memory = StageMemory(opening, self._clock(), self._rules, is_kept)
        memory.lease_s = min(opening.lease_s, MOST_LEASES * self._settings.lease_s)
        source = self._memories.by_key.get((parent, span)) if parent is not None else None
        if parent is not None:
            if source is None or source.owner != opening.owner or source.length < at:
                raise SessionUnknown(
                    f"session {short(opening.session)} forks {short(parent)} at {at}, which is not "
                    "held here; open it without a parent"
                )
            memory.tokens, memory.journal = source.tokens[:at], source.journal.copy(at)
        forked = source.name if source is not None else None
        await self._compute.run(
            lambda: engine.open(memory.name, opening.context_limit, forked, at, span), 0.0
        )
        self._memories.add(memory, engine)
        await self._drop_strays(memory)
        self._ready(memory)

    def _engine_for(self, opening: SessionOpen, span: Span) -> Engine | None:
        """A fork stays in its parent's engine; else the smallest that covers the span."""
        parent = opening.parent
        source = self._memories.by_key.get((parent, span)) if parent is not None else None
        if source is not None:
            return self._memories.engine(source)
        return self._holdings.find(opening.model, span)

    def _check(self, opening: SessionOpen) -> None:
        """Refuse what this peer cannot compute as the profile says."""
        model = self._holdings.model(opening.model)
        mine, asked = model.profile, opening.profile
        if mine.weights != asked.weights or not asked.allows(mine.kernels):
            raise NotServed(
                f"the session asks for {asked.kernels} on weights {short(asked.weights)}; this "
                f"peer computes {mine.kernels} on {short(mine.weights)}"
            )
        known = asked.wire_codec in codec.names()
        if not known or codec.named(asked.wire_codec).takes != "numbers":
            raise NotServed(f"codec {asked.wire_codec!r} carries no hidden states here")
        if opening.context_limit > model.spec.context:
            raise NotServed(
                f"a context of {opening.context_limit} tokens was asked for; the model has "
                f"{model.spec.context}"
            )

    async def _rewire(self, rewiring: Rewire) -> None:
        span = rewiring.route.stages[rewiring.stage].span
        memory = self._memories.by_key.get((rewiring.session, span))
        if memory is None:
            raise SessionUnknown(f"session {short(rewiring.session)} is not held on {span}")
        await self._take_up(memory, rewiring)

    async def _take_up(self, memory: StageMemory, rewiring: Rewire | SessionOpen) -> None:
        """A newer epoch: cut the memory, keep what stays true, say what is held."""
        if not memory.rewire(rewiring):
            return
        memory.heard_s = self._clock()
        engine, length = self._memories.engine(memory), memory.length
        try:
            await self._compute.run(lambda: engine.truncate(memory.name, length), 0.0)
        except SessionUnknown:
            self._memories.remove(memory)  # what it held is gone: the owner must open it anew
            raise
        await self._drop_strays(memory)
        self._ready(memory)

    async def _drop_strays(self, memory: StageMemory) -> None:
        """Free what this session holds here for spans that its newest route gives to others."""
        ours = {s.span for s in memory.route.stages if s.peer == self._me}
        for other in self._memories.of(memory.session):
            if other.span not in ours and other.epoch < memory.epoch:
                await self._forget(other)

    def _ready(self, memory: StageMemory) -> None:
        if memory.next_stage is not None:
            self._connect(memory.next_stage.peer)
        self._send(
            memory.owner,
            Ready(memory.session, memory.epoch, memory.stage, memory.length, memory.history()),
        )

    async def _steps(self) -> None:
        """Steps from the front of the queue that share an engine, one a session, together.

        No more tokens than one chunk has: a batch must not take much longer than a step.
        """
        taken: list[Taken] = []
        engine: Engine | None = None
        tokens = 0
        while self._queue and len(taken) < BATCH_STEPS:
            step = self._queue[0].message
            if not isinstance(step, Step):
                break
            memory = self._memories.at(step.session, step.stage)
            held_by = None if memory is None else self._memories.engine(memory)
            is_second = any(one.step.session == step.session for one in taken)
            is_apart = held_by is not None and held_by is not engine
            is_too_much = tokens + len(step.token_ids) > self._settings.chunk_tokens
            if taken and (is_second or is_apart or is_too_much):
                break
            arrived = self._queue.popleft()
            memory = self._stepping.let_in(arrived.source, step)
            if memory is None:
                arrived.done()
                continue
            engine, tokens = held_by, tokens + len(step.token_ids)
            taken.append(Taken(step, memory, arrived.done))
        if engine is not None:
            await self._stepping.run(engine, taken)

    async def _forget(self, memory: StageMemory) -> None:
        engine = self._memories.engine(memory)
        self._memories.remove(memory)
        await self._compute.run(lambda: engine.close(memory.name), 0.0)

    async def _beat(self) -> None:
        """Tell owners that their sessions are alive here; end those whose owner is gone."""
        while True:
            await asyncio.sleep(self._settings.beat_every_s)
            now_s = self._clock()
            waiting = {
                arrived.message.session
                for arrived in self._queue
                if isinstance(arrived.message, Step)
            }
            for memory in self._memories.all():
                if now_s - memory.heard_s > memory.lease_s and self._rules.end_leases:
                    log.info("the lease of session %s ended", short(memory.session))
                    self._enqueue(
                        _Arrived(memory.owner, SessionClose(memory.session), _nothing_to_do)
                    )
                    continue
                since_s = memory.running_since_s
                if since_s is None and memory.session in waiting:
                    since_s = self._stepping.running_since_s  # others' steps come first: be patient
                running_s = 0.0 if since_s is None else now_s - since_s
                self._send(
                    memory.owner,
                    Beat(memory.session, memory.epoch, memory.stage, memory.finished, running_s),
                )
            for opening in self._opening.values():
                self._send(
                    opening.owner, Beat(opening.session, opening.epoch, opening.stage, 0, 0.0)
                )


def _nothing_to_do() -> None:
    """Our own messages to ourselves free no place."""
