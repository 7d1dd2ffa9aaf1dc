"""Whoever decides: looks where a model's layers are, and asks peers to move them where that pays.

One plan at a time, phase by phase; what a plan needs next is asked only once everybody's records
say that the phase before is done. Should anything fail, the plan is dropped: each state on the way
is one the swarm can work with, and the next look begins from what is there. Knows no sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import inf
from typing import Any

from manyhands.domain.ids import ModelId, PeerId, named, short
from manyhands.domain.messages import AskMove, NotMoved
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span, missing
from manyhands.domain.swarm import Swarm
from manyhands.engine.compute import Compute
from manyhands.node.model import Model
from manyhands.node.mover import Followed, asked_of
from manyhands.node.peers import Clock
from manyhands.node.ring import View
from manyhands.plan.cost import Cost
from manyhands.plan.moves import Moves, Wish, decider, is_settling, moves
from manyhands.plan.phases import Move

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
"""At the swarm, where it has changed; and at a peer that was asked."""

STEADY_S = 5.0
"""A plan is carried out once so long nothing else was wanted: a peer that comes and goes, or is
slow for a moment, moves nothing."""

ANSWER_S = 10.0
"""A peer that was asked does it, or says that it does, by then."""

UNABLE_S = 600.0
"""So long nothing is planned for a peer that did not do what it was asked: another may."""

AGAIN_S = 60.0
"""What did not pay, because it had just been moved, is counted anew this often."""


class Replanner:
    """Use: `run` as a task, `follow` models, `receive` refusals; `told` gets lines for a person.

    `by_hand` are spans of the models that a person has given to devices, by name or id.
    """

    def __init__(
        self,
        me: PeerId,
        model: Callable[[ModelId], Model],
        view: View,
        compute: Compute,
        clock: Clock,
        settings: Settings,
        send: Callable[[PeerId, AskMove], None],
    ) -> None:
        self.told: Callable[[str], None] = log.info
        self.by_hand: Mapping[str, Span] = {}
        self._me, self._model, self._view, self._compute = me, model, view, compute
        self._clock, self._settings, self._send = clock, settings, send
        self._followed: dict[ModelId, Followed] = {}
        self._moved_s: dict[ModelId, float] = {}
        self._failed_s: dict[ModelId, float] = {}
        self._wanted: dict[ModelId, tuple[Moves, float]] = {}
        self._looked: dict[ModelId, tuple[Any, float]] = {}
        self._asked: frozenset[tuple[ModelId, Move]] = frozenset()
        self._refused: dict[Move, str] = {}
        self._unable_s: dict[tuple[ModelId, PeerId], float] = {}

    def follow(self, followed: Followed) -> None:
        """From now on this model is placed anew where we decide and it pays."""
        self._followed[followed.model] = followed
        self._moved_s.setdefault(followed.model, self._clock() - self._settings.settle_s)

    def receive(self, source: PeerId, refusal: NotMoved) -> None:
        """A peer did not do what it was asked; of anything else nothing is kept."""
        move = Move(source, refusal.change, refusal.span)
        if (refusal.model, move) in self._asked:
            self._refused[move] = refusal.message

    async def run(self) -> None:
        """Look and act, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for followed in list(self._followed.values()):
                try:
                    plan = await self._look(followed)
                    if plan is not None:
                        await self._carry_out(followed, plan)
                except Exception:  # what others say of themselves must not end the role
                    log.exception("model %s could not be placed anew", short(followed.model))
                    self._failed_s[followed.model] = self._clock()

    async def _look(self, followed: Followed) -> Moves | None:
        """The moves to make now: those that were wanted for a while."""
        model, swarm, now_s = followed.model, self._view.swarm, self._clock()
        if self._must_wait(followed, swarm, now_s):
            self._wanted.pop(model, None)
            self._looked.pop(model, None)
            return None
        essence = _essence(swarm)
        seen, seen_s = self._looked.get(model, (None, -inf))
        known, known_s = self._wanted.get(model, (None, now_s))
        if essence == seen and now_s - seen_s < AGAIN_S:
            plan = known
        else:
            since_s = now_s - self._moved_s[model]
            plan = await self._plan(followed, swarm, since_s)
            self._looked[model] = essence, now_s
        if plan is None:
            self._wanted.pop(model, None)
            return None
        if known is None or plan.phases != known.phases:
            known_s = now_s
        self._wanted[model] = plan, known_s
        return plan if now_s - known_s >= STEADY_S else None

    async def _plan(self, followed: Followed, swarm: Swarm, since_s: float) -> Moves | None:
        model, swarm = self._model(followed.model), self._able(followed.model, swarm)
        is_founder_here = followed.founder in swarm.peers
        wish = Wish(
            model=followed.model,
            spec=model.spec,
            profile=model.profile,
            owner=followed.founder if is_founder_here else self._me,
            cost=Cost(bytes_per_weight=model.bytes_per_weight, bytes_per_kv=model.bytes_per_kv),
            tokens=followed.tokens,
            by_hand=self._by_hand(swarm),
        )
        gain = self._settings.move_gain
        # beside the loop: a search over many devices takes long
        return await self._compute.run(lambda: moves(swarm, wish, gain=gain, since_s=since_s), 0.0)

    def _able(self, model: ModelId, swarm: Swarm) -> Swarm:
        """The swarm where those who did not do what they were asked keep what they hold."""
        now_s = self._clock()
        self._unable_s = {one: s for one, s in self._unable_s.items() if s > now_s}
        unable = {peer for name, peer in self._unable_s if name == model}
        peers = {
            peer: replace(record, moves=()) if peer in unable else record
            for peer, record in swarm.peers.items()
        }
        return replace(swarm, peers=peers)

    def _by_hand(self, swarm: Swarm) -> dict[PeerId, Span]:
        """As far as those devices are here, and it is clear which is meant."""
        names = [(peer, record.name) for peer, record in swarm.peers.items()]
        meant = ((named(name, names), span) for name, span in self.by_hand.items())
        return {peers[0]: span for peers, span in meant if len(peers) == 1}

    def _must_wait(self, followed: Followed, swarm: Swarm, now_s: float) -> bool:
        """Others decide, or are about to change what is there, or all was moved a moment ago.

        Layers that nobody has, or is about to have, wait for no settling.
        """
        model, settle_s = followed.model, self._settings.settle_s
        if decider(swarm, model, followed.founder) != self._me:
            return True
        if now_s - self._failed_s.get(model, -inf) < settle_s:
            return True
        held = (
            holding.span
            for record in swarm.peers.values()
            for holding in record.holdings
            if holding.model == model and holding.state != "stored"
        )
        if missing(held, len(self._model(model).spec.layers)):
            return False
        return is_settling(swarm, model) or now_s - self._moved_s[model] < settle_s

    async def _carry_out(self, followed: Followed, plan: Moves) -> None:
        model = followed.model
        self._wanted.pop(model, None)
        self._looked.pop(model, None)
        self.told(plan.told(self._name))
        for phase in plan.phases:
            self._refused.clear()
            self._asked = frozenset((model, move) for move in phase)
            for move in phase:
                self._send(move.peer, AskMove(model, move.span, move.change))
            trouble = await self._done(followed, phase)
            if trouble is not None:
                self._failed_s[model] = self._clock()
                self.told(f"the move ends here: {trouble}")
                break
        self._asked = frozenset()
        self._moved_s[model] = self._clock()

    async def _done(self, followed: Followed, phase: Iterable[Move]) -> str | None:
        """Wait until records say that all of it is done; or why it will not be."""
        asked_s = self._clock()
        while True:
            swarm = self._view.swarm
            waiting = [m for m in phase if not _is_done(swarm, followed.model, m)]
            if not waiting:
                return None
            if decider(swarm, followed.model, followed.founder) != self._me:
                return "another peer decides now"
            is_late = self._clock() - asked_s > ANSWER_S
            for move in waiting:
                name = self._name(move.peer)
                what = f"{asked_of(move.change)} layers {move.span.first}:{move.span.last}"
                if move.peer not in swarm.peers:
                    return f"{name} is gone"
                is_unable = is_late and not _is_under_way(swarm, followed.model, move)
                if move.change == "load" and (is_unable or move in self._refused):
                    self._unable_s[followed.model, move.peer] = self._clock() + UNABLE_S
                if move in self._refused:
                    return f"{name} does not {what}: {self._refused[move]}"
                if is_unable:
                    return f"{name} does not {what}, and does not say why"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._view.changed()

    def _name(self, peer: PeerId) -> str:
        record = self._view.swarm.peers.get(peer)
        return record.name if record is not None and record.name else short(peer)


def _essence(swarm: Swarm) -> Any:
    """What a plan depends on: equal while records are only renewed."""
    told = tuple(
        (peer, replace(record, sequence=0, expires_s=0.0, queue_s=0.0))
        for peer, record in sorted(swarm.peers.items())
    )
    return told, tuple(sorted(swarm.links.items())), swarm.broken


def _states(swarm: Swarm, model: ModelId, move: Move) -> set[str]:
    """In which states the peer has the span: of what it loads, within any that is loaded."""
    record = swarm.peers.get(move.peer)
    return {
        held.state
        for held in (() if record is None else record.holdings)
        if held.model == model
        and (
            held.span == move.span
            or (move.change == "load" and held.state == "ready" and held.span.covers(move.span))
        )
    }


def _is_done(swarm: Swarm, model: ModelId, move: Move) -> bool:
    states = _states(swarm, model, move)
    if move.change == "load":
        return "ready" in states
    return move.peer in swarm.peers and not states & {"ready", "draining"}


def _is_under_way(swarm: Swarm, model: ModelId, move: Move) -> bool:
    states = _states(swarm, model, move)
    return ("fetching" if move.change == "load" else "draining") in states
