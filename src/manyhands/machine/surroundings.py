"""All that a user's limits ask of the machine, looked at together."""

from __future__ import annotations

from datetime import datetime

from manyhands.domain.giving import Surroundings
from manyhands.machine.idleness import Source
from manyhands.machine.power import power


def surroundings(source: Source | None) -> Surroundings:
    """What is there now; `source` tells of input. Blocks as long as its command does."""
    now = datetime.now().astimezone()
    found = power()
    return Surroundings(
        idle_s=None if source is None else source.idle_s(),
        is_on_battery=found.is_on_battery,
        charge=found.charge,
        minute=60 * now.hour + now.minute,
    )
