"""Whether this machine runs on its battery, and how full that is."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Power:
    """`charge` is a share in [0, 1]; None without a battery, or where none is told of."""

    is_on_battery: bool
    charge: float | None


def power() -> Power:
    """As the system tells; a machine that tells of no battery is taken to be on mains."""
    read = getattr(psutil, "sensors_battery", None)  # not on every system
    try:
        battery = read() if read is not None else None
    except (OSError, RuntimeError, ValueError):  # a driver that tells half of it
        battery = None
    if battery is None:
        return Power(is_on_battery=False, charge=None)
    # plugged is None where the system does not know: it is not held against the machine
    return Power(battery.power_plugged is False, min(1.0, max(0.0, battery.percent / 100)))
