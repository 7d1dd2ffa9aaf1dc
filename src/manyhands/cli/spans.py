"""What `--span` says: layers of this device, and of others by their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from manyhands.cli.words import read_span
from manyhands.domain.ids import PeerId, named
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.span import Span
from manyhands.domain.swarm import Swarm
from manyhands.errors import UserError


@dataclass(frozen=True, slots=True)
class TypedSpans:
    """`here` is this device's span, `others` those of devices by name or beginning of their id."""

    here: Span | None
    others: Mapping[str, Span]


def read_spans(typed: Iterable[str], spec: ModelSpec) -> TypedSpans:
    """Each FIRST:LAST or NAME=FIRST:LAST. Raises UserError for what is neither, or said twice."""
    here: Span | None = None
    others: dict[str, Span] = {}
    for text in typed:
        name, equals, layers = text.rpartition("=")
        name = name.strip()
        if (equals and name in others) or (not equals and here is not None):
            raise UserError(f"--span is given twice for {name or 'this device'}; give it once")
        if equals and not name:
            raise UserError(f"{text!r} names no device; write NAME=FIRST:LAST")
        if equals:
            others[name] = read_span(layers, spec)
        else:
            here = read_span(text, spec)
    return TypedSpans(here, others)


def by_peer(typed: TypedSpans, swarm: Swarm, me: PeerId) -> dict[PeerId, Span]:
    """Whose spans they are, in a swarm. Raises UserError for a name that is nobody's, or of two."""
    found: dict[PeerId, Span] = {} if typed.here is None else {me: typed.here}
    for name, span in typed.others.items():
        meant = named(name, ((peer, record.name) for peer, record in swarm.peers.items()))
        if len(meant) != 1:
            what = "more than one device is" if meant else "no device here is"
            raise UserError(
                f"--span {name}={span.first}:{span.last}: {what} called {name}; `hands status` "
                "shows names and ids"
            )
        found[meant[0]] = span
    return found
