"""A peer's part in a plan of moves: it loads what it is asked to, and lets go without a loss.

Only of models that were given for that, within its memory, and only for who decides. What it
lets go of drains first: no new session is routed there, those under way move or end. Should the
others lose those layers meanwhile, or sessions stay too long, they are kept. Knows no plans.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from manyhands.domain.ids import ModelId, PeerId, short
from manyhands.domain.messages import AskMove, NotMoved
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.swarm import Change
from manyhands.engine.engine import Engine
from manyhands.errors import DeadlinePassed, ManyhandsError, PeerError, ResourceError
from manyhands.node.holdings import Holdings
from manyhands.node.memories import Memories
from manyhands.node.peers import Clock
from manyhands.node.ring import View
from manyhands.plan.cost import MEMORY_SHARE, Cost, kv_bytes, memory_bytes
from manyhands.plan.moves import decider
from manyhands.plan.phases import without

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
"""At what drains."""

GRACE_S = 1.0
"""So long after saying so nothing is let go of: by then the others know, and any of them may say
that it lets go of the same.
"""

Order = tuple[ModelId, Span]


@dataclass(frozen=True, slots=True)
class Followed:
    """A model that is placed by plan. `tokens` are those that memory is planned for; `is_movable`
    where our own layers of it are.
    """

    model: ModelId
    founder: PeerId
    tokens: int
    is_movable: bool


class Mover:
    """Use: `run` as a task, `follow` models, `receive` what is asked."""

    def __init__(
        self,
        me: PeerId,
        memory_bytes: int,
        holdings: Holdings,
        memories: Memories,
        view: View,
        clock: Clock,
        settings: Settings,
        send: Callable[[PeerId, NotMoved], None],
    ) -> None:
        self._me, self._memory_bytes, self._holdings, self._memories = (
            me,
            memory_bytes,
            holdings,
            memories,
        )
        self._view, self._clock, self._settings, self._send = view, clock, settings, send
        self._followed: dict[ModelId, Followed] = {}
        self._under_way: set[Order] = set()
        self._asked: asyncio.Queue[tuple[PeerId, AskMove]] = asyncio.Queue()

    @property
    def models(self) -> tuple[ModelId, ...]:
        """Those whose layers may move here."""
        return tuple(sorted(m for m, one in self._followed.items() if one.is_movable))

    def follow(self, followed: Followed) -> None:
        """From now on who decides may ask us to move this model's layers."""
        self._followed[followed.model] = followed

    def receive(self, source: PeerId, message: AskMove) -> None:
        """Somebody asks for a move; never waits."""
        try:  # before it is counted as asked: a stranger's hides nothing
            self._check(source, message.model, message.span)
        except ManyhandsError as error:
            self._refuse(source, message, error)
            return
        order = message.model, message.span
        if order not in self._under_way:  # asked again, or by the next who decides
            self._under_way.add(order)
            self._asked.put_nowait((source, message))

    async def run(self) -> None:
        """Do what is asked, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                source, message = await self._asked.get()
                tasks.create_task(self._do(source, message))

    async def _do(self, source: PeerId, asked: AskMove) -> None:
        try:
            followed = self._check(source, asked.model, asked.span)
            if asked.change == "load":
                self._check_room(followed, asked.span)
                await self._holdings.hold(asked.model, asked.span)
            else:
                await self._let_go(asked.model, asked.span)
        except ManyhandsError as error:
            self._refuse(source, asked, error)
        except Exception as error:  # a disk or an engine that fails must not end the role
            log.exception("span %s could not be moved", asked.span)
            self._refuse(source, asked, ResourceError(repr(error)))
        finally:
            self._under_way.discard((asked.model, asked.span))

    def _refuse(self, source: PeerId, asked: AskMove, error: ManyhandsError) -> None:
        log.info("span %s was not moved (%s): %s", asked.span, asked.change, error)
        answer = NotMoved(asked.model, asked.span, asked.change, error.code, str(error)[:4000])
        self._send(source, answer)

    def _check(self, source: PeerId, model: ModelId, span: Span) -> Followed:
        followed = self._followed.get(model)
        if followed is None or not followed.is_movable:
            raise PeerError(f"the layers of model {short(model)} do not move at {short(self._me)}")
        decides = decider(self._view.swarm, model, followed.founder)
        if decides != source:
            raise PeerError(
                f"{short(source)} does not decide about model {short(model)}; "
                f"{short(decides) if decides is not None else 'nobody'} does"
            )
        if not self._holdings.model(model).spec.span.covers(span):
            raise PeerError(f"model {short(model)} has no layers {span.first}:{span.last}")
        return followed

    def _check_room(self, followed: Followed, span: Span) -> None:
        """Raise ResourceError where weights and planned key/value memory would be too much."""
        model = self._holdings.model(followed.model)
        cost = Cost(bytes_per_weight=model.bytes_per_weight, bytes_per_kv=model.bytes_per_kv)
        held = sum(
            kv_bytes(model.spec, own, followed.tokens, cost)
            for own in self._holdings.spans(followed.model)
        )
        need = memory_bytes(model.spec, span, followed.tokens, cost)
        reserve = round((1 - MEMORY_SHARE) * self._memory_bytes)
        free = self._holdings.room_bytes() - reserve - held
        is_held = self._holdings.find(followed.model, span) is not None
        if need > free and not is_held:
            raise ResourceError(
                f"layers {span.first}:{span.last} need {need} bytes with memory for "
                f"{followed.tokens} tokens, and {max(0, free)} are free at {short(self._me)}"
            )

    async def _let_go(self, model: ModelId, span: Span) -> None:
        """Drain, and drop once nobody is there any more; else keep, and raise why."""
        if span not in self._holdings.spans(model):
            return
        self._check_spare(model, span)
        engine = self._holdings.drain(model, span)
        try:
            await self._drained(model, span, engine)
        except BaseException:
            self._holdings.keep(model, span)
            raise
        self._holdings.drop(model, span)

    async def _drained(self, model: ModelId, span: Span, engine: Engine) -> None:
        """Return once no session is on it any more. Raises why it has to be kept."""
        began_s, users = self._clock(), 1
        while users or self._clock() - began_s < GRACE_S:
            await asyncio.sleep(LOOK_EVERY_S)
            self._check_spare(model, span)
            self._memories.discard_of(engine)
            users = self._memories.users(engine)
            if not self._holdings.is_draining(engine):
                raise ResourceError("they are wanted again")
            if users and self._clock() - began_s >= self._settings.drain_s:
                raise DeadlinePassed(f"{users} sessions stay on them")

    def _check_spare(self, model: ModelId, span: Span) -> None:
        """Raise ResourceError for layers that would be ready nowhere without this span."""
        held = [
            holding.span
            for peer, record in self._view.swarm.peers.items()
            for holding in record.holdings
            if holding.model == model
            and holding.state == "ready"
            and not (peer == self._me and holding.span == span)
        ]
        lost = without(span, held)
        if lost:
            names = ", ".join(f"{gap.first}:{gap.last}" for gap in lost)
            raise ResourceError(f"nobody else has layers {names} ready")


def asked_of(change: Change) -> str:
    """In a sentence."""
    return "load" if change == "load" else "let go of"
