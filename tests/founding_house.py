"""A swarm founded in the test itself, around a tiny model: for tests of its door and its peers."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from manyhands.domain.device import Device
from manyhands.domain.settings import Settings
from manyhands.launch.founding import Founding, Ports, found_swarm
from manyhands.node.opened import Opened, open_model
from manyhands.store.home import Home
from node_cases import model

DEVICE = Device("cpu", 1 << 30, 10e9, 50e9, 1e-4)
# a slow machine is no silent peer
SETTINGS = Settings(silent_after_s=20.0, dial_deadline_s=20.0, record_every_s=0.5)


def hashed() -> Opened:
    """The model of hashes, as if it had been opened from a folder."""
    made = model()
    made = replace(made, profile=replace(made.profile, kernels="hash-int-1"))
    return Opened("hashes", Path("hashes"), made, None, frozenset(), None)


def small(folder: Path, settings: Settings = SETTINGS) -> Opened:
    """A real checkpoint on the engine that needs no torch."""
    return open_model(folder, settings, engine="numpy")


@contextlib.asynccontextmanager
async def founding(
    folder: Path,
    opened: Opened | None = None,
    settings: Settings = SETTINGS,
    ports: Ports | None = None,
    **options,
):
    """A running Founding whose home is `folder`."""
    with Home(folder) as home:
        async with found_swarm(
            home, opened or hashed(), DEVICE, settings, ports or Ports(), **options
        ) as swarm:
            yield swarm


__all__ = ["DEVICE", "SETTINGS", "Founding", "founding", "hashed", "small"]
