"""What `hands plan` reads of a running swarm, and how it tells a forecast.

To words for a person and to plain data for `--json`; everything is called a prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from manyhands.cli.console import Console
from manyhands.cli.http import Api
from manyhands.cli.words import as_size
from manyhands.domain.device import Device, Link
from manyhands.domain.ids import PeerId, short
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.span import Span
from manyhands.domain.swarm import PeerRecord, Swarm
from manyhands.domain.work import Route
from manyhands.plan.cost import Cost, weight_bytes
from manyhands.plan.forecast import Forecast
from manyhands.plan.taken import left_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model to plan for, what its weights would be held in, and the tokens memory is for."""

    name: str
    spec: ModelSpec
    form: str
    cost: Cost
    tokens: int


@dataclass(frozen=True, slots=True)
class Planned:
    """A model and what would be done with it; the spans of `by_hand` were typed."""

    wanted: Wanted
    forecast: Forecast
    by_hand: frozenset[PeerId] = frozenset()


def swarm_behind(api: Api, wanted: Iterable[Wanted]) -> tuple[Swarm, PeerId]:
    """What runs there, as it says of itself.

    What its peers hold of the models to be planned counts as free, what they hold of others does
    not. Raises ManyhandsError when the answer is no swarm's.
    """
    planned = {one.name: one for one in wanted}
    told = api.get("/swarm")
    try:
        records = [_record(peer, api.url, planned) for peer in told["peers"]]
        links = {(link["source"], link["target"]): Link(**link) for link in told["links"]}
        peers = {record.peer: record for record in records}
        return Swarm(peers=peers, links=links), PeerId(told["peer"])
    except (LookupError, TypeError, ValueError, AttributeError):
        raise api.no_swarm() from None


def _record(peer: Mapping[str, Any], address: str, planned: Mapping[str, Wanted]) -> PeerRecord:
    device = Device(**{"kind": "cpu", **peer["device"]})
    loaded = [held for held in peer["holdings"] if held["state"] in ("ready", "draining")]
    taken = 0
    if any(held["model"] not in planned for held in loaded):
        taken = device.memory_bytes - peer["room_bytes"]
        for held in loaded:
            ours = planned.get(held["model"])
            if ours is not None:
                span = Span(held["first"], min(held["last"], len(ours.spec.layers)))
                taken -= weight_bytes(ours.spec, span, ours.cost)
    name = PeerId(peer["id"])
    left = left_of(device, max(0, taken))
    return PeerRecord(name, 1, 0.0, address, left, name=peer.get("name", ""))


def as_data(planned: Planned, is_swarm: bool) -> dict[str, Any]:
    """Plain data: seconds, bytes and tokens a second, as the fields are named."""
    wanted, found = planned.wanted, planned.forecast
    split = found.split
    return {
        "model": wanted.name,
        "format": wanted.form,
        "context": wanted.tokens,
        "over": "swarm" if is_swarm else "here",
        "stages": [
            {**stage, "by_hand": stage["peer"] in planned.by_hand}
            for stage in _stages(found.placement.route, found.placement.stage_s)
        ],
        "left_out": list(found.placement.left_out),
        "answer_tok_s": found.answer_tok_s,
        "first_token_s": found.first_token_s,
        "prompt_tokens": found.prompt_tokens,
        "prompt_tok_s": found.prompt_tok_s,
        "total_tok_s": found.total_tok_s,
        "many": {
            "by": found.many.name,
            "routes": [
                {"tok_s": tok_s, "stages": _stages(route)}
                for route, tok_s in zip(found.many.routes, found.many.each_tok_s, strict=True)
            ],
            "instead": [asdict(other) for other in found.many.instead],
        },
        "alone_tok_s": found.alone_tok_s,
        "tensor_split": None if split is None else asdict(split),
        "needed_bytes": found.needed_bytes,
    }


def _stages(route: Route, stage_s: Iterable[float] | None = None) -> list[dict[str, Any]]:
    stages: list[dict[str, Any]] = [
        {"peer": stage.peer, "first": stage.span.first, "last": stage.span.last}
        for stage in route.stages
    ]
    for stage, seconds in zip(stages, stage_s or (), strict=False):
        stage["seconds"] = seconds
    return stages


def show(console: Console, planned: Planned, swarm: Swarm, owner: PeerId) -> None:
    """Who would hold what, the three predictions, and what each was chosen over."""
    wanted, found = planned.wanted, planned.forecast
    is_alike = not next(iter(swarm.peers.values())).address

    def called(peer: PeerId) -> str:
        if peer == owner:
            return "this machine"
        return f"device {sorted(swarm.peers).index(peer) + 1}" if is_alike else short(peer)

    console.say(
        f"{wanted.name} in {wanted.form}, {as_size(found.needed_bytes)} with memory for "
        f"{wanted.tokens:,} tokens. Predicted, nothing is loaded:",
        "bold",
    )
    _show_stages(console, planned, called)
    console.say(f"one answer    {found.answer_tok_s:10.1f} tok/s")
    _show_instead(console, found)
    console.say(
        f"first token   {found.first_token_s:10.1f} s behind a prompt of {found.prompt_tokens}, "
        f"read at {found.prompt_tok_s:.0f} tok/s"
    )
    console.say(f"many at once  {found.total_tok_s:10.1f} tok/s by {found.many.name}")
    if any(len(route) > 1 for route in found.many.routes):
        for route, tok_s in zip(found.many.routes, found.many.each_tok_s, strict=True):
            way = ", ".join(f"{called(one.peer)} {one.span!s}" for one in route.stages)
            console.say(f"  {tok_s:.1f} tok/s: {way}", "dim")
    for other in found.many.instead:
        if other.tok_s is not None:
            console.say(f"  instead, {other.name}: {other.tok_s:.1f} tok/s", "dim")


def _show_stages(console: Console, planned: Planned, called: Callable[[PeerId], str]) -> None:
    placed = planned.forecast.placement
    for stage, seconds in zip(placed.route.stages, placed.stage_s, strict=True):
        name = f"  {called(stage.peer):14} layers {stage.span!s:8}"
        typed = "  (by hand)" if stage.peer in planned.by_hand else ""
        console.say(f"{name}  {seconds * 1e3:8.1f} ms a token{typed}")
    if len(placed.route) > 1:
        links_s = placed.step_s - sum(placed.stage_s)
        console.say(f"  {'links':29}  {links_s * 1e3:8.1f} ms a token")
    for peer in placed.left_out:
        console.say(f"  {called(peer)} is left out: one answer would be no quicker with it", "dim")


def _show_instead(console: Console, found: Forecast) -> None:
    placed, split = found.placement, found.split
    if len(placed.route) > 1:
        alone = found.alone_tok_s
        told = "it fits on none" if alone is None else f"{alone:.1f} tok/s"
        console.say(f"  instead, one device alone: {told}", "dim")
    for other in placed.instead:
        if other.name.startswith("all ") and other.step_s is not None:
            console.say(f"  instead, {other.name}: {1 / other.step_s:.1f} tok/s", "dim")
    if split is not None:
        console.say(
            f"  instead, tensor split over {len(split.peers)}: {1 / split.step_s:.1f} tok/s "
            "(not offered: nothing here cuts a matrix over devices yet)",
            "dim",
        )
