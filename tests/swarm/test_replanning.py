"""Layers move while sessions speak: the same text, the quickest placement after, nothing stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from hash_swarm import MODEL, MODEL_ID, SPEC
from manyhands.domain.ids import short
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.work import Sampling, Want
from manyhands.errors import CheckpointError
from manyhands.net.memory import Path
from manyhands.node.generate import speak
from manyhands.node.model import Model
from manyhands.plan.cost import MEMORY_SHARE, Cost, memory_bytes
from manyhands.plan.placement import place
from manyhands.plan.routing import route, route_s
from manyhands.sim.fleet import Fleet, Member
from manyhands.sim.hash_engine import HashEngine
from manyhands.sim.scenario import Scenario, truth
from manyhands.sim.virtual_loop import run_virtual

COST = Cost(bytes_per_weight=MODEL.bytes_per_weight, bytes_per_kv=MODEL.bytes_per_kv)
TOKENS = 4096
"""That memory is planned for."""

SETTINGS = Settings(context_limit=4096, settle_s=20.0)
PROMPT = (1, 2, 3, 4)
LOWER, UPPER = Span(0, 4), Span(4, 8)
PATH = Path(latency_s=0.001)


def room_for(layers: int) -> int:
    """Bytes of a device that holds so many layers, of the largest."""
    largest = max(memory_bytes(SPEC, Span(n, n + 1), TOKENS, COST) for n in range(len(SPEC.layers)))
    return int(layers * largest / MEMORY_SHARE) + 1


def text(tokens: int) -> tuple[int, ...]:
    return truth(Scenario(0, tokens=tokens), MODEL)


def laptop(span: Span | None, layers: int, speed: float = 1.0, **more) -> Member:
    """A peer whose layers move, with memory for so many."""
    spans = () if span is None else (span,)
    return Member(spans, speed=speed, memory_bytes=room_for(layers), moves=True, **more)


class House:
    """An owner (0), who decides unless `founder` says otherwise, and laptops."""

    def __init__(
        self,
        *laptops: Member,
        founder: int = 0,
        settings: Settings = SETTINGS,
        model: Model = MODEL,
    ) -> None:
        self.fleet = Fleet(
            7,
            model,
            (Member(can_load=False), *laptops),
            settings=settings,
            path=PATH,
            planned_tokens=TOKENS,
            founder=founder,
        )
        self.said: list[str] = []
        self.pauses: list[float] = []
        self._acts: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> House:
        await self.fleet.__aenter__()
        for node in self.fleet.nodes:
            node.replanner.told = self.said.append
        return self

    async def __aexit__(self, *raised) -> None:
        for act in self._acts:
            act.cancel()
        await self.fleet.__aexit__(*raised)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._acts.append(self.fleet.spawn(work))

    @property
    def swarm(self):
        return self.fleet.nodes[0].directory.swarm

    async def speak(self, tokens: int, then: dict[int, Callable[[], object]] | None = None):
        """All of a session's text, and the session; `then` says what happens after which token."""
        loop, spoken = asyncio.get_running_loop(), []
        session = await self.fleet.nodes[0].owner.open(MODEL, Sampling(), len(PROMPT))
        said_s = loop.time()
        async for token in speak(session, PROMPT, tokens):
            spoken.append(token.id)
            self.pauses.append(loop.time() - said_s)
            said_s = loop.time()
            act = (then or {}).get(len(spoken))
            if act is not None:
                found = act()
                if asyncio.iscoroutine(found):
                    self.spawn(found)
        return tuple(spoken), session

    async def settled(self, within_s: float = 60.0) -> None:
        """Return once nobody loads or lets go; fails when that lasts too long."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + within_s
        await asyncio.sleep(SETTINGS.settle_s)
        while {"fetching", "draining"} & {h.state for h in self.holdings()}:
            assert loop.time() < until_s, self.said
            await asyncio.sleep(0.5)

    def holdings(self):
        return [h for r in self.swarm.peers.values() for h in r.holdings]

    def spans(self, number: int) -> list[tuple[int, int]]:
        """What a peer's own engines hold."""
        holdings = self.fleet.nodes[number].holdings
        return [(span.first, span.last) for span in holdings.spans(MODEL_ID)]

    def step_s(self) -> float:
        owner = self.fleet.peer(0)
        way = route(self.swarm, SPEC, MODEL_ID, owner, COST)
        assert way is not None, "not covered"
        return route_s(self.swarm, SPEC, owner, way, COST)

    def is_quickest(self) -> bool:
        """Within what moves nothing: the gain asked for."""
        movable = [p for p, r in self.swarm.peers.items() if r.moves]
        best = place(self.swarm, SPEC, self.fleet.peer(0), COST, tokens=TOKENS, peers=movable)
        return self.step_s() <= best.step_s / (1 - SETTINGS.move_gain)

    def is_tidy(self) -> bool:
        """What peers hold is what they say, and all memory is what that takes."""
        for number, node in enumerate(self.fleet.nodes):
            if not self.fleet.is_alive(number):
                continue
            spans = node.holdings.spans(MODEL_ID)
            states = {h.state for h in node.holdings.holdings()}
            used = self.fleet.members[number].memory_bytes - node.holdings.room_bytes()
            weights = sum(HashEngine(SPEC, span).weight_bytes for span in spans)
            if node.worker.memories.all() or states & {"fetching", "draining"} or used != weights:
                return False
        return True

    async def when(self, number: int, state: str, act: Callable[[], object]) -> None:
        """Once a peer says that it has layers in a state."""
        peer = self.fleet.peer(number)
        while True:
            record = self.swarm.peers.get(peer)
            if record is not None and any(h.state == state for h in record.holdings):
                break
            await self.fleet.nodes[0].directory.changed()
        act()


