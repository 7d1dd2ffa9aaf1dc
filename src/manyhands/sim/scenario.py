"""One conversation in a fleet, with faults at chosen tokens: what was said, and how it ended.

Safety: whatever happens, what was spoken is the beginning of the true text. Liveness: where
somebody can stand in, all of it is spoken. A scenario is data; the same one gives the same trace.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, assert_never

from manyhands.domain.ids import PeerId, SessionId
from manyhands.domain.settings import Settings
from manyhands.domain.span import even_cuts
from manyhands.domain.work import Sampling, Step, Want
from manyhands.engine.engine import Chunk
from manyhands.engine.sampler import draw
from manyhands.errors import ManyhandsError
from manyhands.net.memory import Path
from manyhands.node.generate import speak
from manyhands.node.model import Model
from manyhands.node.rules import ALL_RULES, Rules
from manyhands.sim.fleet import Fleet, Member, Saved
from manyhands.sim.virtual_loop import run_virtual
from manyhands.wire.frame import FrameReader
from manyhands.wire.schema import decode

FaultKind = Literal["kill", "silence", "cut", "duplicate", "restart"]
FAULT_KINDS: tuple[FaultKind, ...] = ("kill", "silence", "cut", "duplicate", "restart")
OWNER = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to stage `stage` once `at_token` tokens are spoken, `after_s` later.

    kill: gone for good. silence: held still, and let go after `lasts_s`. cut: the link to it from
    the stage before vanishes, mended after `lasts_s`. duplicate: a step it got is sent again after
    `lasts_s`. restart: killed, and back after `lasts_s` with the memory it had a while before.
    """

    kind: FaultKind
    stage: int
    at_token: int
    after_s: float = 0.0
    lasts_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """`stages` peers hold the model, `spares` could load any span; the owner holds nothing."""

    seed: int
    stages: int = 3
    spares: int = 1
    stages_can_load: bool = True
    tokens: int = 100
    prompt: tuple[int, ...] = (1, 2, 3, 4)
    sampling: Sampling = field(default_factory=Sampling)
    draft_tokens: int = 0
    draft_skill: float = 0.6
    faults: tuple[Fault, ...] = ()
    path: Path = field(default_factory=lambda: Path(latency_s=0.001))
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class Ending:
    """What came of a scenario; `error` is None when all of it was spoken."""

    spoken: tuple[int, ...]
    error: ManyhandsError | None
    trace: str
    virtual_s: float
    longest_pause_s: float
    recoveries: int
    memories_left: int


def play(scenario: Scenario, model: Model, rules: Rules = ALL_RULES) -> Ending:
    """Run a scenario on virtual time from start to end."""
    return run_virtual(lambda: _play(scenario, model, rules))


def truth(scenario: Scenario, model: Model) -> tuple[int, ...]:
    """The text without any swarm: one engine, one token after the other."""
    engine, session = model.load(model.spec.span), SessionId("truth")
    engine.open(session, model.spec.context)
    text, position, fresh = list(scenario.prompt), 0, tuple(scenario.prompt)
    for _ in range(scenario.tokens):
        chunk = Chunk(session, position, fresh, None, (len(fresh) - 1,))
        scores = engine.step([chunk])[0].scores
        if scores is None:
            raise TypeError("the whole model has a head")
        position += len(fresh)
        drawn = draw(scores[0], scenario.sampling, position, text, Want(), len(scenario.prompt))
        fresh = (drawn.token or 0,)
        text += fresh
    return tuple(text[len(scenario.prompt) :])


