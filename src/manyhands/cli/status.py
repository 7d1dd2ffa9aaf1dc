"""`hands status`: which peers hold which layers of what runs, and what is missing."""

from __future__ import annotations

from typing import Any

from manyhands.cli.console import Console
from manyhands.cli.http import Api
from manyhands.cli.words import as_size


def status(console: Console, api: Api) -> None:
    """Print a snapshot of the swarm. Raises what Api raises."""
    swarm = api.get("/swarm")
    if not isinstance(swarm, dict):
        raise api.no_swarm()
    if console.as_json:
        console.event("status", **swarm)
        return
    try:
        console.say(f"{api.url}")
        for model in swarm["models"]:
            _show_model(console, model, swarm["peers"])
    except (LookupError, TypeError, ValueError, AttributeError):
        raise api.no_swarm() from None


SIGNS = {"ready": "█", "draining": "▓", "fetching": "░"}
"""Of a layer at a peer: there; to be let go of soon; being loaded."""


def _sign(held: list[dict[str, Any]], layer: int) -> str:
    states = {one["state"] for one in held if one["first"] <= layer < one["last"]}
    return next((sign for state, sign in SIGNS.items() if state in states), "·")


def _show_model(console: Console, model: dict[str, Any], peers: list[dict[str, Any]]) -> None:
    layers = int(model["layers"])
    console.say(f"\n{model['name']}  {layers} layers", "bold")
    for peer in peers:
        held = [one for one in peer["holdings"] if one["model"] == model["name"]]
        paused = peer.get("paused")
        bar = "".join(_sign(held, layer) for layer in range(layers))
        mark = "  (this one)" if peer["is_me"] else f"  {peer.get('name', '')}"
        size = as_size(peer["device"]["memory_bytes"] - peer["room_bytes"])
        console.say(f"  {peer['short']}  {bar}  {size:>9}  {peer['kernels']}{mark}")
        if paused:
            console.say(f"  {'':{len(peer['short'])}}  gives nothing now: {paused}", "yellow")
    unheld = [
        f"{run['first']}:{run['last']}" for run in model["coverage"] if run["state"] != "ready"
    ]
    if unheld:
        console.say(f"  nobody has loaded layers {', '.join(unheld)}", "yellow")
    else:
        console.say("  every layer is held: ready to answer", "green")
