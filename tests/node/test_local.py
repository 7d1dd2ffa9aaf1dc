"""Swarms inside a process: what a killed or failed peer leaves behind, starts that never end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest

from manyhands.domain.settings import Settings
from manyhands.domain.work import Sampling
from manyhands.errors import DeadlinePassed, ManyhandsError, UserError
from manyhands.node.generate import speak
from manyhands.node.local import LocalSwarm
from node_cases import DEVICE, SPEC, model, true_tokens

ROOMY = replace(DEVICE, memory_bytes=1 << 30)
SHORT = Settings(load_deadline_s=2.0)


def swarm_of(peers: int = 3, settings: Settings | None = None) -> LocalSwarm:
    return LocalSwarm(model(), peers, ROOMY, settings or Settings())


@contextlib.asynccontextmanager
async def serving(swarm: LocalSwarm):
    started = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(swarm.serve(started))
        await started.wait()
        yield
        swarm.stop()


def threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name in ("compute", "loading")}


async def until(is_so: Callable[[], bool]) -> None:
    """The test's own timeout ends a wait for what never comes."""
    while not is_so():
        gc.collect()
        await asyncio.sleep(0.01)


async def say(swarm: LocalSwarm, count: int) -> list[int]:
    session = await swarm.owner.owner.open(swarm.model, Sampling(), 3, 0)
    try:
        return [token.id async for token in speak(session, (1, 2, 3), count)]
    finally:
        swarm.owner.owner.close(session)


def truth(count: int) -> list[int]:
    text = [1, 2, 3]
    for _ in range(count):
        text.append(true_tokens(text)[-1])
    return text[3:]


async def fail() -> None:
    raise RuntimeError("a bug")


@pytest.mark.parametrize("number", [1, 2])
async def test_a_killed_peer_leaves_no_thread_and_no_memory(number: int) -> None:
    swarm, before = swarm_of(), threads()
    async with serving(swarm):
        assert await say(swarm, 5) == truth(5)
        node = weakref.ref(swarm.nodes[number])
        engine = weakref.ref(next(iter(swarm.nodes[number].holdings._engines.values())))
        assert len(threads() - before) == 6
        swarm.kill(number)
        assert sorted(swarm.alive()) == [one for one in range(3) if one != number]
        await until(lambda: len(threads() - before) == 4)
        await until(lambda: node() is None and engine() is None)
        assert await say(swarm, 5) == truth(5)
        with pytest.raises(UserError, match="cannot be killed"):
            swarm.kill(number)
    await until(lambda: not threads() - before)


async def test_a_failed_peer_leaves_no_thread_either(caplog) -> None:
    swarm, before = swarm_of(), threads()
    async with serving(swarm):
        swarm.nodes[2].peers._spawn(fail())
        await until(lambda: sorted(swarm.alive()) == [0, 1])
        await until(lambda: len(threads() - before) == 4)
        assert "peer 2 failed" in caplog.text
        assert await say(swarm, 5) == truth(5)


async def test_a_swarm_that_ended_keeps_nothing() -> None:
    swarm, before = swarm_of(), threads()
    async with serving(swarm):
        nodes = [weakref.ref(node) for node in swarm.nodes.values()]
    await until(lambda: not threads() - before)
    await until(lambda: not any(node() for node in nodes))
    assert swarm.alive() == {}
    with pytest.raises(UserError, match="closed"):
        swarm.owner.owner.context(swarm.model)


async def fails_to_start(swarm: LocalSwarm, break_it: Callable[[], None]) -> ManyhandsError:
    """What `serve` raises when something breaks as soon as its nodes exist."""
    before = threads()

    async def start() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(swarm.serve(asyncio.Event()))
            await asyncio.sleep(0)
            break_it()

    with pytest.raises(ExceptionGroup) as raised:
        await start()
    await until(lambda: not threads() - before)
    error: BaseException = raised.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ManyhandsError)
    return error


async def test_a_peer_that_does_not_start_is_named_at_the_deadline() -> None:
    swarm = swarm_of(settings=SHORT)
    error = await fails_to_start(swarm, lambda: swarm._running[1].cancel())
    assert isinstance(error, DeadlinePassed)
    assert "peer 1" in str(error)
    assert "load_deadline_s" in str(error)


async def test_a_peer_that_nobody_hears_of_is_named_at_the_deadline() -> None:
    swarm = swarm_of(settings=SHORT)

    def cut() -> None:
        names = [node.peer for node in swarm.nodes.values()]
        for other in names[:2]:
            swarm._network.cut(other, names[2])
            swarm._network.cut(names[2], other)

    error = await fails_to_start(swarm, cut)
    assert isinstance(error, DeadlinePassed)
    assert f"peer 2 with layers {swarm._spans[2]}" in str(error)
    assert "peer 1" not in str(error)


async def test_a_peer_that_fails_while_it_starts_ends_the_start_by_its_own_error() -> None:
    swarm = swarm_of()

    def take_its_address() -> None:
        swarm._network.listen(swarm.nodes[1].peer, lambda connection: None)

    error = await fails_to_start(swarm, take_its_address)
    assert isinstance(error, UserError)
    assert "listens already" in str(error)


async def test_a_span_that_cannot_be_loaded_ends_the_start() -> None:
    swarm = LocalSwarm(model(), 3, replace(DEVICE, memory_bytes=1), Settings())
    error = await fails_to_start(swarm, lambda: None)
    assert "needs" in str(error)
    assert len(SPEC.layers) == 4
