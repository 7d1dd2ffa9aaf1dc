"""What was typed of when and how much to give: read into Limits, and joined to this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from manyhands.cli.console import Console
from manyhands.cli.words import read_duration, read_size
from manyhands.domain.admission import RunningModel
from manyhands.domain.giving import TOLD, Hours, Limits, Pause
from manyhands.domain.weight_format import INTEGER_FORMATS
from manyhands.errors import UserError
from manyhands.machine import priority, sleep
from manyhands.machine.idleness import Source, find_source
from manyhands.machine.surroundings import surroundings
from manyhands.node.giving import Giving
from manyhands.node.live import LivePeer
from manyhands.plan.giving import duty, threads

_HOURS = re.compile(r"([0-9]{1,2})(?::([0-9]{2}))?-([0-9]{1,2})(?::([0-9]{2}))?", re.ASCII)
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)\s*%", re.ASCII)


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """What was typed; see `hands join --help`."""

    when: str = "always"
    idle_after: str = "60s"
    idle_from: str | None = None
    on_mains: bool = False
    hours: str | None = None
    max_cpu: str = "100%"
    max_upload: str | None = None
    low_priority: bool | None = None


NO_LIMITS = LimitOptions()


def read_limits(typed: LimitOptions) -> Limits:
    """Raises UserError, BadSetting that say how to write it."""
    if typed.when not in ("always", "idle"):
        raise UserError(f"--when is {typed.when!r:.80}; it must be always or idle")
    upload = inf if typed.max_upload is None else float(read_size(typed.max_upload))
    return Limits(
        when="idle" if typed.when == "idle" else "always",
        idle_after_s=read_duration(typed.idle_after),
        on_mains=typed.on_mains,
        hours=None if typed.hours is None else read_hours(typed.hours),
        cpu_share=read_share(typed.max_cpu),
        upload_bytes_per_s=upload,
    )


def read_hours(text: str) -> Hours:
    """From when to when, as 22-07 or 22:30-06:15; 24 is the end of the day."""
    found = _HOURS.fullmatch(text.strip())
    if found is not None:
        first, last = (
            60 * int(hour) + int(minute or 0)
            for hour, minute in (found.group(1, 2), found.group(3, 4))
        )
        minutes_are_real = all(int(minute or 0) < 60 for minute in found.group(2, 4))
        if minutes_are_real and first < 24 * 60 and 0 <= last <= 24 * 60 and first != last:
            return Hours(first, last)
    raise UserError(f"{text[:80]!r} are no hours; write them as 22-07 or 22:30-06:15")


def read_share(text: str) -> float:
    """A share of all cores, as 50%."""
    found = _PERCENT.fullmatch(text.strip())
    if found is None or not 1 <= float(found[1]) <= 100:
        raise UserError(
            f"--max-cpu is {text[:80]!r}; write a share of all cores, as 50% (1 to 100)"
        )
    return float(found[1]) / 100


async def follow_sleep(giving: Giving) -> None:
    """Tell it of the machine's sleep, as far as the system does."""
    async for is_asleep in sleep.announced():
        giving.sleep(is_asleep=is_asleep)


class Sparing:
    """The limits of one `hands join`, on this machine. Raises what cannot be read, at once."""

    def __init__(self, typed: LimitOptions, *, is_child: bool) -> None:
        self.limits = read_limits(typed)
        # who starts several processes of its own wants their work done
        self.is_low = typed.low_priority if typed.low_priority is not None else not is_child
        self._source: Source | None = None
        if self.limits.when == "idle":
            self._source = find_source(typed.idle_from)
        elif typed.idle_from is not None:
            raise UserError("--idle-from tells when nobody is here: it is for --when idle")
        self._cores = os.cpu_count() or 1

    def threads(self, wanted: RunningModel, asked: int | None) -> int | None:
        """How many threads compute: numpy in floating point leaves that to BLAS."""
        is_free = wanted.engine == "torch" or wanted.dtype in INTEGER_FORMATS
        return threads(self.limits, self._cores, asked) if is_free else asked

    @contextlib.contextmanager
    def group(self) -> Iterator[None]:
        """Let this terminal yield meanwhile, where that matters."""
        with priority.lowered_group() if self.is_low else contextlib.nullcontext():
            yield

    async def begin(self, peer: LivePeer, computing: int | None) -> None:
        """Have the peer compute within the limits from now on."""
        peer.node.limit(self.limits.upload_bytes_per_s, duty(self.limits, self._cores, computing))
        if self.is_low:
            await peer.in_each_thread(priority.lower)

    def giving(self, peer: LivePeer, console: Console) -> Giving:
        """To be run once the peer has started."""
        if self._source is not None:
            console.say(f"giving while nobody uses this machine, as told by {self._source.name}")

        def told(why: Pause) -> None:
            if why:
                console.say(f"giving nothing now: {TOLD[why]}", "yellow")
                console.event("paused", why=why)
            else:
                console.say("giving again", "green")
                console.event("giving")

        return Giving(
            peer.node,
            self.limits,
            lambda: asyncio.to_thread(surroundings, self._source),
            told,
        )
