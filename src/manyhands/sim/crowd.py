"""Many conversations at once in a fleet whose memory is small: shared beginnings, leavers, kills.

Safety: whatever happens, what each was told is the beginning of its own true text, nothing hangs,
and no page of memory is left behind. Liveness: where nobody is killed, everybody who stays is told
all of it, however full memory is. A crowd is data drawn from a seed; the same one, the same trace.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from manyhands.domain.settings import Settings
from manyhands.domain.span import even_cuts
from manyhands.domain.work import Sampling
from manyhands.engine.page_table import PAGE_TOKENS
from manyhands.errors import ManyhandsError, PeerError, ResourceError
from manyhands.net.memory import Path
from manyhands.node.generate import speak
from manyhands.node.model import Model
from manyhands.sim.fleet import Fleet, Member
from manyhands.sim.hash_engine import ENTRY_BYTES, HashEngine
from manyhands.sim.scenario import Scenario, truth
from manyhands.sim.virtual_loop import run_virtual

OWNER = 0

SETTINGS = Settings(lease_s=5.0, keep_s=20.0, chunk_tokens=64, admission_wait_s=3600.0)
"""Whoever waits for memory waits long: others must end first."""

LONGEST_S = 3000.0
"""A crowd that is not done by then hangs."""


@dataclass(frozen=True, slots=True)
class Guest:
    """One conversation: joins at `joins_s`, wants `tokens`, goes after `leaves_after` if not 0."""

    prompt: tuple[int, ...]
    tokens: int
    joins_s: float
    leaves_after: int = 0
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True)
class Crowd:
    """`stages` peers hold the model, `spares` could load any span; each has room for `pages`.

    `kills` are (stage, second) each.
    """

    seed: int
    stages: int
    spares: int
    pages: int
    guests: tuple[Guest, ...]
    kills: tuple[tuple[int, float], ...] = ()
    path: Path = field(default_factory=lambda: Path(latency_s=0.001))
    settings: Settings = SETTINGS


@dataclass(frozen=True, slots=True)
class Farewell:
    """What a guest was told, how many tokens of its prompt others had computed, and its error."""

    spoken: tuple[int, ...]
    shared: int
    error: ManyhandsError | None


@dataclass(frozen=True, slots=True)
class Night:
    """What came of a crowd; `left_bytes` is memory that nobody gave back."""

    farewells: tuple[Farewell, ...]
    trace: str
    virtual_s: float
    most_waiting: int
    left_bytes: int


def crowd(seed: int, kills: bool, vocabulary: int = 64) -> Crowd:
    """The crowd of a seed: guests whose prompts begin as a few texts do, in too little memory."""
    chance = random.Random(seed)
    texts = [[chance.randrange(vocabulary) for _ in range(320)] for _ in range(2)]
    guests = []
    for _ in range(chance.randint(3, 8)):
        begun = chance.choice(texts)[: chance.choice((0, 64, 130, 256, 320))]
        own = [chance.randrange(vocabulary) for _ in range(chance.randint(1, 90))]
        tokens = chance.choice((5, 20, 60))
        guests.append(
            Guest(
                prompt=(*begun, *own),
                tokens=tokens,
                joins_s=chance.choice((0.0, 0.0, chance.uniform(0, 20))),
                leaves_after=chance.choice((0, 0, 0, chance.randint(1, tokens))),
                sampling=Sampling(seed=chance.getrandbits(32), temperature=chance.choice((0, 5))),
            )
        )
    stages = chance.randint(1, 3)
    longest = max(len(guest.prompt) + guest.tokens for guest in guests)
    needed = -(-longest // PAGE_TOKENS)
    return Crowd(
        seed=seed,
        stages=stages,
        spares=1 if kills else chance.randint(0, 1),
        pages=chance.choice((needed, needed + 2, 2 * needed, 40)),
        guests=tuple(guests),
        kills=((chance.randrange(stages), chance.uniform(0, 15)),) if kills else (),
        path=Path(latency_s=chance.choice((0.0001, 0.002, 0.02))),
    )


def play_crowd(drawn: Crowd, model: Model) -> Night:
    """Run a crowd on virtual time from start to end."""
    return run_virtual(lambda: _play(drawn, model))


def crowd_breach(drawn: Crowd, night: Night, model: Model) -> str:
    """What a night breaks, in words, or "" if nothing."""
    for number, (guest, told) in enumerate(zip(drawn.guests, night.farewells, strict=True)):
        wanted = guest.leaves_after or guest.tokens
        text = truth(
            Scenario(drawn.seed, prompt=guest.prompt, tokens=wanted, sampling=guest.sampling), model
        )
        if told.spoken != text[: len(told.spoken)]:
            return f"seed {drawn.seed}: guest {number} was told what is not true"
        if told.error is None and len(told.spoken) < wanted:
            return f"seed {drawn.seed}: guest {number} was left without an error"
        if told.error is not None and not isinstance(told.error, PeerError | ResourceError):
            return f"seed {drawn.seed}: guest {number}: {told.error!r} is nobody's fault here"
        if told.error is not None and not drawn.kills:
            return f"seed {drawn.seed}: guest {number} could have been served: {told.error}"
    if night.left_bytes:
        return f"seed {drawn.seed}: {night.left_bytes} bytes were never given back"
    return ""


async def _play(drawn: Crowd, model: Model) -> Night:
    spec = model.spec
    cuts = even_cuts(len(spec.layers), drawn.stages)
    kv_bytes = drawn.pages * PAGE_TOKENS * ENTRY_BYTES * max(len(cut) for cut in cuts)
    members = (
        Member(can_load=False),
        *(Member((cut,), can_load=False) for cut in cuts),
        *(Member() for _ in range(drawn.spares)),
    )
    loop = asyncio.get_running_loop()
    fleet = Fleet(
        drawn.seed,
        replace(model, load=lambda span: HashEngine(spec, span, kv_bytes=kv_bytes)),
        members,
        settings=drawn.settings,
        path=drawn.path,
    )
    async with fleet:
        began_s, waiting = loop.time(), _Most(lambda: fleet.nodes[OWNER].owner.waiting)
        for stage, at_s in drawn.kills:
            loop.call_later(at_s, fleet.kill, stage + 1)
        async with asyncio.timeout(LONGEST_S), asyncio.TaskGroup() as tasks:
            told = [
                tasks.create_task(_converse(fleet, model, guest, waiting)) for guest in drawn.guests
            ]
        took_s, trace = loop.time() - began_s, fleet.trace
        await asyncio.sleep(drawn.settings.lease_s + drawn.settings.keep_s + 2.0)
        left_bytes = sum(
            kv_bytes - engine.room()
            for number, node in enumerate(fleet.nodes)
            for held in node.holdings.holdings()
            if fleet.is_alive(number) and held.state == "ready"
            if (engine := node.holdings.find(model.id, held.span)) is not None
        )
    farewells = tuple(one.result() for one in told)
    return Night(farewells, trace, took_s, waiting.most, left_bytes)


class _Most:
    """The most that a count ever was when it was looked at."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count, self.most = count, 0

    def look(self) -> None:
        self.most = max(self.most, self._count())


async def _converse(fleet: Fleet, model: Model, guest: Guest, waiting: _Most) -> Farewell:
    await asyncio.sleep(guest.joins_s)
    owner, spoken, shared = fleet.nodes[OWNER].owner, [], 0
    session = None
    try:
        limit = len(guest.prompt) + guest.tokens
        asyncio.get_running_loop().call_later(0.1, waiting.look)
        session = await owner.open(
            model, guest.sampling, len(guest.prompt), limit, prompt=guest.prompt
        )
        shared = session.length
        async for token in speak(session, guest.prompt, guest.tokens, held=shared):
            spoken.append(token.id)
            if len(spoken) == guest.leaves_after:
                break
    except ManyhandsError as error:
        return Farewell(tuple(spoken), shared, error)
    finally:
        if session is not None:
            owner.close(session)
    return Farewell(tuple(spoken), shared, None)
