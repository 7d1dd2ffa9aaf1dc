"""What several verbs' options mean: spans, sizes, and which device this is.

Each reader raises UserError that says how to write it.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

from manyhands.domain.device import Device
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.engine.choice import this_device
from manyhands.errors import NotServed, ResourceError, UserError
from manyhands.net.hosts import is_every_address
from manyhands.node.model import Model
from manyhands.plan.cost import Cost, fits, memory_bytes
from manyhands.plan.share import most_from
from manyhands.store.builtin import storyteller_folder

_SIZE = re.compile(
    r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*(?:([kmgt])(i?b?)|b?)", re.IGNORECASE | re.ASCII
)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_DURATION = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)
_SPAN = re.compile(r"([0-9]{1,9}):([0-9]{1,9})", re.ASCII)
PLANNED_TOKENS = 2048
"""Tokens of all sessions together that memory is planned for, unless the model has less."""


def read_size(text: str) -> int:
    """Bytes, as in 4G, 512M or 1000000: 4GB are 4 * 1000^3, and 4G or 4GiB are 4 * 1024^3."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UserError(f"{text!r} is no size; write one as 4G, 512M or a number of bytes")
    base = 1000.0 if (found[3] or "").lower() == "b" else 1024.0
    return round(float(found[1]) * math.pow(base, _POWERS[(found[2] or "").lower()]))


def read_duration(text: str) -> float:
    """Seconds, as in 90s, 30m, 2h or 7d."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None or not int(found[1]):
        raise UserError(f"{text!r} is no time; write one as 90s, 30m, 2h or 7d")
    return float(int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]])


def read_span(text: str, spec: ModelSpec) -> Span:
    """Layers FIRST:LAST, the last one not included."""
    found = _SPAN.fullmatch(text.strip())
    layers = len(spec.layers)
    if found is None or not 0 <= int(found[1]) < int(found[2]) <= layers:
        raise UserError(
            f"{text!r} is no span of this model; write FIRST:LAST, LAST not included, within "
            f"0:{layers} (layer 0 embeds, {layers - 1} is the head)"
        )
    return Span(int(found[1]), int(found[2]))


def device_here(memory: str | None) -> Device:
    """The machine we run on; `memory` is what it may give at most."""
    here = this_device()
    if memory is None:
        return here
    return replace(here, memory_bytes=min(here.memory_bytes, read_size(memory)))


def check_host(host: str, public_host: str | None) -> None:
    """Raise UserError for a host that means every address where no other one is named."""
    if is_every_address(host) and not public_host:
        raise UserError(
            f"others cannot dial {host!r}, which is every address of this machine; say with "
            "--public-host by which name or address they reach it, or name one with --host"
        )


def check_public_port(public_port: int | None, port: int | None, option: str) -> None:
    """Raise UserError for a public port that leads to nobody knows which; `option` names `port`."""
    if public_port is not None and not port:
        raise UserError(
            f"say with {option} which port of this machine is reached by --public-port "
            f"{public_port}"
        )


def engine_for(folder: Path, engine: str, dtype: str = "auto") -> str:
    """`engine`, but for the small model of ours: numpy, which starts at once and is as fast."""
    is_ours = folder.resolve() == storyteller_folder().resolve()
    return "numpy" if engine == dtype == "auto" and is_ours else engine


def check_speaks(spec: ModelSpec, folder: Path) -> None:
    """Raise NotServed for a model that answers with no text."""
    if not spec.keeps_memory or spec.answers != "lm":
        raise NotServed(
            f"{folder} is an encoder and goes on with no text: `hands serve` it and ask "
            "/v1/embeddings"
        )


def cost_of(model: Model) -> Cost:
    """What the engine chosen for this model counts with."""
    return Cost(bytes_per_weight=model.bytes_per_weight, bytes_per_kv=model.bytes_per_kv)


def planned_tokens(model: Model, settings: Settings) -> int:
    """How many tokens' memory a span must have room for."""
    return min(model.spec.context, settings.context_limit or PLANNED_TOKENS)


def check_fits(model: Model, span: Span, here: Device, settings: Settings) -> None:
    """Raise ResourceError, before anything is loaded, that says what would fit."""
    cost, tokens = cost_of(model), planned_tokens(model, settings)
    if fits(model.spec, span, here, tokens, cost):
        return
    most = most_from(model.spec, span.first, here, tokens, cost)
    need = memory_bytes(model.spec, span, tokens, cost)
    what = f"layers {most.first}:{most.last} would fit" if most else "not one layer would fit"
    raise ResourceError(
        f"layers {span.first}:{span.last} need {as_size(need)} with memory for {tokens} tokens, "
        f"and {as_size(here.memory_bytes)} are free here; {what}"
    )


def as_size(size_bytes: float) -> str:
    """Bytes for people, in decimal units as memory makers write them; less than none is none."""
    size_bytes = max(size_bytes, 0)
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes:.0f} bytes"
