"""A running Worker with hash engines on virtual time; its links write down what it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from manyhands.domain.device import Device
from manyhands.domain.ids import PeerId, SessionId
from manyhands.domain.messages import Ready, Refused
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.work import Result, Step
from manyhands.engine.engine import Chunk, Output
from manyhands.node.holdings import Holdings
from manyhands.node.model import Model
from manyhands.node.worker import Worker
from manyhands.sim.hash_engine import HashEngine
from manyhands.sim.virtual_loop import VirtualCompute, run_virtual
from node_cases import ALONE, ANNA, DEVICE, MODEL_ID, OWNER, SPEC, RecordingLinks, model, opening

SETTLED_S = 0.2
"""Virtual seconds: enough for a few steps."""

NO_BEATS = Settings(beat_every_s=60.0)
"""So that tests about anything else see what was sent without the beats between."""


class CountingEngine(HashEngine):
    """A hash engine that writes down how many tokens each of the chunks had that came together."""

    def __init__(self, spec, span: Span, batches: list[list[int]]) -> None:
        super().__init__(spec, span, token_s=1e-6)
        self._batches = batches

    def step(self, batch: Sequence[Chunk]) -> list[Output]:
        self._batches.append([len(chunk.token_ids) for chunk in batch])
        return super().step(batch)


class Bench:
    """`bench.receive(source, message)`, then `await bench.settle()`, then look at `bench.links`."""

    def __init__(
        self,
        me: PeerId = ANNA,
        served: Model | None = None,
        device: Device = DEVICE,
        settings: Settings | None = None,
        loading=None,
        links: RecordingLinks | None = None,
    ) -> None:
        self.links = links or RecordingLinks()
        self.done = 0
        self.batches: list[list[int]] = []
        one = served or replace(model(), load=lambda span: CountingEngine(SPEC, span, self.batches))
        self.holdings = Holdings(device, {MODEL_ID: one}, loading or VirtualCompute(), lambda: None)
        self.worker = Worker(
            me,
            self.holdings,
            VirtualCompute(),
            asyncio.get_running_loop().time,
            settings or NO_BEATS,
            self.links,
        )

    def receive(self, source: PeerId, *messages) -> None:
        """Messages arrive, one right after the other."""
        for message in messages:
            self.worker.receive(source, message, self._count)

    async def settle(self, seconds: float = SETTLED_S) -> None:
        """Let the worker work off what it has."""
        await asyncio.sleep(seconds)

    async def opened(self, *openings) -> None:
        """Open sessions as their owner; all must get ready."""
        self.receive(OWNER, *(openings or (opening(route=ALONE),)))
        await self.settle()
        assert self.links.of(Refused) == []
        assert len(self.links.of(Ready)) == max(1, len(openings))
        self.links.take()
        self.done = 0

    def answer(self, number: int = -1) -> Result:
        return self.links.of(Result)[number]

    def said_to(self, session: SessionId) -> Result:
        """The one result of a session."""
        (result,) = [one for one in self.links.of(Result) if one.session == session]
        return result

    def tokens(self) -> list[int]:
        """All tokens of all results."""
        return [token for result in self.links.of(Result) for token in result.tokens]

    def passed_on(self) -> list[Step]:
        return self.links.of(Step)

    def refusal(self) -> str:
        """The code of the one refusal."""
        (refused,) = self.links.of(Refused)
        return refused.code

    def _count(self) -> None:
        self.done += 1


def on_bench(test, **options) -> None:
    """Run `test(bench)` beside its running worker, on virtual time."""

    async def main():
        bench = Bench(**options)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(bench.worker.run())
            await asyncio.sleep(0)
            await test(bench)
            running.cancel()

    run_virtual(main)
