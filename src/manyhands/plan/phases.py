"""In what order peers load and let go of spans: no layer is lost on the way, no memory exceeded.

Knows nothing of why holdings change, of speeds, or of who does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from manyhands.domain.ids import PeerId
from manyhands.domain.span import Span, missing
from manyhands.domain.swarm import Change


@dataclass(frozen=True, slots=True)
class Move:
    """A peer loads a span, or lets go of one that it holds."""

    peer: PeerId
    change: Change
    span: Span


class Phases:
    """From what is `held` to what is `kept`, which names the peers whose spans may change.

    `limits` are the bytes a peer has for the model, `size` those that a span takes.
    """

    def __init__(
        self,
        held: Mapping[PeerId, Iterable[Span]],
        kept: Mapping[PeerId, frozenset[Span]],
        limits: Mapping[PeerId, int],
        size: Callable[[Span], int],
    ) -> None:
        self._held = {peer: set(spans) for peer, spans in held.items()}
        self._kept = dict(kept)
        self._limits, self._size = limits, size

    def ordered(self) -> tuple[tuple[Move, ...], ...] | None:
        """The phases, to be asked for once; None where no way was found.

        New beside old while memory permits. Where it does not: only what is missing beside the old;
        or what others hold as well is let go first; or, where others do not, a part of it is
        loaded once more for as long as needed.
        """
        held, kept = self._held, self._kept
        phases: list[tuple[Move, ...]] = []
        for _ in range(4 * len(held) + 4):
            due = [
                Move(peer, "load", span)
                for peer, spans in sorted(kept.items())
                for span in sorted(spans - held[peer])
            ]
            if not due:
                break
            phase = self._that_fit(due)
            if not phase and self._completed(due):
                continue
            if not phase:
                peers = {move.peer for move in due}
                phase = self._let_go({peer: kept[peer] for peer in peers})
            if not phase:
                phase = self._bridge(due)
            if not phase:
                return None
            _make(phase, held)
            phases.append(phase)
        else:
            return None
        last = self._let_go(kept)
        return (*phases, last) if last else tuple(phases)

    def _completed(self, due: Iterable[Move]) -> bool:
        """Where there is memory for what a peer lacks of its span, it keeps the old beside that."""
        for move in due:
            old = {span for span in self._held[move.peer] if span.overlap(move.span)}
            lacks = without(move.span, old)
            loads = tuple(Move(move.peer, "load", span) for span in lacks)
            if old and self._that_fit(loads) == loads:
                self._kept[move.peer] = self._kept[move.peer] - {move.span} | old | set(lacks)
                return True
        return False

    def _that_fit(self, due: Iterable[Move]) -> tuple[Move, ...]:
        """The loads for which there is memory now, all together."""
        used = {peer: sum(map(self._size, spans)) for peer, spans in self._held.items()}
        chosen = []
        for move in due:
            size = self._size(move.span)
            if used[move.peer] + size <= self._limits[move.peer]:
                used[move.peer] += size
                chosen.append(move)
        return tuple(chosen)

    def _let_go(self, kept: Mapping[PeerId, frozenset[Span]]) -> tuple[Move, ...]:
        """What is not kept and is ready elsewhere even when all of it is gone."""
        left = {peer: set(spans) for peer, spans in self._held.items()}
        gone = []
        for peer, keeps in sorted(kept.items()):
            for span in sorted(left[peer] - keeps):
                if not _lost(span, peer, left):
                    left[peer].remove(span)
                    gone.append(Move(peer, "let_go", span))
        return tuple(gone)

    def _bridge(self, due: Iterable[Move]) -> tuple[Move, ...]:
        """One load, for a while, of what keeps a peer without memory from letting go."""
        for move in due:
            for span in sorted(self._held[move.peer] - self._kept[move.peer]):
                lost = _lost(span, move.peer, self._held)
                part = Span(min(lost), max(lost) + 1)
                others = sorted(self._kept.keys() - {move.peer})
                for peer in (move.peer, *others) if part != span else others:
                    if any(own.covers(part) for own in self._held[peer] - {span}):
                        continue
                    step = Move(peer, "load", part)
                    if self._that_fit((step,)):
                        return (step,)
        return ()


def parts_of(wanted: Span, held: Iterable[Span]) -> tuple[Span, ...]:
    """As few of `held` as cover a span, the smallest where one does; () when they do not."""
    covers = sorted((len(own), own) for own in held if own.covers(wanted))
    if covers:
        return (covers[0][1],)
    at, parts = wanted.first, list[Span]()
    while at < wanted.last:
        longest = max((own for own in held if at in own), key=lambda own: own.last, default=None)
        if longest is None:
            return ()
        parts.append(longest)
        at = longest.last
    return tuple(parts)


def without(span: Span, held: Iterable[Span]) -> tuple[Span, ...]:
    """The runs of a span's layers that none of `held` has."""
    inside = (own.overlap(span) for own in held)
    moved = [Span(o.first - span.first, o.last - span.first) for o in inside if o is not None]
    return tuple(
        Span(gap.first + span.first, gap.last + span.first) for gap in missing(moved, len(span))
    )


def _lost(span: Span, peer: PeerId, held: Mapping[PeerId, set[Span]]) -> list[int]:
    """Layers of a span that would be ready nowhere without it."""
    return [
        layer
        for layer in range(span.first, span.last)
        if not any(
            layer in other and not (other == span and at == peer)
            for at, spans in held.items()
            for other in spans
        )
    ]


def _make(phase: Iterable[Move], held: Mapping[PeerId, set[Span]]) -> None:
    for move in phase:
        if move.change == "load":
            held[move.peer].add(move.span)
        else:
            held[move.peer].remove(move.span)
