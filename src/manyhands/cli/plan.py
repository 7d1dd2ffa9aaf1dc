"""`hands plan`: what this machine, or the swarm that runs here, would do with a model, or several.

Nothing is loaded: a folder's config and table of tensors are enough, or the config of a well-known
model. How it is told is in `planned`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from manyhands.cli.console import Console
from manyhands.cli.http import Api
from manyhands.cli.known_models import KNOWN_MODELS
from manyhands.cli.machine import BUSY
from manyhands.cli.planned import Planned, Wanted, as_data, show, swarm_behind
from manyhands.cli.spans import by_peer, read_spans
from manyhands.cli.words import engine_for
from manyhands.domain.device import Device
from manyhands.domain.ids import PeerId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.span import Span
from manyhands.domain.swarm import PeerRecord, Swarm
from manyhands.domain.weight_format import INTEGER_FORMATS, weight_format
from manyhands.engine.choice import choose, spec_of
from manyhands.engine.measure import Measured, names
from manyhands.engine.remembered import measured_here
from manyhands.errors import ResourceError, UserError
from manyhands.node.live import wall_clock
from manyhands.plan.cost import Cost
from manyhands.plan.forecast import forecast
from manyhands.plan.placement import place
from manyhands.plan.taken import left_after
from manyhands.store.builtin import STORYTELLER, folder_of
from manyhands.store.checkpoint import Checkpoint

FORMATS = ("auto", "fp32", "bf16", *INTEGER_FORMATS)
BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0625, "int4": 0.5625}
"""Of a weight, a block's share of its scale included."""


MOST_MODELS = 3
"""Planned together: in every order, and the best one is taken."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the command line says. `context` is the tokens that memory is planned for."""

    models: tuple[str, ...]
    form: str = "auto"
    context: int = 4096
    more: int = 0
    spans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plans:
    """A forecast of each model, over which devices, and how busy this one was while measured."""

    planned: list[Planned]
    swarm: Swarm
    owner: PeerId
    busy: float


def plan(
    console: Console,
    options: PlanOptions,
    api: Api | None,
    measuring: Callable[..., Measured] = measured_here,
) -> None:
    """Print the forecast: over the swarm behind `api`, else over this machine and `more` like it.

    Raises UserError, ResourceError when it fits nowhere, and what reading and measuring raise.
    """
    behind = None if api is None else functools.partial(swarm_behind, api)
    found = plans(options, behind, measuring)
    if found.busy >= BUSY:
        console.say(f"{found.busy:.0%} busy with other programs: figures are low", "yellow")
    for planned in found.planned:
        if console.as_json:
            console.event("plan", **as_data(planned, api is not None))
        else:
            show(console, planned, found.swarm, found.owner)


def plans(
    options: PlanOptions,
    behind: Callable[[list[Wanted]], tuple[Swarm, PeerId]] | None,
    measuring: Callable[..., Measured],
    names: Mapping[str, str] | None = None,
) -> Plans:
    """The forecasts: over the swarm that `behind` gives, with `more` devices like its owner's.

    Without `behind`, over this machine and `more` like it. `names` are other names of folders.
    Raises as `plan`.
    """
    if options.form not in FORMATS:
        raise UserError(f"--format is {options.form!r}; it must be one of {', '.join(FORMATS)}")
    if options.context < 1 or not 0 <= options.more <= 64:
        raise UserError("--context must be 1 or more, --more a number in [0, 64]")
    if not 1 <= len(options.models) <= MOST_MODELS:
        raise UserError(f"name 1 to {MOST_MODELS} models to be planned together")
    if options.spans and len(options.models) > 1:
        raise UserError("--span is of one model; plan several without it")
    wanted = []
    for model in options.models:
        measured = _measured(model, options, measuring)
        one = _wanted(model, options, measured)
        wanted.append(replace(one, name=(names or {}).get(model, one.name)))
    swarm, owner = _alike(measured.device, options.more) if behind is None else behind(wanted)
    if behind is not None:
        swarm = _with_more(swarm, owner, options.more)
    by_hand = by_peer(read_spans(options.spans, wanted[0].spec), swarm, owner)
    return Plans(_together(wanted, swarm, owner, by_hand), swarm, owner, measured.busy)


def _together(
    wanted: list[Wanted], swarm: Swarm, owner: PeerId, by_hand: Mapping[PeerId, Span]
) -> list[Planned]:
    """A forecast of each model, as typed; each leaves what those before it took in memory alone.

    The order in which they are placed is the one whose answers take the least time in all. Raises
    ResourceError when they do not fit in any order.
    """
    order = _best_order(wanted, swarm, owner) if len(wanted) > 1 else (0,)
    planned: dict[int, Planned] = {}
    for number in order:
        one = wanted[number]
        told = forecast(swarm, one.spec, owner, one.cost, tokens=one.tokens, within=by_hand)
        planned[number] = Planned(one, told, frozenset(by_hand))
        swarm = left_after(swarm, told.placement.route, one.spec, one.tokens, one.cost)
    return [planned[number] for number in range(len(wanted))]


