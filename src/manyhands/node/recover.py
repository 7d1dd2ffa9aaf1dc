"""How a session is opened and, after a setback, taken up again: route, new epoch, replay.

Each try is a new epoch: every stage confirms it and says what it holds; what is missing is replayed
from the journal of the stage before; only then do steps flow again.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from manyhands.domain.giving import TOLD
from manyhands.domain.ids import PeerId, short
from manyhands.domain.messages import Ready, Replay, Replayed, Rewire, SessionClose
from manyhands.domain.span import Span
from manyhands.domain.swarm import Swarm
from manyhands.domain.work import Result, Route, SessionOpen, Stage, Want
from manyhands.errors import DeadlinePassed, ManyhandsError, MemoryFull, NoStandIn, PeerPaused
from manyhands.node.ring import Ring
from manyhands.node.setback import Setback
from manyhands.node.stage import history_digest
from manyhands.plan.cost import span_s
from manyhands.plan.recovery import (
    OWNER,
    Facts,
    ReplaySpan,
    chunks,
    leaving,
    moved,
    new_route,
    replays,
    stand_ins,
)
from manyhands.plan.routing import route_s

log = logging.getLogger(__name__)

NOTHING = Want(rows="none", token=False)

OTHER_NEWS_S = 0.02
"""How long other news of the same loss may take: the plan is better when it knows them."""


class Recovery:
    """A way back to work; `recovered_s` and `moved_s` list how long recoveries and moves took."""

    def __init__(self, ring: Ring) -> None:
        self.recovered_s: list[float] = []
        self.moved_s: list[float] = []
        self._ring = ring
        self._attempts = 0
        self._began_s: float | None = None
        self._ready_s = 0.0
        self._refused: set[tuple[frozenset[PeerId], str]] = set()
        self._complained: set[PeerId] = set()
        self._is_open = False
        self._left: set[tuple[PeerId, Span]] = set()
        self._looked_at: Swarm | None = None
        self._move_from_s = 0.0

    def progressed(self) -> None:
        """A new token came: time and tries are counted anew."""
        if self._began_s is not None and self._ring.epoch > 1:
            self.recovered_s.append(self._ready_s - self._began_s)
        self._count_anew()

    def _count_anew(self) -> None:
        self._attempts, self._began_s = 0, None
        self._refused.clear()
        self._complained.clear()

    async def run(self, setback: Setback | None) -> None:
        """See `_run`; an error that goes to the user ends the count of time and tries."""
        try:
            await self._run(setback)
        except ManyhandsError:
            self._count_anew()
            raise

    async def _run(self, setback: Setback | None) -> None:
        """Make every stage of a route ready and filled up to what is confirmed.

        `setback` is None at the opening. Time and tries count from the first setback until a token
        comes. Raises NoStandIn, DeadlinePassed, or what the peers refused when nobody else is left.
        """
        ring = self._ring
        if self._began_s is None:
            self._began_s = ring.clock()
        while True:
            if setback is not None:
                await ring.hear_out(setback, OTHER_NEWS_S)
                self._note(setback)
            self._attempts += 1
            waited_s = ring.clock() - self._began_s
            is_late = waited_s >= ring.settings.recovery_deadline_s
            if is_late or self._attempts > ring.settings.recovery_attempts:
                raise DeadlinePassed(
                    f"session {short(ring.terms.session)} could not go on after "
                    f"{self._attempts - 1} tries in {waited_s:.1f} s; the last: "
                    f"{setback or 'none'}. Ask again, or with more peers"
                )
            deadline_s = self._began_s + ring.settings.recovery_deadline_s
            route = await self._find_route(setback, deadline_s)
            if setback is not None and setback.cause is not None:
                self._release(ring.route, route)
            try:
                lengths = await self._take_up(route)
                await self._refill(lengths)
            except Setback as another:
                setback = another
            else:
                self._ready_s = ring.clock()
                self._is_open = True
                return

    def is_to_move(self) -> bool:
        """True when peers want to let go of what we stand on, and it is time to try to leave."""
        ring = self._ring
        if not self._is_open or ring.clock() < self._move_from_s:
            return False
        if ring.view.swarm is self._looked_at:
            return False
        is_due = bool(self._to_leave())
        self._looked_at = None if is_due else ring.view.swarm
        return is_due

    def _to_leave(self) -> dict[int, tuple[PeerId, Span]]:
        """Stage -> what its peer wants to let go of; not what we left, which still drains."""
        ring, found = self._ring, dict[int, tuple[PeerId, Span]]()
        draining = set()
        for number, stage in enumerate(ring.route.stages):
            span = leaving(ring.view.swarm, ring.terms.model, stage.peer, stage.span)
            if span is not None:
                draining.add((stage.peer, span))
                found[number] = stage.peer, span
        self._left &= draining
        return {number: left for number, left in found.items() if left not in self._left}

    async def move(self) -> None:
        """Between two steps: leave stages whose peers want to let go of them, for what is ready.

        What fails leaves the session where it was, and is tried again later. Raises what `run`
        raises when it cannot stay there either.
        """
        ring = self._ring
        self._move_from_s = ring.clock() + ring.settings.forgive_after_s
        to_leave, before, began_s = self._to_leave(), ring.route, ring.clock()
        lost, broken = ring.suspicions.peers(), ring.suspicions.links()
        route = moved(
            ring.queued,
            ring.terms.spec,
            self._facts(),
            replace(ring.terms.cost, context=ring.confirmed),
            frozenset(to_leave),
            lost=lost,
            broken=broken,
        )
        if route is None:
            return
        ring.reopen |= {peer for peer, _ in to_leave.values()}
        try:
            await self._refill(await self._take_up(route))
        except Setback as setback:
            log.info("session %s was not moved: %s", short(ring.terms.session), setback)
            self._release(route, before)
            await self._stay(before, setback)
            return
        self._release(before, route)
        self._left |= set(to_leave.values())
        self._move_from_s = 0.0
        self.moved_s.append(ring.clock() - began_s)

    async def _stay(self, before: Route, setback: Setback) -> None:
        """On the route that stood before a move that failed; elsewhere if that fails as well."""
        ring = self._ring
        ring.suspicions.add(setback)
        if not setback.lost & set(before.peers()) and not setback.broken:
            try:
                await self._refill(await self._take_up(before))
            except Setback as another:
                setback = another
            else:
                return
        await self.run(setback)

    def _release(self, old: Route, route: Route) -> None:
        """What others of an old route set aside for us, and is not needed, is free again."""
        ring = self._ring
        for peer in old.peers():
            if peer not in route.peers():
                ring.send(peer, SessionClose(ring.terms.session))
                ring.opened = {stage for stage in ring.opened if stage.peer != peer}

    def _note(self, setback: Setback) -> None:
        """Suspect whom it names. What happens twice is no accident: a refusal is then raised, and
        a peer that only complains is suspected itself.
        """
        log.info("session %s: %s", short(self._ring.terms.session), setback)
        if setback.said_by in self._complained:
            setback.lost |= {setback.said_by}
        elif setback.said_by is not None:
            self._complained.add(setback.said_by)
        self._ring.suspicions.add(setback)
        if setback.cause is not None and not self._may_wait(setback):
            refusal = (setback.lost, setback.cause.code)
            if refusal in self._refused:
                raise setback.cause
            self._refused.add(refusal)

    async def _find_route(self, setback: Setback | None, deadline_s: float) -> Route:
        """A route now, or as soon as somebody who can stand in turns up."""
        ring = self._ring
        give_up_s = min(deadline_s, ring.clock() + ring.settings.stand_in_wait_s)
        while True:
            route = self._plan()
            if route is not None:
                return route
            now_s = ring.clock()
            is_late = now_s >= give_up_s
            if setback is not None and setback.cause is not None:
                # Waiting brings back who is lost, not who refuses, unless it is for memory.
                is_late = is_late or not self._may_wait(setback)
                if is_late:
                    raise setback.cause
            if is_late:
                raise NoStandIn(
                    f"nobody can hold all layers of the model"
                    f"{f' ({setback})' if setback is not None else ''}; "
                    f"{len(ring.view.swarm.peers)} peers are here{self._pauses()}. Let another "
                    "device join, then ask again"
                )
            until_s = min(give_up_s, now_s + ring.settings.forgive_after_s / 4)
            try:
                async with asyncio.timeout_at(until_s):
                    await ring.view.changed()
            except TimeoutError:
                continue

    def _pauses(self) -> str:
        """Who of those that are here gives nothing, and why."""
        records = self._ring.view.swarm.peers.values()
        return "".join(
            f"; {short(one.peer)} gives nothing: {TOLD[one.paused]}"
            for one in records
            if one.paused
        )

    def _may_wait(self, setback: Setback) -> bool:
        """Who pauses comes back, or another joins. An open session waits for a full stand-in; one
        that is not open yet holds nothing.
        """
        is_full = self._is_open and isinstance(setback.cause, MemoryFull)
        return is_full or isinstance(setback.cause, PeerPaused)

    def _plan(self) -> Route | None:
        ring, terms = self._ring, self._ring.terms
        suspects = (ring.suspicions.peers(), ring.suspicions.links())
        plan = stand_ins if ring.epoch else new_route
        return plan(
            ring.queued,
            terms.spec,
            self._facts(),
            replace(terms.cost, context=ring.confirmed),
            lost=suspects[0],
            broken=suspects[1],
        )

    def _facts(self) -> Facts:
        ring, terms = self._ring, self._ring.terms
        return Facts(
            terms.model,
            terms.owner,
            terms.profile,
            ring.route,
            ring.confirmed,
            terms.context_limit,
        )

    async def _take_up(self, route: Route) -> list[int]:
        """Begin a new epoch on `route`; how many tokens each stage holds, once all are ready."""
        ring = self._ring
        ring.begin(route)
        for number, stage in enumerate(route.stages):
            is_known = stage in ring.opened and stage.peer not in ring.reopen
            opening = self._rewire(number) if is_known else self._open(number)
            ring.send(stage.peer, opening)
        self._expect(route)
        lengths: dict[int, int] = {}
        until_s = ring.clock() + ring.settings.load_deadline_s  # loading has a deadline of its own
        while len(lengths) < len(route) and ring.rules.wait_until_ready:
            message = await ring.next("readiness of every stage", until_s)
            if isinstance(message, Ready):
                lengths[message.stage] = self._usable(message)
        for stage in route.stages:
            self._label(stage)
            ring.opened.add(stage)
            ring.reopen.discard(stage.peer)
        return [lengths.get(number, 0) for number in range(len(route))]

    def _expect(self, route: Route) -> None:
        """Tell the watch how long the plan thinks that one chunk takes, and choose its size."""
        ring = self._ring
        # without memory a step is a whole sequence
        is_whole = not ring.terms.spec.keeps_memory
        most = max(ring.settings.chunk_tokens, ring.terms.source)
        longest = ring.terms.context_limit if is_whole else most
        swarm, cost = ring.queued, replace(ring.terms.cost, tokens=longest)
        spec, peers = ring.terms.spec, swarm.peers
        if any(stage.peer not in peers for stage in route.stages):
            return
        ring.liveness.expect(route_s(swarm, spec, ring.terms.owner, route, cost))

        def predict(tokens: int, position: int) -> list[float]:
            step = replace(cost, tokens=tokens, context=position)
            return [span_s(spec, s.span, peers[s.peer].device, step) for s in route.stages]

        ring.pace.begin(predict)

    def _label(self, stage: Stage) -> None:
        record = self._ring.view.swarm.peers.get(stage.peer)
        if record is not None:
            self._ring.kernels[record.kernels] = None

    def _rewire(self, number: int) -> Rewire:
        ring = self._ring
        return Rewire(ring.terms.session, ring.epoch, ring.route, number, ring.confirmed)

    def _open(self, number: int) -> SessionOpen:
        ring, terms = self._ring, self._ring.terms
        return SessionOpen(
            session=terms.session,
            epoch=ring.epoch,
            owner=terms.owner,
            model=terms.model,
            route=ring.route,
            stage=number,
            position=ring.confirmed,
            profile=terms.profile,
            context_limit=terms.context_limit,
            sampling=terms.sampling,
            prompt_length=terms.prompt_length,
            lease_s=ring.settings.lease_s,
            parent=terms.parent,
            parent_position=terms.shared,
        )

    def _usable(self, ready: Ready) -> int:
        """Tokens of a stage's memory that are those of this text: all it holds, or none.

        A stage that slept, restarted or kept a rejected draft gives itself away by its digest.
        """
        ring = self._ring
        if ready.length > ring.confirmed:
            return 0
        is_ours = history_digest(ring.tokens[: ready.length]) == ready.history
        return ready.length if is_ours or not ring.rules.judge_history else 0

    async def _refill(self, lengths: list[int]) -> None:
        """Replay what stages lack, all at once, and wait until they hold it.

        The numbers of all replays end together, so that every stage then expects the same next one.
        """
        ring = self._ring
        spans = replays(lengths, ring.confirmed)
        size, source = ring.pace.tokens(ring.confirmed, ring.confirmed), ring.terms.source
        counts = [len(list(chunks(span.first, span.last, size, source))) for span in spans]
        ring.sequence = max(counts, default=0)
        for span, count in zip(spans, counts, strict=True):
            self._send_replay(span, ring.sequence - count, size)
        waiting = {span.through for span in spans}
        while waiting:
            message = await ring.next("replay")
            if isinstance(message, Replayed) and message.length >= ring.confirmed:
                waiting.discard(message.stage)
            elif isinstance(message, Result) and message.sequence == ring.sequence - 1:
                waiting.discard(len(ring.route) - 1)

    def _send_replay(self, span: ReplaySpan, sequence: int, size: int) -> None:
        """Ask the stage before to replay its journal; before the first stage, that is us."""
        ring = self._ring
        if span.source == OWNER:
            pieces = chunks(span.first, span.last, size, ring.terms.source)
            for number, (first, last) in enumerate(pieces):
                ring.send_step(
                    first, last, NOTHING, through=span.through, sequence=sequence + number
                )
            return
        replay = Replay(
            session=ring.terms.session,
            epoch=ring.epoch,
            stage=span.source,
            through=span.through,
            first=span.first,
            last=span.last,
            chunk=size,
            sequence=sequence,
            branch=ring.branch,
        )
        ring.send(ring.route.stages[span.source].peer, replay)
