"""`hands plan`: what this machine, or the swarm that runs here, would do with a model.

Nothing is loaded: a folder's config and table of tensors are enough, or the config of a well-known
model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from manyhands.cli.console import Console
from manyhands.cli.http import Api
from manyhands.cli.known_models import KNOWN_MODELS
from manyhands.cli.machine import BUSY
from manyhands.cli.spans import by_peer, read_spans
from manyhands.cli.words import as_size, engine_for
from manyhands.domain.device import Device, Link
from manyhands.domain.ids import PeerId, short
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.span import Span
from manyhands.domain.swarm import PeerRecord, Swarm
from manyhands.domain.weight_format import INTEGER_FORMATS, bytes_per_number, weight_format
from manyhands.engine.choice import choose, spec_of
from manyhands.engine.measure import Measured, names
from manyhands.engine.remembered import measured_here
from manyhands.errors import UserError
from manyhands.node.live import wall_clock
from manyhands.plan.cost import Cost
from manyhands.plan.forecast import Forecast, forecast
from manyhands.store.builtin import STORYTELLER, folder_of
from manyhands.store.checkpoint import Checkpoint

FORMATS = ("auto", "fp32", "bf16", *INTEGER_FORMATS)
BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0625, "int4": 0.5625}
"""Of a weight, a block's share of its scale included."""

HERE = "here"


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the command line says. `context` is the tokens that memory is planned for."""

    model: str
    form: str = "auto"
    context: int = 4096
    more: int = 0
    spans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model to plan for, and what its weights would be held in."""

    name: str
    spec: ModelSpec
    form: str
    bytes_per_weight: float


def plan(
    console: Console,
    options: PlanOptions,
    api: Api | None,
    measuring: Callable[..., Measured] = measured_here,
) -> None:
    """Print the forecast: over the swarm behind `api`, else over this machine and `more` like it.

    Raises UserError, ResourceError when it fits nowhere, and what reading and measuring raise.
    """
    if options.form not in FORMATS:
        raise UserError(f"--format is {options.form!r}; it must be one of {', '.join(FORMATS)}")
    if options.context < 1 or not 0 <= options.more <= 64:
        raise UserError("--context must be 1 or more, --more a number in [0, 64]")
    measured = _measured(options, measuring)
    if measured.busy >= BUSY:
        console.say(f"{measured.busy:.0%} busy with other programs: figures are low", "yellow")
    wanted = _wanted(options, measured)
    swarm, owner = _swarm(api) if api is not None else _alike(measured.device, options.more)
    tokens = min(options.context, wanted.spec.context)
    cost = Cost(
        bytes_per_weight=wanted.bytes_per_weight,
        bytes_per_kv=2.0 if wanted.form in INTEGER_FORMATS else measured.bytes_per_kv,
        context=tokens // 2,
    )
    by_hand = by_peer(read_spans(options.spans, wanted.spec), swarm, owner)
    found = forecast(swarm, wanted.spec, owner, cost, tokens=tokens, within=by_hand)
    if console.as_json:
        console.event("plan", **_as_data(wanted, found, tokens, api is not None, by_hand))
        return
    _show(console, wanted, found, swarm, owner, tokens, by_hand)


def _measured(options: PlanOptions, measuring: Callable[..., Measured]) -> Measured:
    """Figures of the kind the weights will be multiplied by."""
    dtype = "auto" if options.form == "auto" else options.form
    ours = options.model == STORYTELLER and dtype == "auto"
    engine = engine_for(folder_of(STORYTELLER), "auto") if ours else "auto"
    return measuring(engine, dtype, None, wall_clock)


def _wanted(options: PlanOptions, measured: Measured) -> Wanted:
    folder = Path(options.model).expanduser()
    if options.model == STORYTELLER or folder.is_dir():
        return _stored(folder_of(options.model), options, measured)
    known = {model.name.lower(): model for model in KNOWN_MODELS}
    typed = options.model.lower().rpartition("/")[2]
    near = [name for name in known if _is_meant(typed, name)]
    if len(near) != 1:
        others = near or get_close_matches(typed, known, cutoff=0.3) or list(known)
        told = ", ".join(known[name].name for name in others)
        raise UserError(
            f"{options.model!r} is no folder here and not one known model; name a folder, or one "
            f"of: {told}"
        )
    form = measured.dtype if options.form == "auto" else options.form
    found = known[near[0]]
    return Wanted(found.name, found.spec(), form, BYTES[form])


def _is_meant(typed: str, name: str) -> bool:
    """`llama-70b` is Llama-3.3-70B: every part that was typed is a part of the name, in order."""
    parts = iter(name.split("-"))
    return all(any(part.startswith(one) for part in parts) for one in typed.split("-"))


