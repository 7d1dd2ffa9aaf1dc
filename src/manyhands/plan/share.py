"""Which layers a newcomer takes by itself: its stage of the quickest placement of all devices here,
where the others hold the rest already; else what nobody holds yet, else what the fewest hold.

A replica is never slower: routes go over it only where that is quicker, and over as much of it.
"""

from __future__ import annotations

from manyhands.domain.device import Device
from manyhands.domain.ids import ModelId, PeerId
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.span import Span, missing
from manyhands.domain.swarm import Swarm
from manyhands.errors import ResourceError
from manyhands.plan.cost import Cost, fits
from manyhands.plan.placement import place
from manyhands.plan.taken import left_for


def held_layers(
    swarm: Swarm, model: ModelId, spec: ModelSpec, without: PeerId | None = None
) -> tuple[int, ...]:
    """How many peers hold each layer of a model (ready or being loaded), one peer not counted."""
    counts = [0] * len(spec.layers)
    for peer, record in swarm.peers.items():
        held: set[int] = set()
        for holding in record.holdings:
            if holding.model == model and holding.state in ("ready", "fetching"):
                held.update(range(holding.span.first, min(holding.span.last, len(counts))))
        for layer in held if peer != without else ():
            counts[layer] += 1
    return tuple(counts)


def gaps(counts: tuple[int, ...]) -> tuple[Span, ...]:
    """The runs of layers that nobody holds."""
    held = (Span(layer, layer + 1) for layer, count in enumerate(counts) if count)
    return missing(held, len(counts))


def most_from(spec: ModelSpec, first: int, device: Device, tokens: int, cost: Cost) -> Span | None:
    """The longest span from `first` that fits a device with memory for `tokens` tokens."""
    low, high = first, len(spec.layers)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(spec, Span(first, middle), device, tokens, cost):
            low = middle
        else:
            high = middle - 1
    return Span(first, low) if low > first else None


def stage_of(
    swarm: Swarm,
    model: ModelId,
    spec: ModelSpec,
    me: PeerId,
    owner: PeerId,
    tokens: int,
    cost: Cost,
) -> Span | None:
    """The stage of `me`, a peer of the swarm, in the quickest placement for `owner`.

    None where it would have none, where nothing fits, or where others hold too little of the rest.
    What devices have given to other models is left to them.
    """
    try:
        left = left_for(swarm, model, spec, cost)
        route = place(left, spec, owner, cost, tokens=tokens).route
    except ResourceError:
        return None
    mine = next((stage.span for stage in route.stages if stage.peer == me), None)
    if mine is None:
        return None
    counts = held_layers(swarm, model, spec, without=me)
    is_covered = all(counts[: mine.first]) and all(counts[mine.last :])
    return mine if is_covered else None


def share(
    counts: tuple[int, ...], spec: ModelSpec, device: Device, tokens: int, cost: Cost
) -> Span | None:
    """What a device should load; None when not even one layer fits.

    The first layers that nobody holds and that fit, as many in a row as fit; without such layers
    the whole model, or the stretch with the fewest holders where that does not fit.
    """
    for gap in gaps(counts):
        for first in range(gap.first, gap.last):
            longest = most_from(spec, first, device, tokens, cost)
            if longest is not None:
                return longest.overlap(gap)
    spans = [
        span
        for first in range(len(spec.layers))
        if (span := most_from(spec, first, device, tokens, cost)) is not None
    ]
    longest_ones = [span for span in spans if len(span) == max(map(len, spans))]
    return min(
        longest_ones,
        key=lambda span: (sum(counts[span.first : span.last]), span.first),
        default=None,
    )
