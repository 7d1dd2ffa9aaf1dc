"""An emulated network in a process of its own: started, told what to do, ended.

Peers that are processes of this machine dial each other by gates: one that listens at `--port` and
tells others the gate by `--public-port` is reached with the delay, rate and faults asked for here.

    async with Emulator() as network:
        await network.shape(Shape(latency_s=0.025, rate_bytes_per_s=12.5e6))
        public_port = await network.gate("ben", 7711)
        ...                          # hands join DOOR --port 7711 --public-port {public_port}
        await network.know("ben", process.pid)
        await network.part("ben")    # and later heal()
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Any

from manyhands.errors import ResourceError, UserError
from manyhands.sim.links import ANYBODY
from manyhands.sim.shaping import Shape


class Emulator:
    """Use as an async context manager; the methods are those of `links.Links`. One after the other.

    `seed` draws jitter and losses. Every method raises UserError for what cannot be done.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Emulator:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "manyhands.sim.emulator_child",
            str(self._seed),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return self

    async def __aexit__(self, *raised: Any) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()

    async def gate(self, name: str, target_port: int) -> int:
        """A port of this machine that leads to `name`, which listens at `target_port`."""
        return int((await self._do("gate", name=name, target_port=target_port))["port"])

    async def know(self, name: str, pid: int) -> None:
        """What this process dials is from `name`."""
        await self._do("know", name=name, pid=pid)

    async def shape(self, shape: Shape, source: str = ANYBODY, target: str = ANYBODY) -> None:
        """Give a direction its shape, or all that have none of their own."""
        said = {word: value for word, value in asdict(shape).items() if value != float("inf")}
        await self._do("shape", source=source, target=target, **said)

    async def block(self, source: str, target: str) -> None:
        """Bytes in one direction stop; nobody is told."""
        await self._do("block", source=source, target=target)

    async def part(self, name: str, other: str = ANYBODY) -> None:
        """Bytes in both directions stop between two, or between one and all others."""
        await self.block(name, other)
        await self.block(other, name)

    async def heal(self) -> None:
        """Whatever was stopped goes on."""
        await self._do("unblock")

    async def cut(self, name: str, other: str = ANYBODY) -> int:
        """Reset the connections between two, or of one; how many there were."""
        return int((await self._do("cut", one=name, other=other))["ended"])

    async def _do(self, command: str, **words: Any) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise UserError("the emulated network does not run; use `async with Emulator()`")
        process.stdin.write(json.dumps({"do": command, **words}).encode() + b"\n")
        line = await process.stdout.readline()
        if not line:
            raise ResourceError(f"the emulated network has ended by {process.returncode}")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise UserError(f"the emulated network refused {command}: {said['error']}")
        return said
