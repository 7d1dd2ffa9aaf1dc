"""Who asks to be let in and waits for a person's word, and what that word was.

Knows no sockets, screens or keys: the code that both screens show is an argument.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from manyhands.domain.ids import PeerId
from manyhands.errors import DeadlinePassed, PeerError, UserError

MOST_ASKING = 8
"""So many may ask within the time that one may wait. A place stays taken for all of that time, also
when whoever asked leaves at once: else somebody between two devices could try codes until two are
alike."""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A device at the door. `name` is its own word, `code` what its screen shows."""

    peer: PeerId
    name: str
    code: str
    until_s: float
    """Of the clock that Approvals has."""


class Approvals:
    """Use within one event loop. `clock` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float], wait_s: float, most: int = MOST_ASKING) -> None:
        self.wait_s = wait_s
        self._clock, self._most = clock, most
        self._places: list[float] = []  # until when each is taken
        self._waiting: dict[Newcomer, asyncio.Future[bool]] = {}
        self._changed = asyncio.Event()

    def take_place(self) -> None:
        """Before the door says its number to somebody. Raises PeerError when too many ask."""
        now_s = self._clock()
        self._places = [until_s for until_s in self._places if until_s > now_s]
        if len(self._places) >= self._most:
            raise PeerError(
                f"{self._most} devices asked to be let in lately, which is as many as a person "
                f"can look at; try again in {max(1, round(min(self._places) - now_s))} s, or ask "
                "for an invite"
            )
        self._places.append(now_s + self.wait_s)

    def waiting(self) -> tuple[Newcomer, ...]:
        """Who waits for a word, the first one first."""
        return tuple(self._waiting)

    async def changed(self) -> None:
        """Return when somebody begins or ends to wait."""
        await self._changed.wait()

    async def judged(self, peer: PeerId, name: str, code: str) -> None:
        """Return once a person approved this one; cancelling is its leaving.

        Raises PeerError when a person said no, DeadlinePassed when nobody said anything.
        """
        newcomer = Newcomer(peer, name, code, self._clock() + self.wait_s)
        if any(code == other.code for other in self._waiting):
            raise PeerError("another device shows the same code just now; ask once more")
        word = self._waiting[newcomer] = asyncio.get_running_loop().create_future()
        self._tell()
        try:
            async with asyncio.timeout(self.wait_s):
                is_welcome = await word
        except TimeoutError:
            raise DeadlinePassed(
                f"nobody approved this device within {self.wait_s:.0f} s; see that somebody looks "
                "at the screen there (or types `hands approve CODE`), and ask again"
            ) from None
        finally:
            del self._waiting[newcomer]
            self._tell()
        if not is_welcome:
            raise PeerError("whoever runs the swarm said no to this device")

    def answer(self, code: str, *, is_welcome: bool) -> Newcomer:
        """A person's word to the device that shows `code`. Raises UserError when none does."""
        for newcomer, word in self._waiting.items():
            if newcomer.code == code and not word.done():
                word.set_result(is_welcome)
                return newcomer
        raise UserError(
            f"no device that shows {code} waits to be let in; if one shows another code than you "
            "see here, somebody stands between: do not approve it"
        )

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
