"""The ring as its owner sees it: route, epoch, numbers, and what comes back from the stages.

Only the owner decides and numbers epochs; messages of other epochs, or from peers that are not
where they say, are dropped here. Knows nothing of how to go on after a setback.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Protocol

from manyhands.domain.ids import ModelId, PeerId, SessionId, short
from manyhands.domain.messages import (
    Beat,
    Gap,
    LinkLost,
    Message,
    Ready,
    Refused,
    Replayed,
)
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.profile import Profile
from manyhands.domain.settings import Settings
from manyhands.domain.swarm import Swarm
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.domain.work import Result, Route, Sampling, Stage, Step, Want
from manyhands.errors import BadSampling, ContextOverflow, from_code
from manyhands.node.liveness import Liveness
from manyhands.node.pace import Pace
from manyhands.node.peers import Clock, Loss
from manyhands.node.rules import Rules
from manyhands.node.setback import Setback, Suspicions
from manyhands.plan.cost import Cost

NO_SIDE: Mapping[str, TensorFrame] = MappingProxyType({})


Among = Callable[[Swarm], Swarm]
"""The swarm as a route is chosen in it: with the queues that its owner's other sessions mean."""


class View(Protocol):
    """What a session sees of the swarm: the snapshot now, and the wait for the next."""

    @property
    def swarm(self) -> Swarm:
        """The newest snapshot."""

    async def changed(self) -> None:
        """Return at the next change."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What does not change in a session's life. `cost` has the sizes of the model's numbers.

    The prompt of an encoder-decoder is the text to be read, which is one step. The session begins
    with the first `shared` tokens of its `parent`, wherever a stage holds them.
    """

    session: SessionId
    owner: PeerId
    model: ModelId
    spec: ModelSpec
    profile: Profile
    sampling: Sampling
    prompt_length: int
    context_limit: int
    cost: Cost
    parent: SessionId | None = None
    shared: int = 0

    @property
    def source(self) -> int:
        """Tokens at the beginning that go in one step, for an encoder to read."""
        return self.prompt_length if self.spec.source else 0


@dataclass(frozen=True, slots=True)
class PeerDown:
    """Our own connection to a peer was lost, or confirms nothing."""

    peer: PeerId
    loss: Loss


FromStage = Ready | Refused | Result | Gap | Replayed | LinkLost | Beat
"""What stages send to the owner of a session."""


