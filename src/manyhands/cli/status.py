"""`hands status`: which peers hold which layers of what runs, and what is missing."""

from __future__ import annotations

from manyhands.cli.console import Console
from manyhands.cli.http import Api
from manyhands.cli.swarm_screen import UNLIMITED, Shown, screen


def status(console: Console, api: Api) -> None:
    """Print a snapshot of the swarm. Raises what Api raises."""
    swarm = api.get("/swarm")
    if not isinstance(swarm, dict):
        raise api.no_swarm()
    if console.as_json:
        console.event("status", **swarm)
        return
    width = console.rich.width if console.is_terminal else UNLIMITED
    try:
        lines = screen(Shown(api.url, swarm), width)
    except (LookupError, TypeError, ValueError, AttributeError):
        raise api.no_swarm() from None
    for line in lines:
        console.rich.print(line, soft_wrap=True)
