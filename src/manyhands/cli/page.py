"""`hands page`: a link to the page of what runs here, by which it is its owner's."""

from __future__ import annotations

from manyhands.cli.console import Console
from manyhands.cli.http import Api
from manyhands.launch.joining import told_time

PASSES = "/swarm/passes"


def page(console: Console, api: Api) -> None:
    """Print the link. Raises what Api raises."""
    made = api.post(PASSES, {})
    try:
        # behind the #, which browsers send to nobody
        link, life_s = f"{api.url}/#pass={made['pass']}", float(made["life_s"])
    except (LookupError, TypeError, ValueError):
        raise api.no_swarm() from None
    console.event("page", link=link, life_s=life_s)
    console.say(link, is_copied=True)
    console.say(
        f"opens the page once, within {told_time(life_s)}, as yours: there you let devices in, "
        "invite and plan. Keep it to yourself.",
        "dim",
    )