async def _play(scenario: Scenario, model: Model, rules: Rules) -> Ending:
    cuts = even_cuts(len(model.spec.layers), scenario.stages)
    members = (
        Member(can_load=False),
        *(Member((cut,), can_load=scenario.stages_can_load) for cut in cuts),
        *(Member() for _ in range(scenario.spares)),
    )
    loop = asyncio.get_running_loop()
    async with Fleet(
        scenario.seed,
        model,
        members,
        settings=scenario.settings,
        rules=rules,
        path=scenario.path,
    ) as fleet:
        faults = _Faults(fleet, scenario)
        spoken: list[int] = []
        error: ManyhandsError | None = None
        began_s = said_s = loop.time()
        pause_s, recoveries = 0.0, 0
        owner = fleet.nodes[OWNER].owner
        session = None
        try:
            session = await owner.open(model, scenario.sampling, len(scenario.prompt))
            faults.begin(session.terms.session)
            async for token in speak(
                session,
                scenario.prompt,
                scenario.tokens,
                draft=_drafter(scenario, model),
                draft_tokens=scenario.draft_tokens,
            ):
                spoken.append(token.id)
                pause_s, said_s = max(pause_s, loop.time() - said_s), loop.time()
                faults.spoken(len(spoken))
        except ManyhandsError as raised:
            error = raised
        pause_s = max(pause_s, loop.time() - said_s)
        took_s = loop.time() - began_s
        trace = fleet.trace
        if session is not None:
            recoveries = len(session.recovery.recovered_s)
            owner.close(session)
        await faults.end()
        longest_s = max((fault.lasts_s for fault in scenario.faults), default=0.0)
        await asyncio.sleep(scenario.settings.lease_s + longest_s + 2.0)
        left = sum(
            len(fleet.nodes[n].worker.memories.all())
            for n in range(len(members))
            if fleet.is_alive(n)
        )
    return Ending(tuple(spoken), error, trace, took_s, pause_s, recoveries, left)


def _drafter(scenario: Scenario, model: Model) -> Callable[[Sequence[int], int], list[int]]:
    """Guesses the true text, each token rightly with probability `draft_skill`."""
    text = (*scenario.prompt, *truth(scenario, model)) if scenario.draft_tokens else ()
    chance = random.Random(scenario.seed)

    def draft(tokens: Sequence[int], count: int) -> list[int]:
        guesses = text[len(tokens) : len(tokens) + count]
        return [
            guess if chance.random() < scenario.draft_skill else (guess + 1) % model.spec.vocabulary
            for guess in guesses
        ]

    return draft


class _Faults:
    """Brings a scenario's faults upon the fleet when their token is spoken."""

    def __init__(self, fleet: Fleet, scenario: Scenario) -> None:
        self._fleet, self._scenario = fleet, scenario
        self._saved: dict[int, Saved] = {}
        self._steps: dict[PeerId, tuple[PeerId, Step]] = {}
        self._session: SessionId | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting = list(scenario.faults)
        if any(fault.kind == "duplicate" for fault in scenario.faults):
            fleet.taps.append(self._tap)

    def begin(self, session: SessionId) -> None:
        self._session = session
        self.spoken(0)

    def spoken(self, count: int) -> None:
        """So many tokens are out: begin what is due; save what a restart will come back with."""
        loop = asyncio.get_running_loop()
        for fault in list(self._waiting):
            member = fault.stage + 1
            if fault.kind == "restart" and count == fault.at_token // 2:
                self._saved[member] = self._fleet.save(member)
            if count >= fault.at_token:
                self._waiting.remove(fault)
                loop.call_later(fault.after_s, self._strike, fault)

    async def end(self) -> None:
        """Wait for restarts under way."""
        for task in self._tasks:
            await task

    def _strike(self, fault: Fault) -> None:
        fleet, member = self._fleet, fault.stage + 1
        peer, loop = fleet.peer(member), asyncio.get_running_loop()
        match fault.kind:
            case "kill":
                fleet.kill(member)
            case "silence":
                fleet.network.hold(peer)
                loop.call_later(fault.lasts_s, fleet.network.release, peer)
            case "cut":
                before = fleet.peer(member - 1)
                fleet.network.cut(before, peer)
                loop.call_later(fault.lasts_s, fleet.network.mend, before, peer)
            case "duplicate":
                if peer in self._steps:
                    source, step = self._steps[peer]
                    sender = fleet.nodes[fleet.number(source)]
                    loop.call_later(fault.lasts_s, sender.peers.send, peer, step)
            case "restart":
                fleet.kill(member)
                saved = self._saved.get(member)
                loop.call_later(fault.lasts_s, self._restart, member, saved)
            case _:
                assert_never(fault.kind)

    def _restart(self, member: int, saved: Saved | None) -> None:
        self._tasks.append(self._fleet.spawn(self._fleet.restart(member, saved)))

    def _tap(self, source: PeerId, target: PeerId, data: bytes) -> None:
        """Remember the newest step that each peer was sent."""
        for frame in FrameReader().feed(data):
            message = decode(frame)
            if isinstance(message, Step) and message.session == self._session:
                self._steps[target] = (source, message)
