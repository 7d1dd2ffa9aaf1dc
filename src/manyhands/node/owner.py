"""The owner role: all sessions this peer opened; hands them their messages and renews leases."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from manyhands.domain.ids import ModelId, PeerId, SessionId
from manyhands.domain.messages import Message, Renew
from manyhands.domain.settings import Settings
from manyhands.domain.work import Sampling
from manyhands.errors import ContextOverflow
from manyhands.node.model import Model
from manyhands.node.peers import Clock, Loss
from manyhands.node.ring import FromStage, Terms, View
from manyhands.node.rules import ALL_RULES, Rules
from manyhands.node.session import Session
from manyhands.plan.cost import Cost


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

    async def run(self) -> None:
        """Renew the leases of open sessions; ends only by cancellation."""
        while True:
            await asyncio.sleep(self._settings.lease_s / 3)
            for name, session in self._sessions.items():
                for peer in session.ring.route.peers():
                    self._send(peer, Renew(name))

    async def open(
        self, model: Model, sampling: Sampling, prompt_length: int, context_limit: int = 0
    ) -> Session:
        """A session whose every stage is ready; see Session.open for what is raised.

        `context_limit` 0 is what the settings or the model allow. Raises ContextOverflow when more
        is asked for than the model has.
        """
        limit = context_limit or self.context(model)
        if limit > self.context(model):
            raise ContextOverflow(
                f"a context of {limit} tokens was asked for; {self.context(model)} are allowed"
            )
        name = SessionId(f"{self._chance.getrandbits(128):032x}")
        terms = Terms(
            session=name,
            owner=self._me,
            model=ModelId(model.id),
            spec=model.spec,
            profile=model.profile,
            sampling=sampling,
            prompt_length=prompt_length,
            context_limit=limit,
            cost=Cost(bytes_per_weight=model.bytes_per_weight, bytes_per_kv=model.bytes_per_kv),
        )
        session = Session(terms, self._view, self._clock, self._settings, self._send, self._rules)
        self._sessions[name] = session
        try:
            await session.open()
        except BaseException:
            self.close(session)
            raise
        return session

    def context(self, model: Model) -> int:
        """Tokens a session of this model may hold: what the model has, or less by the settings."""
        return min(model.spec.context, self._settings.context_limit or model.spec.context)

    def close(self, session: Session) -> None:
        """Forget a session, here and at its stages."""
        self._sessions.pop(session.terms.session, None)
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
