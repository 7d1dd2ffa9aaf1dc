"""`hands status`: which peers hold which layers of what runs, and what is missing."""

from __future__ import annotations

from typing import Any

from manyhands.cli.console import Console
from manyhands.cli.http import Api
from manyhands.cli.words import as_size


def status(console: Console, api: Api) -> None:
    """Print a snapshot of the swarm. Raises what Api raises."""
    swarm = api.get("/swarm")
    if console.as_json:
        console.event("status", **swarm)
        return
    console.say(f"{api.url}")
    for model in swarm["models"]:
        _show_model(console, model, swarm["peers"])


def _show_model(console: Console, model: dict[str, Any], peers: list[dict[str, Any]]) -> None:
    layers = int(model["layers"])
    console.say(f"\n{model['name']}  {layers} layers", "bold")
    for peer in peers:
        spans = [
            held["span"]
            for held in peer["holdings"]
            if held["model"] == model["id"] and held["state"] == "ready"
        ]
        bar = "".join(
            "█" if any(first <= layer < last for first, last in spans) else "·"
            for layer in range(layers)
        )
        mark = " (this one)" if peer["is_self"] else ""
        size = as_size(peer["loaded_bytes"])
        console.say(f"  {peer['short']}  {bar}  {size:>9}  {peer['kernels']}{mark}")
    missing = [f"{first}:{last}" for first, last in model["missing"]]
    if missing:
        console.say(f"  nobody holds layers {', '.join(missing)}", "red")
    else:
        console.say("  every layer is held: ready to answer", "green")