class Ring:
    """State of one session at its owner. `tokens` is the text, `confirmed` how much of it is in all
    stages' memory.
    """

    def __init__(
        self,
        terms: Terms,
        view: View,
        clock: Clock,
        settings: Settings,
        send: Callable[[PeerId, Message], None],
        rules: Rules,
        among: Among = lambda swarm: swarm,
    ) -> None:
        self.rules, self.among = rules, among
        self.terms, self.view, self.clock, self.settings = terms, view, clock, settings
        self.send = send
        self.tokens: list[int] = []
        self.confirmed = 0
        self.route = Route(())
        self.epoch, self.sequence, self.branch = 0, 0, 0
        self.opened: set[Stage] = set()
        self.reopen: set[PeerId] = set()
        self.kernels: dict[str, None] = {}
        self.suspicions = Suspicions(clock, settings.forgive_after_s)
        self.liveness = Liveness(clock, settings)
        self.pace = Pace(settings)
        self._inbox: deque[FromStage | PeerDown] = deque()
        self._arrived = asyncio.Event()

    @property
    def queued(self) -> Swarm:
        """The newest snapshot, to choose a route in: computed anew each time, not for each step."""
        return self.among(self.view.swarm)

    def begin(self, route: Route) -> None:
        """A new epoch on `route`; numbers start anew, and what was lost before it is past."""
        self._inbox.clear()
        self.route = route
        self.epoch += 1
        self.sequence = self.branch = 0
        self.liveness.begin([stage.peer for stage in route.stages])

    def send_step(
        self,
        first: int,
        last: int,
        want: Want,
        *,
        through: int | None = None,
        sequence: int | None = None,
        allowed: TensorFrame | None = None,
        targets: tuple[int, ...] = (),
        image: TensorFrame | None = None,
        side: Mapping[str, TensorFrame] = NO_SIDE,
    ) -> int:
        """Send tokens [first, last) to the first stage; returns the step's sequence.

        Without `sequence` it is the next one, with `through` the step ends at that stage. `image`
        are the patches that the tokens stand for.
        """
        if sequence is None:
            sequence, self.sequence = self.sequence, self.sequence + 1
        step = Step(
            session=self.terms.session,
            epoch=self.epoch,
            sequence=sequence,
            branch=self.branch,
            position=first,
            token_ids=tuple(self.tokens[first:last]),
            stage=0,
            through=len(self.route) - 1 if through is None else through,
            want=want,
            tensor=image,
            next_token_ids=targets,
            allowed=allowed,
            side=side,
            deadline_s=self.liveness.stuck_s(),
        )
        self.send(self.route.stages[0].peer, step)
        return sequence

    def deliver(self, source: PeerId, message: FromStage) -> None:
        """A message about this session arrived; never waits."""
        if isinstance(message, Beat):
            if self._stands_at(source, message.stage):
                self.liveness.beat(message, self.epoch)
            return
        if message.epoch != self.epoch or not self._may_say(source, message):
            return
        self._inbox.append(message)
        self._arrived.set()

    def resume(self) -> None:
        """The user speaks again: losses that time may have healed meanwhile count no more."""
        kept = [item for item in self._inbox if not _may_have_healed(item)]
        self._inbox = deque(kept)
        self.liveness.resume()

    def link_lost(self, peer: PeerId, loss: Loss) -> None:
        """Our own connection to `peer` was lost or is silent."""
        if peer in self.route.peers() and self.rules.new_epoch_on_reconnect:
            if loss == "closed":
                self.reopen.add(peer)
            down = PeerDown(peer, loss)
            if down not in self._inbox:  # a session that nobody uses must not collect them
                self._inbox.append(down)
            self._arrived.set()

    async def next(self, what: str, until_s: float = inf) -> FromStage:
        """The next message of this epoch.

        Raises Setback for a loss, for silence, at `until_s`, or, where no such end is given, when
        nobody has been at work for too long.
        """
        while True:
            while self._inbox:
                item = self._inbox.popleft()
                if isinstance(item, PeerDown):
                    if item.peer in self.route.peers():
                        reason = f"the connection to {short(item.peer)} is {item.loss}"
                        raise Setback(reason, lost=frozenset({item.peer}))
                elif item.epoch == self.epoch:
                    return self._good(item)
            self._check_alive()
            now_s = self.clock()
            is_idle = until_s == inf and self.liveness.is_idle()
            if now_s >= until_s or is_idle:
                self.liveness.doubt()
                raise Setback(f"no {what} came in time")
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(min(until_s, now_s + self.settings.beat_every_s)):
                    await self._arrived.wait()
            except TimeoutError:
                continue

    async def hear_out(self, setback: Setback, within_s: float) -> None:
        """Which end of a link that another peer calls lost is gone? Who is killed falls silent
        everywhere at once: wait a moment for our own connection to an end of it to break as well.
        """
        ends = {peer for link in setback.broken for peer in link}
        until_s = self.clock() + within_s
        while ends and not setback.lost and self.clock() < until_s:
            gone = {item.peer for item in self._inbox if isinstance(item, PeerDown)}
            setback.lost |= gone & ends
            self._arrived.clear()
            if not setback.lost:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(until_s):
                        await self._arrived.wait()

    def _stands_at(self, peer: PeerId, stage: int) -> bool:
        stages = self.route.stages
        return 0 <= stage < len(stages) and stages[stage].peer == peer

    def _may_say(self, source: PeerId, message: FromStage) -> bool:
        """Nobody speaks for another stage."""
        match message:
            case Result():
                return self._stands_at(source, len(self.route) - 1)
            case LinkLost(_, _, sender):
                return sender == source and source in self.route.peers()
            case _:
                return self._stands_at(source, message.stage)

    def _check_alive(self) -> None:
        stage, reason = self.liveness.check()
        if stage is not None and self.rules.watch_beats:
            peer = self.route.stages[stage].peer
            raise Setback(f"peer {short(peer)} {reason}", lost=frozenset({peer}))

    def _good(self, message: FromStage) -> FromStage:
        """The message; if it is bad news, a Setback or the user's own error is raised."""
        match message:
            case LinkLost(_, _, source, target):
                quiet = {
                    target
                    for number, stage in enumerate(self.route.stages)
                    if stage.peer == target and self.liveness.is_quiet(number)
                }
                raise Setback(
                    f"the link {short(source)} -> {short(target)} is lost",
                    lost=frozenset(quiet),
                    broken=frozenset({(source, target)}),
                )
            case Gap(_, _, stage, length):
                peer = self.route.stages[stage].peer
                raise Setback(f"stage {stage} holds only {length} tokens", said_by=peer)
            case Refused():
                self._raise_refusal(message)
            case Ready() | Replayed():
                self.liveness.heard(message.stage)
            case _:
                pass
        return message

    def _raise_refusal(self, refused: Refused) -> None:
        """What the user asked wrongly goes to the user; else another peer may serve."""
        error = from_code(refused.code, refused.message)
        if isinstance(error, (BadSampling, ContextOverflow)):
            raise error
        peer = self.route.stages[refused.stage].peer
        if error.code == "session_unknown":
            self.reopen.add(peer)
            raise Setback(str(error), said_by=peer)
        raise Setback(str(error), lost=frozenset({peer}), cause=error)


def _may_have_healed(item: FromStage | PeerDown) -> bool:
    if isinstance(item, PeerDown):
        return item.loss == "silent"  # a closed connection stays closed: its memory is in doubt
    return isinstance(item, LinkLost)
