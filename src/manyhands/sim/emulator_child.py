"""The process of an emulated network: a command a line on standard input, its answer a line back.

    python -m manyhands.sim.emulator_child
    {"do": "gate", "name": "ben", "target_port": 7711}       -> {"port": 40123}
    {"do": "shape", "latency_s": 0.01, "rate_bytes_per_s": 12500000}
    {"do": "block", "source": "ben", "target": "*"}

The commands are the methods of `links.Links` with their arguments; what is wrong is answered by
`error`. It ends when its input does. A process of its own, so that nobody's work makes it late.
"""

from __future__ import annotations

import asyncio
import json
import random
import selectors
import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from manyhands.sim.links import Links
from manyhands.sim.shaping import Shape

SHAPE_WORDS = frozenset(field.name for field in fields(Shape))


def obey(links: Links, words: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out one command. Raises TypeError for arguments it has not."""
    said = dict(words)
    match said.pop("do", None):
        case "gate":
            return {"port": links.gate(**said)}
        case "know":
            links.know(**said)
        case "shape":
            shape = Shape(**{word: said.pop(word) for word in SHAPE_WORDS & said.keys()})
            links.shape(shape, **said)
        case "block":
            links.block(**said)
        case "unblock":
            links.unblock(**said)
        case "cut":
            return {"ended": links.cut(**said)}
        case other:
            return {"error": f"there is no command {other!r}"}
    return {}


async def run(seed: int) -> None:
    """Obey until standard input ends."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        links = Links(tasks, random.Random(seed))
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            try:
                answer = obey(links, json.loads(line))
            except (TypeError, ValueError, AttributeError, OSError) as error:
                answer = {"error": f"{line.strip()}: {error}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        links.close()


if __name__ == "__main__":
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    ) as runner:
        runner.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
