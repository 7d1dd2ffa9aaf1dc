"""Who waits at the door, said in the terminal that runs the swarm; y or n typed there answers.

Where a chat reads the lines (`hands run`), its commands /approve and /deny do that.
"""

from __future__ import annotations

from manyhands.cli.console import Console
from manyhands.cli.typed import is_typed_at, listen
from manyhands.errors import UserError
from manyhands.node.approvals import Approvals, Newcomer
from manyhands.trust.short_code import read_code

_YES, _NO = frozenset({"y", "yes"}), frozenset({"n", "no"})


class AtDoor:
    """`run` it in the event loop of the swarm."""

    def __init__(self, console: Console, approvals: Approvals, *, has_chat: bool) -> None:
        self._console, self._approvals, self._has_chat = console, approvals, has_chat
        self._reads = not has_chat and is_typed_at(console)
        self._is_reading = False
        self._since: set[str] = set()  # codes that were told since a line was typed

    async def run(self) -> None:
        """Tell of each that comes, and of those that went, until cancelled."""
        told: tuple[Newcomer, ...] = ()
        while True:
            now = self._approvals.waiting()
            for newcomer in now:
                if newcomer not in told:
                    self._tell(newcomer)
            for newcomer in told:
                if newcomer not in now:
                    self._console.event("newcomer_gone", code=newcomer.code)
            told = now
            await self._approvals.changed()

    def _tell(self, newcomer: Newcomer) -> None:
        name, code = newcomer.name, newcomer.code
        self._since.add(code)
        how = f"`hands approve {code}` on this machine lets it in"
        if self._has_chat:
            how = f"/approve {code} lets it in, /deny {code} refuses it"
        elif self._reads:
            how = "approve? [y/n]"
            self._read_soon()
        self._console.say(
            f"{name} wants to join; code {code}. If its screen shows the same: {how}", "yellow"
        )
        self._console.event("newcomer", name=name, code=code, peer=newcomer.peer)

    def _read_soon(self) -> None:
        """Not before somebody waits: until then the lines are not for us."""
        if not self._is_reading:
            self._is_reading = True
            listen(self._heard)

    def _heard(self, line: str) -> None:
        word, _, code = line.lower().partition(" ")
        waiting, told = self._approvals.waiting(), len(self._since)
        self._since.clear()
        if not waiting or word not in _YES | _NO:
            return
        if max(len(waiting), told) > 1 and not code:  # who typed it may have meant one that left
            self._console.say(f"several devices have asked: type {word} and the code", "yellow")
            return
        newcomer = waiting[0]
        try:
            code = read_code(code) if code else newcomer.code
            newcomer = self._approvals.answer(code, is_welcome=word in _YES)
        except UserError as error:
            self._console.say(str(error), "yellow")
            return
        self._console.say(f"{newcomer.name} is {'let in' if word in _YES else 'refused'}")
