"""The owner role: all sessions this peer opened; hands them their messages and renews leases."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from manyhands.domain.ids import ModelId, PeerId, SessionId, short
from manyhands.domain.messages import Message, Renew
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.settings import Settings
from manyhands.domain.swarm import Swarm
from manyhands.domain.work import Route, Sampling
from manyhands.errors import ContextOverflow, ManyhandsError
from manyhands.node.beginnings import Beginnings
from manyhands.node.model import Model
from manyhands.node.peers import Clock, Loss
from manyhands.node.ring import FromStage, Terms, View
from manyhands.node.rules import ALL_RULES, Rules
from manyhands.node.session import Session
from manyhands.node.waiting_room import WaitingRoom
from manyhands.plan.cost import Cost
from manyhands.plan.spreading import Running, at_home, queued
from manyhands.wire.frame import CAPS, Kind

log = logging.getLogger(__name__)

NUMBER_BYTES = 4
"""What a number of a hidden state takes on the wire, at most."""


def longest_source(spec: ModelSpec) -> int:
    """Tokens that an encoder may read, which go in one step; 0 for models without."""
    return min(spec.source, CAPS[Kind.STEP].payload // (NUMBER_BYTES * spec.width))


class Owner:
    """Sessions by id. `chance` names new sessions."""

    def __init__(
        self,
        me: PeerId,
        view: View,
        clock: Clock,
        settings: Settings,
        chance: random.Random,
        send: Callable[[PeerId, Message], None],
        rules: Rules = ALL_RULES,
    ) -> None:
        self._me, self._view, self._clock, self._settings = me, view, clock, settings
        self._chance, self._send, self._rules = chance, send, rules
        self._sessions: dict[SessionId, Session] = {}
        self._leaving: tuple[Session, asyncio.Task[None]] | None = None
        self._beginnings = Beginnings(clock, settings.keep_s)
        self._room = WaitingRoom(clock, chance, settings.admission_wait_s)

    async def run(self) -> None:
        """Renew the leases of open sessions; ends only by cancellation."""
        while True:
            await asyncio.sleep(self._settings.lease_s / 3)
            for name, session in self._sessions.items():
                for peer in session.ring.route.peers():
                    self._send(peer, Renew(name))

    async def follow(self) -> None:
        """Move sessions that nobody speaks with off layers that are to be let go of; until
        cancelled. The others move by themselves, between two steps.
        """
        async with asyncio.TaskGroup() as tasks:
            while True:
                for session in list(self._sessions.values()):
                    if session.is_to_leave():
                        task = tasks.create_task(_leave(session))
                        self._leaving = session, task
                        await asyncio.wait({task})
                await self._view.changed()

    @property
    def waiting(self) -> int:
        """Sessions that wait for memory."""
        return self._room.waiting

    async def open(
        self,
        model: Model,
        sampling: Sampling,
        prompt_length: int,
        context_limit: int = 0,
        prompt: Sequence[int] = (),
    ) -> Session:
        """A session whose every stage is ready; see Session.open for what is raised.

        It holds the beginning of `prompt` already, `length` tokens of it, when another session of
        ours began the same. `context_limit` 0 is what the settings or the model allow. Raises
        ContextOverflow when more is asked for than the model has, and MemoryFull when there is no
        room for it anywhere within `admission_wait_s`.
        """
        limit = context_limit or self.context(model)
        if limit > self.context(model):
            raise ContextOverflow(
                f"a context of {limit} tokens was asked for; {self.context(model)} are allowed"
            )
        if prompt_length > (most := longest_source(model.spec)) > 0:
            raise ContextOverflow(
                f"the prompt has {prompt_length} tokens; this model reads a text of up to {most} "
                "at once; shorten the prompt"
            )
        terms = Terms(
            session=self._name(),
            owner=self._me,
            model=ModelId(model.id),
            spec=model.spec,
            profile=model.profile,
            sampling=sampling,
            prompt_length=prompt_length,
            context_limit=limit,
            cost=Cost(bytes_per_weight=model.bytes_per_weight, bytes_per_kv=model.bytes_per_kv),
        )
        return await self._room.admit(lambda: self._begin(terms, prompt))

    async def _begin(self, terms: Terms, prompt: Sequence[int]) -> Session:
        """One try to open a session, under a new name, so that nothing of another try is mixed."""
        live = sorted(self._sessions.values(), key=self._company)
        parent, shared, home = await self._beginnings.of(terms, prompt, live)
        terms = replace(terms, session=self._name(), parent=parent, shared=shared)
        among = partial(self._among, terms, home)
        session = Session(
            terms, self._view, self._clock, self._settings, self._send, self._rules, among
        )
        self._sessions[terms.session] = session
        try:
            await session.open(prompt[:shared])
        except BaseException:
            self._end(session)
            raise
        return session

    def _among(self, terms: Terms, home: Route, swarm: Swarm) -> Swarm:
        """The swarm as one session sees it among our others: where they are, a step waits.

        `home` is the route of the session that it begins with; see plan/spreading.
        """
        ways = Counter[tuple[ModelId, Route]]()
        models: dict[ModelId, Terms] = {}
        for name, session in self._sessions.items():
            if name != terms.session:
                models[session.terms.model] = session.terms
                ways[session.terms.model, session.ring.route] += 1
        others = [
            Running(models[model].spec, models[model].cost, route, count)
            for (model, route), count in ways.items()
        ]
        swarm = queued(swarm, terms.owner, others)
        return at_home(swarm, terms.spec, terms.cost, home, terms.shared)

    def _company(self, session: Session) -> int:
        """How many sessions of ours go the same way."""
        return sum(one.ring.route == session.ring.route for one in self._sessions.values())

    def _name(self) -> SessionId:
        return SessionId(f"{self._chance.getrandbits(128):032x}")

    def context(self, model: Model, prompt_length: int | None = None) -> int:
        """Tokens a session of this model may hold: what the model has, or less by the settings.

        Of an encoder-decoder less with a short prompt: its answer has a limit of its own.
        """
        most = model.spec.context
        if model.spec.source and prompt_length is not None:
            most = min(most, prompt_length + most - model.spec.source)
        return min(most, self._settings.context_limit or most)

    def close(self, session: Session) -> None:
        """Forget a session, here and at its stages."""
        if session.terms.session in self._sessions:
            self._beginnings.ended(session)
        self._end(session)
        self._room.freed()

    def _end(self, session: Session) -> None:
        self._sessions.pop(session.terms.session, None)
        if self._leaving is not None and self._leaving[0] is session:
            self._leaving[1].cancel()
        session.close()

    def receive(self, source: PeerId, message: FromStage) -> None:
        """A message from a stage; sessions that are closed hear nothing any more."""
        session = self._sessions.get(message.session)
        if session is not None:
            session.ring.deliver(source, message)

    def link_lost(self, peer: PeerId, loss: Loss) -> None:
        """Our own connection to a peer was lost."""
        for session in self._sessions.values():
            session.ring.link_lost(peer, loss)


async def _leave(session: Session) -> None:
    try:
        await session.leave()
    except ManyhandsError as error:  # its next run finds out, and says so to its user
        log.info("session %s: %s", short(session.terms.session), error)
