"""The worker role: holds spans, runs other peers' steps through them, passes on what comes out.

Openings, new routes and closes are worked off in order of arrival, before any step: they make the
steps vanish that wait for what is over. Steps wait for their turn, each session's in its own order.
Knows nothing of why a route is as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, assert_never

from manyhands.domain.ids import PeerId, SessionId, short
from manyhands.domain.messages import (
    Beat,
    LinkLost,
    Message,
    Refused,
    Renew,
    Replay,
    Rewire,
    SessionClose,
)
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.work import SessionOpen, Step
from manyhands.engine.compute import Compute
from manyhands.errors import ManyhandsError, ProtocolError, ResourceError
from manyhands.node.allowance import Allowance
from manyhands.node.holdings import Holdings
from manyhands.node.memories import Key, Memories
from manyhands.node.opening import Opening
from manyhands.node.peers import Clock
from manyhands.node.rules import ALL_RULES, Rules
from manyhands.node.stage import StageMemory
from manyhands.node.stepping import Stepping, Taken, Took, refuse
from manyhands.node.turns import Place, Turns

log = logging.getLogger(__name__)


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
        took: Took = lambda _model, _span, _position, _seconds: None,
        allowance: Allowance | None = None,
    ) -> None:
        self._me, self._holdings = me, holdings
        self._clock, self._settings, self._rules = clock, settings, rules
        self._send = peers.send
        self._memories = Memories()
        self._stepping = Stepping(self._memories, compute, clock, settings, peers.send, rules, took)
        self._opening = Opening(
            me, holdings, self._memories, compute, clock, settings, peers.send, peers.connect, rules
        )
        self._queue: deque[_Arrived] = deque()
        self._turns: Turns[_Arrived] = Turns(clock, settings.chunk_tokens)
        self._arrived = asyncio.Event()
        self._loading: dict[Key, SessionOpen] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._allowance = allowance or Allowance(clock)
        self._paused: ManyhandsError | None = None
        self._finishes = False

    @property
    def memories(self) -> Memories:
        """Every session's state here."""
        return self._memories

    def pause(self, why: ManyhandsError, *, finishes: bool = False) -> None:
        """Take nothing new of others, and compute nothing of theirs unless this `finishes` it.

        Else their owners are told at once, so that others stand in; what is being computed is the
        last. What this peer asks of itself goes on.
        """
        self._paused, self._finishes = why, finishes
        if finishes:
            return
        for memory in self.of_others():
            self._drop(memory.session)
            refusal = Refused(memory.session, memory.epoch, memory.stage, why.code, str(why))
            self._send(memory.owner, refusal)
        for key, opening in list(self._loading.items()):
            if opening.owner != self._me:
                del self._loading[key]
                refuse(self._send, opening.owner, opening, why)

    def resume(self) -> None:
        """Take everything again."""
        self._paused, self._finishes = None, False

    def slept(self, unseen_s: float) -> None:
        """Time passed that our clock does not show: leases have run on."""
        for memory in self._memories.all():
            memory.heard_s -= unseen_s

    def of_others(self) -> list[StageMemory]:
        """The memories here of sessions that other peers opened."""
        return [memory for memory in self._memories.all() if memory.owner != self._me]

    async def run(self) -> None:
        """Work the queue off and beat; ends only by cancellation."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._beat())
            while True:
                if self._memories.discarded:
                    await self._opening.sweep()
                if self._queue:
                    await self._work_off()
                elif self._turns:
                    await self._steps()
                else:
                    self._arrived.clear()
                    await self._arrived.wait()

    def receive(self, source: PeerId, message: Message, done: Callable[[], None]) -> None:
        """A message for a stage of this peer; never waits."""
        match message:
            case SessionOpen() | Rewire():
                try:
                    self._check_owner(source, message)
                    self._check_gives(source, message.session)
                except ManyhandsError as error:
                    self._refuse(source, message, error)
                    done()
                    return
                if self._memories.of(message.session):
                    self._memories.announce(message.session, message.epoch)
                if self._rules.drop_old_epochs:
                    self._drop(message.session, message.epoch)
                if isinstance(message, SessionOpen):
                    self._prepare(_Arrived(source, message, done), message)
                else:
                    self._enqueue(_Arrived(source, message, done))
            case Step() | Replay():
                if self._gives_no_step_of(message.session):
                    done()  # its owner knows
                    return
                # A replay sends what the steps before it leave behind.
                tokens = len(message.token_ids) if isinstance(message, Step) else 0
                place = message.session, message.stage
                self._turns.add(place, message.epoch, tokens, _Arrived(source, message, done))
                self._arrived.set()
            case SessionClose(session):
                for key, opening in list(self._loading.items()):
                    if opening.session == session and opening.owner == source:
                        del self._loading[key]
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

    def _drop(self, session: SessionId, before_epoch: int | None = None) -> None:
        """What waits of a session that is over, or of an epoch that is, vanishes."""
        for arrived in self._turns.drop(session, before_epoch):
            arrived.done()

    def _prepare(self, arrived: _Arrived, opening: SessionOpen) -> None:
        """Queue an opening; first load its span, beside the queue, if it is not held."""
        span = opening.route.stages[opening.stage].span
        if self._holdings.find(opening.model, span) is not None:
            self._enqueue(arrived)
            return
        try:
            self._opening.check(opening)
        except ManyhandsError as error:
            refuse(self._send, arrived.source, opening, error)
            arrived.done()
            return
        if self._tasks is None:
            refuse(self._send, arrived.source, opening, ManyhandsError("this peer is starting"))
            arrived.done()
        else:
            self._loading[opening.session, span] = opening
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
            if self._loading.get((opening.session, span)) is opening:
                self._enqueue(arrived)
            else:  # closed, or opened anew, meanwhile
                arrived.done()
        finally:
            if self._loading.get((opening.session, span)) is opening:
                del self._loading[opening.session, span]

    async def _work_off(self) -> None:
        """The next message that is no step."""
        arrived = self._queue.popleft()
        message = arrived.message
        if isinstance(message, Step | Replay):
            raise TypeError("steps and replays wait for their turn, not in this queue")
        try:
            self._check_owner(arrived.source, message)
            if not isinstance(message, SessionClose):
                self._check_gives(arrived.source, message.session)
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
        message: SessionOpen | Rewire | Step | Replay | SessionClose,
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

    def _check_gives(self, owner: PeerId, session: SessionId) -> None:
        """Raise why nothing is taken of this owner now."""
        is_finished = self._finishes and self._memories.of(session)
        if self._paused is not None and owner != self._me and not is_finished:
            raise self._paused

    def _gives_no_step_of(self, session: SessionId) -> bool:
        if self._paused is None or self._finishes:
            return False
        return any(memory.owner != self._me for memory in self._memories.of(session))

    async def _control(self, message: SessionOpen | Rewire | SessionClose) -> None:
        match message:
            case SessionOpen():
                await self._opening.open(message)
            case Rewire():
                await self._opening.rewire(message)
            case SessionClose(session):
                self._drop(session)
                for memory in self._memories.of(session):
                    is_over = self._clock() - memory.heard_s > memory.lease_s  # nobody is there
                    await (self._opening.forget if is_over else self._opening.end)(memory)
            case _:
                assert_never(message)

    async def _steps(self) -> None:
        """The steps whose turn it is, together; first wait a moment for those about to come."""
        wait_s = max(self._turns.patience_s(), self._allowance.wait_s())
        if wait_s > 0:
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._arrived.wait()
            return
        began_s = self._clock()
        arrived = self._turns.take(self._engine_number)
        taken: list[Taken] = []
        for _, one in arrived:
            try:
                step = self._let_in(one)
            except ManyhandsError as error:
                self._refuse(one.source, one.message, error)
                step = None
            except Exception:  # the role's top loop: no step may end the worker, or hold it up
                log.exception("a step could not be taken")
                step = None
            if step is None:
                one.done()
            else:
                taken.append(step)
        if taken:
            await self._stepping.run(self._memories.engine(taken[0].memory), taken)
        took_s = self._clock() - began_s
        self._allowance.computed(took_s)
        self._turns.served((place for place, _ in arrived), took_s)

    def _let_in(self, arrived: _Arrived) -> Taken | None:
        """The step to compute; None for a replay, which is sent at once, and for what is over."""
        message = arrived.message
        if not self._memories.of(message.session):
            self._drop(message.session)  # of a session that is over, nothing else may linger
        elif isinstance(message, Replay):
            self._check_owner(arrived.source, message)
            self._stepping.replay(message)
        elif isinstance(message, Step):
            memory = self._stepping.let_in(arrived.source, message)
            return None if memory is None else Taken(message, memory, arrived.done)
        return None

    def _engine_number(self, place: Place) -> int:
        memory = self._memories.at(*place)
        return 0 if memory is None else id(self._memories.engine(memory))

    async def _beat(self) -> None:
        """Tell owners that their sessions are alive here; end those whose owner is gone."""
        while True:
            await asyncio.sleep(self._settings.beat_every_s)
            now_s = self._clock()
            self._memories.discard_expired(now_s)
            if self._memories.discarded:
                self._arrived.set()
            waiting = self._turns.waiting()
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
            for opening in self._loading.values():
                self._send(
                    opening.owner, Beat(opening.session, opening.epoch, opening.stage, 0, 0.0)
                )


def _nothing_to_do() -> None:
    """Our own messages to ourselves free no place."""
