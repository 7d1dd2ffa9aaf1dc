"""Virtual time: sleeping costs nothing, the order is always the same, and a standstill is named."""

from __future__ import annotations

import asyncio
import time

import pytest

from manyhands.sim.virtual_loop import Deadlock, VirtualCompute, run_virtual


def now_s() -> float:
    return asyncio.get_running_loop().time()


def test_time_starts_at_zero_and_jumps_to_what_is_due():
    async def main():
        times = [now_s()]
        await asyncio.sleep(1e6)
        times.append(now_s())
        await asyncio.sleep(0)
        times.append(now_s())
        return times

    began_s = time.monotonic()
    assert run_virtual(main) == [0.0, 1e6, 1e6]
    assert time.monotonic() - began_s < 1e6  # not a limit on speed: it must not really sleep


def test_sleepers_wake_by_their_times_and_each_at_its_own():
    async def main():
        woken = []

        async def sleeper(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append((name, now_s()))

        async with asyncio.TaskGroup() as tasks:
            for name, seconds in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("d", 3.5)):
                tasks.create_task(sleeper(name, seconds))
        return woken

    assert run_virtual(main) == [("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 3.5)]


def test_two_runs_interleave_in_the_same_way():
    async def main():
        trace = []

        async def worker(name: int) -> None:
            for turn in range(20):
                await asyncio.sleep((name * 7 + turn * 3) % 5 / 10)
                trace.append((name, turn, now_s()))

        async with asyncio.TaskGroup() as tasks:
            for name in range(10):
                tasks.create_task(worker(name))
        return trace

    assert run_virtual(main) == run_virtual(main)


def test_a_time_out_is_virtual_too():
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        return now_s()

    assert run_virtual(main) == 3600


def test_waiting_for_what_cannot_happen_is_a_deadlock():
    async def main():
        await asyncio.sleep(5)
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="nothing is due"):
        run_virtual(main)


def test_a_deadlock_of_several_tasks_ends_them_all():
    ended = []

    async def stuck(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def main():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stuck("a"))
            tasks.create_task(stuck("b"))

    with pytest.raises(Deadlock):
        run_virtual(main)
    assert sorted(ended) == ["a", "b"]


def test_errors_come_out_as_they_are_and_the_next_run_starts_at_zero():
    async def fails():
        await asyncio.sleep(1)
        raise KeyError("mine")

    async def main():
        return now_s()

    with pytest.raises(KeyError, match="mine"):
        run_virtual(fails)
    assert run_virtual(main) == 0.0


def test_compute_does_the_work_at_once_and_sleeps_its_cost():
    async def main():
        done = []
        compute = VirtualCompute(speed=2.0)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(compute.run(lambda: done.append(now_s()) or "result", 3.0))
        assert running.result() == "result"
        return done, now_s()

    assert run_virtual(main) == ([0.0], 1.5)


def test_what_the_work_raises_comes_out_of_run():
    async def main():
        with pytest.raises(ZeroDivisionError):
            await VirtualCompute().run(lambda: 1 // 0, 1.0)

    run_virtual(main)