def play(main: Callable[[House], Coroutine[Any, Any, None]], *laptops: Member, **options) -> None:
    """Run `main` in a house, and look at the end whether anything is stuck."""

    async def run() -> None:
        async with House(*laptops, **options) as house:
            await main(house)
            await house.settled()
            house.step_s()
            assert house.is_tidy()

    run_virtual(run)


THIRD = laptop(None, 5, speed=4.0, is_late=True)


def test_a_quick_third_device_takes_its_part_while_a_session_speaks():
    async def main(house: House) -> None:
        before_s = house.step_s()
        said, session = await house.speak(4000, {100: lambda: house.fleet.arrive(3)})
        assert said == text(4000)
        assert session.recovery.recovered_s == []
        assert len(session.recovery.moved_s) <= 1
        house.fleet.nodes[0].owner.close(session)
        await house.settled()
        assert house.is_quickest()
        assert house.step_s() < 0.8 * before_s
        assert house.spans(3) == [(0, 5)]
        assert len(house.said) == 1
        assert house.said[0].startswith("moving layers 0:4 from")

    play(main, laptop(LOWER, 5), laptop(UPPER, 5), THIRD)


def test_a_device_slowed_to_half_gives_layers_to_the_other():
    async def main(house: House) -> None:
        said, session = await house.speak(3000, {100: lambda: house.fleet.slow(2, 2.0)})
        assert said == text(3000)
        assert session.recovery.recovered_s == []
        house.fleet.nodes[0].owner.close(session)
        await house.settled()
        assert house.is_quickest()
        assert house.spans(1) != [(0, 4)]
        assert len(session.recovery.moved_s) == 1

    play(main, laptop(LOWER, 12), laptop(UPPER, 12))


def test_a_planned_move_holds_nobody_up_for_longer_than_one_replay():
    async def main(house: House) -> None:
        _, session = await house.speak(3000, {100: lambda: house.fleet.slow(2, 2.0)})
        house.fleet.nodes[0].owner.close(session)
        (moved_s,) = session.recovery.moved_s
        at = max(range(len(house.pauses)), key=lambda number: house.pauses[number])
        slowest_s = 8 * 2 * 0.001  # a token through all layers of the slow one
        assert house.pauses[at] < moved_s + 0.1
        assert moved_s < (len(PROMPT) + at) * slowest_s

    play(main, laptop(LOWER, 12), laptop(UPPER, 12))


def test_a_device_lost_for_good_is_replaced_and_the_rest_spread_anew():
    async def main(house: House) -> None:
        said, session = await house.speak(3000, {100: lambda: house.fleet.kill(2)})
        assert said == text(3000)
        assert len(session.recovery.recovered_s) == 1
        house.fleet.nodes[0].owner.close(session)
        await house.settled()
        assert house.is_quickest()

    play(main, laptop(Span(0, 3), 7), laptop(Span(3, 6), 7), laptop(Span(6, 8), 7))


