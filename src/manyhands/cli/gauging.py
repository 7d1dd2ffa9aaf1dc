"""Measures the machine we run on for the swarm's own engine, so that others count with it.

Takes seconds the first time in a week; a machine that cannot be measured is guessed, and what it
really does is seen from its steps.
"""

from __future__ import annotations

import asyncio
import logging
import threading

from manyhands.cli.console import Console
from manyhands.engine.remembered import measured_here
from manyhands.errors import ManyhandsError
from manyhands.node.app import Node
from manyhands.node.live import wall_clock

log = logging.getLogger(__name__)


async def gauge(console: Console, node: Node, engine: str, dtype: str, threads: int | None) -> None:
    """Measure, unless that was lately, and let the node tell the figures."""
    stop = threading.Event()
    try:
        found = await asyncio.to_thread(
            measured_here, engine, dtype, threads, wall_clock, stop=stop
        )
    except ManyhandsError as error:
        log.info("this machine is guessed: %s", error)
        return
    finally:
        stop.set()  # left alone by a Ctrl-C, the child would measure on
    device = found.device
    node.gauge.measured(device)
    console.say(
        f"measured {device.read_bytes_per_s / 1e9:.0f} GB/s, "
        f"{device.flops_per_s / 1e9:,.0f} GFLOP/s with {found.engine} in {found.dtype}"
    )
    console.event(
        "measured", read_bytes_per_s=device.read_bytes_per_s, flops_per_s=device.flops_per_s
    )