def _best_order(wanted: list[Wanted], swarm: Swarm, owner: PeerId) -> tuple[int, ...]:
    """The order of placing in which the steps of all together take least."""
    found: list[tuple[float, tuple[int, ...]]] = []
    refused: list[ResourceError] = []

    def go_on(left: Swarm, seconds: float, order: tuple[int, ...]) -> None:
        if len(order) == len(wanted):
            found.append((seconds, order))
        for number, one in enumerate(wanted):
            if number in order:
                continue
            try:
                placed = place(left, one.spec, owner, one.cost, tokens=one.tokens)
            except ResourceError as error:
                refused.append(error)
                continue
            after = left_after(left, placed.route, one.spec, one.tokens, one.cost)
            go_on(after, seconds + placed.step_s, (*order, number))

    go_on(swarm, 0.0, ())
    if not found:
        raise refused[0]
    return min(found)[1]


def _measured(model: str, options: PlanOptions, measuring: Callable[..., Measured]) -> Measured:
    """Figures of the kind the weights will be multiplied by."""
    dtype = "auto" if options.form == "auto" else options.form
    ours = model == STORYTELLER and dtype == "auto"
    engine = engine_for(folder_of(STORYTELLER), "auto") if ours else "auto"
    return measuring(engine, dtype, None, wall_clock)


def _wanted(model: str, options: PlanOptions, measured: Measured) -> Wanted:
    name, spec, form, bytes_per_weight = _found(model, options.form, measured)
    tokens = min(options.context, spec.context)
    cost = Cost(
        bytes_per_weight=bytes_per_weight,
        bytes_per_kv=2.0 if form in INTEGER_FORMATS else measured.bytes_per_kv,
        context=tokens // 2,
    )
    return Wanted(name, spec, form, cost, tokens)


def _found(model: str, form: str, measured: Measured) -> tuple[str, ModelSpec, str, float]:
    """Name, model, format and bytes a weight."""
    # a home that nobody has is said by `folder_of`
    if model == STORYTELLER or model.startswith("~") or Path(model).is_dir():
        return _stored(folder_of(model), form, measured)
    known = {model.name.lower(): model for model in KNOWN_MODELS}
    typed = model.lower().rpartition("/")[2]
    near = [name for name in known if _is_meant(typed, name)]
    if len(near) != 1:
        others = near or get_close_matches(typed, known, cutoff=0.3) or list(known)
        told = ", ".join(known[name].name for name in others)
        raise UserError(
            f"{model!r} is no folder here and not one known model; name a folder, or one of: {told}"
        )
    form = measured.dtype if form == "auto" else form
    found = known[near[0]]
    return found.name, found.spec(), form, BYTES[form]


def _is_meant(typed: str, name: str) -> bool:
    """`llama-70b` is Llama-3.3-70B: every part that was typed is a part of the name, in order."""
    parts = iter(name.split("-"))
    return all(any(part.startswith(one) for part in parts) for one in typed.split("-"))


def _stored(folder: Path, form: str, measured: Measured) -> tuple[str, ModelSpec, str, float]:
    checkpoint = Checkpoint.open(folder, spec_of)
    spec, name = checkpoint.spec, folder.resolve().name
    stored = weight_format(spec)
    if stored is not None:
        if form not in ("auto", stored):
            raise UserError(f"{folder} is stored in {stored}; leave --format out")
        return name, spec, stored, 4.0
    if form == "auto":
        _, form = names(choose(measured.engine, "auto", None, spec, checkpoint.read))
    return name, spec, form, BYTES[form]


def _with_more(swarm: Swarm, owner: PeerId, more: int) -> Swarm:
    """The swarm and devices like its owner's, over a modest home network."""
    like, _ = _alike(swarm.peers[owner].device, more)
    new = dict(list(like.peers.items())[1:])
    return replace(swarm, peers={**swarm.peers, **new})


def _alike(device: Device, more: int) -> tuple[Swarm, PeerId]:
    """Devices like this one over a modest home network, the first of them here."""
    ids = [PeerId(f"{number:02x}" * 32) for number in range(more + 1)]
    records = {peer: PeerRecord(peer, 1, 0.0, "", device) for peer in ids}
    return Swarm(peers=records), ids[0]