def test_many_sessions_move_and_none_is_dropped():
    async def main(house: House) -> None:
        house.spawn(house.fleet.arrive(3))
        async with asyncio.TaskGroup() as tasks:
            talks = [tasks.create_task(house.speak(600)) for _ in range(6)]
        for talk in talks:
            said, session = talk.result()
            assert said == text(600)
            assert session.recovery.recovered_s == []
            house.fleet.nodes[0].owner.close(session)

    play(main, laptop(LOWER, 12), laptop(UPPER, 12), THIRD)


def test_a_session_that_nobody_speaks_with_moves_as_well():
    async def main(house: House) -> None:
        said, session = await house.speak(200)
        house.fleet.slow(1, 6.0)
        other, quick = await house.speak(1000)  # by whose steps it is noticed
        await house.settled()
        assert house.said
        assert len(session.recovery.moved_s) == 1
        results = await session.run([said[-1]], Want())
        assert (*said, *results[0].tokens) == text(201)
        assert session.recovery.recovered_s == []
        assert other == text(1000)
        for one in (session, quick):
            house.fleet.nodes[0].owner.close(one)

    play(main, laptop(LOWER, 12), laptop(UPPER, 12))


@pytest.mark.parametrize("state", ["fetching", "draining"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_peer_lost_in_the_middle_of_a_move_leaves_a_whole_swarm(number, state):
    """The second gets slow: the first loads all, and lets go of the half it had."""

    async def main(house: House) -> None:
        house.spawn(house.when(1, state, lambda: house.fleet.kill(number)))
        said, session = await house.speak(2500, {100: lambda: house.fleet.slow(2, 2.0)})
        assert said == text(2500)
        assert not house.fleet.is_alive(number)
        house.fleet.nodes[0].owner.close(session)
        await house.settled()
        await house.settled()
        assert house.is_quickest()

    play(main, laptop(LOWER, 12), laptop(UPPER, 12))


def test_a_newcomer_lost_while_it_loads_leaves_all_as_it_was():
    async def main(house: House) -> None:
        house.spawn(house.when(3, "fetching", lambda: house.fleet.kill(3)))
        said, session = await house.speak(2500, {100: lambda: house.fleet.arrive(3)})
        assert said == text(2500)
        assert not house.fleet.is_alive(3)
        house.fleet.nodes[0].owner.close(session)
        assert house.said[1:] == [f"the move ends here: {short(house.fleet.peer(3))} is gone"]
        assert [house.spans(n) for n in (1, 2)] == [[(0, 4)], [(4, 8)]]

    play(main, laptop(LOWER, 5), laptop(UPPER, 5), THIRD)


def test_a_load_that_fails_moves_nothing_and_is_told():
    def load(span: Span) -> HashEngine:
        if span not in (LOWER, UPPER):
            raise CheckpointError("the disk is worn out")
        return HashEngine(SPEC, span)

    async def main(house: House) -> None:
        said, session = await house.speak(2500, {100: lambda: house.fleet.arrive(3)})
        assert said == text(2500)
        assert session.recovery.moved_s == session.recovery.recovered_s == []
        house.fleet.nodes[0].owner.close(session)
        assert "the move ends here" in house.said[1]
        assert "the disk is worn out" in house.said[1]
        assert house.spans(1) == [(0, 4)]
        assert house.spans(3) == []

    play(main, laptop(LOWER, 5), laptop(UPPER, 5), THIRD, model=replace(MODEL, load=load))


@pytest.mark.parametrize("state", ["fetching", "draining"])
def test_without_who_decides_the_next_one_goes_on(state):
    async def main(house: House) -> None:
        house.spawn(house.when(1, state, lambda: house.fleet.kill(3)))
        said, session = await house.speak(4000, {100: lambda: house.fleet.slow(2, 2.0)})
        assert said == text(4000)
        assert not house.fleet.is_alive(3)
        assert session.recovery.recovered_s == []
        house.fleet.nodes[0].owner.close(session)
        await house.settled()
        await house.settled()
        assert house.is_quickest()
        assert house.spans(1) == [(0, 8)]

    decides = Member(can_load=False)
    play(main, laptop(LOWER, 12), laptop(UPPER, 12), decides, founder=3)


def test_layers_given_by_hand_stay_where_they_are():
    async def main(house: House) -> None:
        await house.fleet.arrive(3)
        house.fleet.slow(2, 4.0)
        _, session = await house.speak(1000)
        house.fleet.nodes[0].owner.close(session)
        await house.settled()
        assert house.spans(2) == [(4, 8)]

    by_hand = Member((UPPER,), memory_bytes=room_for(12))
    play(main, laptop(LOWER, 5), by_hand, THIRD)
