"""`hands approve`: say yes or no to a device that waits at the door of the swarm run here."""

from __future__ import annotations

from manyhands.cli.console import Console
from manyhands.cli.http import Api
from manyhands.errors import UserError

NEWCOMERS = "/swarm/newcomers"


def approve(console: Console, api: Api, code: str | None, *, is_welcome: bool) -> None:
    """Answer the device that shows `code`; without a code, print who waits.

    Raises UserError when nobody shows it, and what Api raises.
    """
    if code is None and is_welcome:
        _show(console, waiting(api))
        return
    name, code = answered(api, code, is_welcome=is_welcome)
    console.say(f"{name} ({code}) is {'let in' if is_welcome else 'refused'}")
    console.event("answered", name=name, code=code, approved=is_welcome)


def waiting(api: Api) -> tuple[tuple[str, str], ...]:
    """Name and code of each device that waits. Raises what Api raises."""
    try:
        return tuple(
            (str(one["name"]), str(one["code"])) for one in api.get(NEWCOMERS)["newcomers"]
        )
    except (LookupError, TypeError):
        raise api.no_swarm() from None


def answered(api: Api, code: str | None, *, is_welcome: bool) -> tuple[str, str]:
    """Say yes or no: name and code of the device that heard it.

    Without a code the only one that waits is meant. Raises UserError.
    """
    if code is None:
        names = waiting(api)
        if len(names) != 1:
            raise UserError(
                "nobody waits to be let in"
                if not names
                else f"{len(names)} devices wait; say the code that yours shows"
            )
        ((_, code),) = names
    said = api.post(NEWCOMERS, {"code": code, "approve": is_welcome})
    try:
        return str(said["newcomer"]["name"]), str(said["newcomer"]["code"])
    except (LookupError, TypeError):
        raise api.no_swarm() from None


def _show(console: Console, names: tuple[tuple[str, str], ...]) -> None:
    for name, code in names:
        console.say(f"{code}  {name}")
        console.event("newcomer", name=name, code=code)
    if names:
        console.say("type `hands approve CODE` if the device shows the same one", "dim")
    else:
        console.say("nobody waits to be let in")