def _stored(folder: Path, options: PlanOptions, measured: Measured) -> Wanted:
    checkpoint = Checkpoint.open(folder, spec_of)
    spec = checkpoint.spec
    stored = weight_format(spec)
    if stored is not None:
        if options.form not in ("auto", stored):
            raise UserError(f"{folder} is stored in {stored}; leave --format out")
        return Wanted(folder.resolve().name, spec, stored, bytes_per_number(spec, 2.0))
    if options.form == "auto":
        _, form = names(choose(measured.engine, "auto", None, spec, checkpoint.read))
    else:
        form = options.form
    return Wanted(folder.resolve().name, spec, form, BYTES[form])


def _alike(device: Device, more: int) -> tuple[Swarm, PeerId]:
    """Devices like this one over a modest home network, the first of them here."""
    ids = [PeerId(f"{number:02x}" * 32) for number in range(more + 1)]
    records = {peer: PeerRecord(peer, 1, 0.0, "", device) for peer in ids}
    return Swarm(peers=records), ids[0]


def _swarm(api: Api) -> tuple[Swarm, PeerId]:
    """What runs here, as it says of itself; what its peers hold now counts as free."""
    told = api.get("/swarm")
    try:
        records = {
            PeerId(peer["id"]): PeerRecord(
                PeerId(peer["id"]),
                1,
                0.0,
                api.url,
                Device(**{"kind": "cpu", **peer["device"]}),
                name=peer.get("name", ""),
            )
            for peer in told["peers"]
        }
        links = {(link["source"], link["target"]): Link(**link) for link in told["links"]}
        return Swarm(peers=records, links=links), PeerId(told["peer"])
    except (LookupError, TypeError, ValueError, AttributeError):
        raise api.no_swarm() from None


def _as_data(
    wanted: Wanted,
    found: Forecast,
    tokens: int,
    is_swarm: bool,
    by_hand: Mapping[PeerId, Span],
) -> dict[str, Any]:
    stages = [
        {
            "peer": stage.peer,
            "first": stage.span.first,
            "last": stage.span.last,
            "seconds": seconds,
            "by_hand": stage.peer in by_hand,
        }
        for stage, seconds in zip(
            found.placement.route.stages, found.placement.stage_s, strict=True
        )
    ]
    figures = asdict(replace(found, placement=None))  # type: ignore[arg-type]
    del figures["placement"]
    return {
        "model": wanted.name,
        "format": wanted.form,
        "context": tokens,
        "over": "swarm" if is_swarm else HERE,
        "stages": stages,
        "left_out": list(found.placement.left_out),
        **figures,
    }


def _show(
    console: Console,
    wanted: Wanted,
    found: Forecast,
    swarm: Swarm,
    owner: PeerId,
    tokens: int,
    by_hand: Mapping[PeerId, Span],
) -> None:
    is_alike = not next(iter(swarm.peers.values())).address

    def called(peer: PeerId) -> str:
        if peer == owner:
            return "this machine"
        named = swarm.peers[peer].name or short(peer)
        return f"device {sorted(swarm.peers).index(peer) + 1}" if is_alike else named

    placed = found.placement
    console.say(
        f"{wanted.name} in {wanted.form}, {as_size(found.needed_bytes)} with memory for {tokens:,} "
        "tokens. Predicted, nothing is loaded:",
        "bold",
    )
    for stage, seconds in zip(placed.route.stages, placed.stage_s, strict=True):
        name = f"  {called(stage.peer):14} layers {stage.span!s:8}"
        typed = "  (by hand)" if stage.peer in by_hand else ""
        console.say(f"{name}  {seconds * 1e3:8.1f} ms a token{typed}")
    if len(placed.route) > 1:
        links_s = placed.step_s - sum(placed.stage_s)
        console.say(f"  {'links':29}  {links_s * 1e3:8.1f} ms a token")
    for peer in placed.left_out:
        console.say(f"  {called(peer)} is left out: one answer would be no quicker with it", "dim")
    console.say(f"one answer    {found.answer_tok_s:10.1f} tok/s")
    console.say(f"a prompt      {found.prompt_tok_s:10.1f} tok/s")
    how = f"over {len(found.copies)} whole copies" if found.copies else "through the stages"
    console.say(f"many at once  {found.total_tok_s:10.1f} tok/s {how}")
    if len(placed.route) > 1:
        alone = found.alone_tok_s
        told = "it fits on none" if alone is None else f"{alone:.1f} tok/s"
        console.say(f"  instead, one device alone: {told}", "dim")
    for other in placed.instead:
        if other.name.startswith("all ") and other.step_s is not None:
            console.say(f"  instead, {other.name}: {1 / other.step_s:.1f} tok/s", "dim")
