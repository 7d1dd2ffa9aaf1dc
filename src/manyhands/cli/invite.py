"""`hands invite`: another invite to the swarm that runs here, as text, link and QR code."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from manyhands.api.qr import qr_code
from manyhands.cli.console import Console
from manyhands.cli.http import Api
from manyhands.cli.words import read_duration
from manyhands.launch.joining import told_time

INVITES = "/swarm/invites"


@dataclass(frozen=True, slots=True)
class InviteOptions:
    """What was typed; see `hands invite --help`."""

    life: str | None = None
    guest: str | None = None
    qr: bool = True


def invite(console: Console, api: Api, options: InviteOptions) -> None:
    """Print an invite for one device. Raises UserError for odd times, and what Api raises."""
    asked: dict[str, Any] = {
        "life_s": None if options.life is None else read_duration(options.life),
        "guest_s": None if options.guest is None else read_duration(options.guest),
    }
    made = api.post(INVITES, asked)
    try:
        text, link, life_s = str(made["text"]), str(made["link"]), float(made["life_s"])
    except (LookupError, TypeError, ValueError):
        raise api.no_swarm() from None
    console.event("invite", text=text, link=link, life_s=life_s, guest_s=asked["guest_s"])
    if options.qr and console.is_terminal:
        console.say(drawn(link))
    console.say(f"hands join {link}", is_copied=True)
    guest_s = asked["guest_s"]
    console.say(
        f"for one device, within {told_time(life_s)}"
        + (f"; it is a guest for {told_time(guest_s)}" if guest_s is not None else ""),
        "dim",
    )


def drawn(link: str) -> str:
    """The link as a QR code of half blocks, some 40 columns wide."""
    picture = io.StringIO()
    qr_code(link).terminal(out=picture, compact=True, border=2)
    return picture.getvalue()
