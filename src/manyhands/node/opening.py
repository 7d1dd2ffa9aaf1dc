"""Sessions at this peer begin, take up newer epochs and end: opened, rewired, freed.

Whatever cannot be done is raised, and the worker says so to the owner. Knows nothing of steps or of
the order in which messages are worked off.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from manyhands.codec import codec
from manyhands.domain.ids import PeerId, short
from manyhands.domain.messages import Message, Ready, Rewire
from manyhands.domain.settings import Settings
from manyhands.domain.work import SessionOpen
from manyhands.engine.compute import Compute
from manyhands.engine.engine import Engine
from manyhands.errors import MemoryFull, NotServed, SessionUnknown
from manyhands.node.holdings import Holdings
from manyhands.node.memories import Memories
from manyhands.node.peers import Clock
from manyhands.node.rules import Rules
from manyhands.node.stage import Journal, StageMemory
from manyhands.plan.prefix import SHARED_TOKENS, may_share

MOST_LEASES = 10
"""Nobody may ask for a lease of more than this many of our own."""


class Opening:
    """A session's beginning and end at this peer."""

    def __init__(
        self,
        me: PeerId,
        holdings: Holdings,
        memories: Memories,
        compute: Compute,
        clock: Clock,
        settings: Settings,
        send: Callable[[PeerId, Message], None],
        connect: Callable[[PeerId], None],
        rules: Rules,
    ) -> None:
        self._me, self._holdings, self._memories = me, holdings, memories
        self._compute, self._clock, self._settings = compute, clock, settings
        self._send, self._connect, self._rules = send, connect, rules

    async def open(self, opening: SessionOpen) -> None:
        """Begin a session here, or take up its newer epoch, and say what is held."""
        span = opening.route.stages[opening.stage].span
        known = self._memories.by_key.get((opening.session, span))
        if known is not None and self._may_leave(known):
            await self.forget(known)
        elif known is not None:
            await self._take_up(known, opening)
            return
        self.check(opening)
        self._memories.discard(opening.session, span)
        await self.sweep()
        spec = self._holdings.model(opening.model).spec
        memory = StageMemory(
            opening, self._clock(), self._rules, spec.keeps_memory, spec.source > 0
        )
        memory.lease_s = min(opening.lease_s, MOST_LEASES * self._settings.lease_s)
        self._memories.add(memory, await self._set_aside(memory, opening))
        await self._drop_strays(memory)
        self._ready(memory)

    def _may_leave(self, memory: StageMemory) -> bool:
        """Its layers are to be let go of, and we hold them elsewhere: it begins there anew."""
        engine = self._memories.engine(memory)
        other = self._holdings.find(memory.model, memory.span)
        return self._holdings.is_draining(engine) and other not in (None, engine)

    async def rewire(self, rewiring: Rewire) -> None:
        """Take up a newer epoch. Raises SessionUnknown."""
        span = rewiring.route.stages[rewiring.stage].span
        memory = self._memories.by_key.get((rewiring.session, span))
        if memory is None:
            raise SessionUnknown(f"session {short(rewiring.session)} is not held on {span}")
        await self._take_up(memory, rewiring)

    async def _set_aside(self, memory: StageMemory, opening: SessionOpen) -> Engine:
        """Have the memory the session may need, with what its parent holds here in it.

        A parent that is not here, or another owner's, gives nothing: the session then begins empty,
        and its owner fills it. What is kept of ended sessions goes before anybody is refused.
        Raises SessionUnknown, MemoryFull, ResourceError.
        """
        while True:
            engine, parent, at = self._holdings.find(opening.model, memory.span), None, 0
            source = None
            if opening.parent is not None:
                source = self._memories.beginning(opening.parent, memory.span, opening.owner)
            if source is not None and not self._holdings.is_draining(source.engine):
                # a fork stays in its parent's engine, but in none that is about to go
                engine, parent = source.engine, source.memory.name
                at = min(opening.parent_position, source.memory.length)
                memory.tokens = source.memory.tokens[:at]
                memory.journal = source.memory.journal.copy(at)
            if engine is None:
                raise SessionUnknown(
                    f"{memory.span} of {short(opening.model)} is not held any more"
                )
            open_it = partial(
                engine.open, memory.name, opening.context_limit, parent, at, memory.span
            )
            try:
                await self._compute.run(open_it, 0.0)
            except MemoryFull:
                if not self._memories.discard_oldest(engine):
                    raise
                memory.tokens, memory.journal = [], Journal()
                await self.sweep()
            else:
                if self._holdings.is_held(engine):
                    return engine
                # let go of while this waited for the engine: nobody would count it there
                await self._compute.run(partial(engine.close, memory.name), 0.0)
                raise SessionUnknown(
                    f"{memory.span} of {short(opening.model)} is not held any more"
                )

    async def end(self, memory: StageMemory) -> None:
        """Its owner has closed the session: keep what others may begin with, free the rest."""
        keep_s, limit = self._settings.keep_s, memory.context_limit
        can_share = may_share(self._holdings.model(memory.model).spec, limit, limit)
        if keep_s == 0 or memory.length < SHARED_TOKENS or not can_share:
            await self.forget(memory)
            return
        engine = self._memories.engine(memory)
        self._memories.keep(memory, self._clock() + keep_s)
        await self._compute.run(lambda: engine.trim(memory.name), 0.0)

    async def sweep(self) -> None:
        """Free the engines of what is kept no longer."""
        discarded, self._memories.discarded = self._memories.discarded, []
        for kept in discarded:
            await self._compute.run(partial(kept.engine.close, kept.memory.name), 0.0)

    async def forget(self, memory: StageMemory) -> None:
        """Free a session's memory."""
        engine = self._memories.engine(memory)
        self._memories.remove(memory)
        await self._compute.run(lambda: engine.close(memory.name), 0.0)

    def check(self, opening: SessionOpen) -> None:
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
                await self.forget(other)

    def _ready(self, memory: StageMemory) -> None:
        if memory.next_stage is not None:
            self._connect(memory.next_stage.peer)
        self._send(
            memory.owner,
            Ready(memory.session, memory.epoch, memory.stage, memory.length, memory.history()),
        )
