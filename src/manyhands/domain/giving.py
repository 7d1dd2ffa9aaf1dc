"""What a device's user lets others have of it, what is seen of the machine, and why it pauses.

Knows nothing of how any of it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from manyhands.errors import BadSetting

When = Literal["always", "idle"]

Pause = Literal["", "user", "unread", "mains", "battery", "hours", "asleep", "leaving"]
"""Why a peer gives nothing now; "" while it gives. It crosses the wire: no more is told of anybody.

user: somebody uses the device · unread: nobody can tell whether somebody does · mains: it runs on
its battery · battery: that is low · hours: it is not the time · asleep: it is about to sleep ·
leaving: it is on its way out.
"""

TOLD: dict[Pause, str] = {
    "user": "somebody uses it",
    "unread": "it cannot tell whether somebody uses it",
    "mains": "it runs on its battery",
    "battery": "its battery is low",
    "hours": "it is not the time",
    "asleep": "it goes to sleep",
    "leaving": "it is leaving",
}
"""Each pause in words."""

DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Hours:
    """The minutes [first, last) of the local day; past midnight where the last is the lesser."""

    first: int
    last: int

    def __contains__(self, minute: int) -> bool:
        if self.first <= self.last:
            return self.first <= minute < self.last
        return minute >= self.first or minute < self.last


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be taken, and when. Raises BadSetting for a figure out of its range.

    Giving stops as soon as somebody uses the device and begins again once nobody has for
    `idle_after_s`. On battery it stops below `least_charge`. `cpu_share` is of all cores together.
    """

    when: When = "always"
    idle_after_s: float = 60.0
    on_mains: bool = False
    hours: Hours | None = None
    least_charge: float = 0.2
    cpu_share: float = 1.0
    upload_bytes_per_s: float = inf

    def __post_init__(self) -> None:
        ranges = {
            "idle_after_s": (1.0, 86400.0),
            "least_charge": (0.0, 1.0),
            "cpu_share": (0.01, 1.0),
            "upload_bytes_per_s": (1e3, inf),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadSetting(f"{name} is {value!r}; it must be a number in [{low:g}, {high:g}]")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was seen of the machine. `idle_s` is None where it was not read or could not be.

    `charge` is the battery's, as a share; None without one. `minute` is of the local day.
    """

    idle_s: float | None = None
    is_on_battery: bool = False
    charge: float | None = None
    minute: int = 0
