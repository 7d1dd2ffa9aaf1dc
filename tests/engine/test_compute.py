"""The compute thread: order, errors passed through, cancelled waiters, and its end."""

import asyncio
import threading

import pytest

from manyhands.engine.compute import ComputeThread
from manyhands.errors import ManyhandsError, ResourceError


@pytest.fixture
def compute():
    thread = ComputeThread()
    yield thread
    thread.close()
    assert thread.join(10)


async def test_work_runs_in_one_thread_of_its_own_and_its_answer_comes_back(compute):
    names = [await compute.run(threading.get_ident, 0.0) for _ in range(3)]
    assert len(set(names)) == 1
    assert names[0] != threading.get_ident()


async def test_work_is_done_in_the_order_it_was_asked_for(compute):
    done = []
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(compute.run(lambda n=number: done.append(n), 0.0))
    assert done == list(range(50))


async def test_an_error_reaches_who_asked_and_nobody_else(compute):
    def fail():
        raise ResourceError("no memory left")

    with pytest.raises(ResourceError, match="no memory left"):
        await compute.run(fail, 0.0)
    assert await compute.run(lambda: 5, 0.0) == 5


async def test_even_the_errors_that_futures_refuse_are_passed_on(compute):
    with pytest.raises(RuntimeError, match="StopIteration"):
        await compute.run(lambda: next(iter(())), 0.0)

    def leave():
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="SystemExit"):
        await compute.run(leave, 0.0)
    assert await compute.run(lambda: 5, 0.0) == 5


async def test_a_cancelled_waiters_work_is_done_all_the_same(compute):
    gate, done, faults = threading.Event(), [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    async with asyncio.TaskGroup() as group:
        first = group.create_task(compute.run(gate.wait, 0.0))
        second = group.create_task(compute.run(lambda: done.append("second"), 0.0))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        await asyncio.sleep(0)
        gate.set()
    assert await compute.run(lambda: list(done), 0.0) == ["second"]
    assert faults == []


async def test_the_event_loop_goes_on_while_work_runs(compute):
    gate = threading.Event()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(compute.run(lambda: gate.wait(20), 0.0))
        await asyncio.sleep(0)
        gate.set()  # would never be reached if `run` held the loop
    assert waiting.result()


async def test_on_start_runs_in_the_thread_before_its_first_work():
    seen = []
    thread = ComputeThread(lambda: seen.append(threading.get_ident()))
    assert await thread.run(lambda: [*seen, threading.get_ident()], 0.0) == seen * 2
    thread.close()
    assert thread.join(10)


async def test_a_failed_start_is_told_to_every_work():
    def start():
        raise ResourceError("no device")

    thread = ComputeThread(start)
    for _ in range(2):
        with pytest.raises(ResourceError, match="no device"):
            await thread.run(lambda: 5, 0.0)
    thread.close()
    assert thread.join(10)


async def test_closing_finishes_what_is_queued_and_takes_no_more():
    thread, gate, done = ComputeThread(), threading.Event(), []
    async with asyncio.TaskGroup() as group:
        group.create_task(thread.run(gate.wait, 0.0))
        group.create_task(thread.run(lambda: done.append(1), 0.0))
        await asyncio.sleep(0)
        thread.close()
        thread.close()
        with pytest.raises(ManyhandsError, match="closed"):
            await thread.run(lambda: 5, 0.0)
        gate.set()
    assert done == [1]
    assert thread.join(10)


def test_a_loop_that_ended_meanwhile_does_not_end_the_thread():
    thread, gate = ComputeThread(), threading.Event()

    async def leave():
        running = asyncio.get_running_loop().create_task(thread.run(gate.wait, 0.0))
        await asyncio.sleep(0)
        running.cancel()

    async def ask():
        return await thread.run(lambda: 5, 0.0)

    asyncio.run(leave())
    gate.set()
    assert asyncio.run(ask()) == 5
    thread.close()
    assert thread.join(10)
