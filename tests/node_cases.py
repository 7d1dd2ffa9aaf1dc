"""Small real parts for tests of node/: a hash model, a route, openings, steps, links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from manyhands.codec import codec
from manyhands.domain.device import Device
from manyhands.domain.ids import ModelId, PeerId, SessionId
from manyhands.domain.messages import Message
from manyhands.domain.span import Span
from manyhands.domain.work import Route, Sampling, SessionOpen, Stage, Step, Want
from manyhands.node.model import Model
from manyhands.sim.hash_engine import HashEngine, hash_profile, hash_spec
from manyhands.wire.schema import encode

OWNER, ANNA, BEN, STRANGER = (PeerId(digits * 32) for digits in ("00", "a1", "be", "ff"))
SESSION, OTHER = SessionId("5e" * 16), SessionId("6f" * 16)
MODEL_ID = ModelId("0d" * 32)
SPEC = hash_spec(2, vocabulary=32, context=64)
PROFILE = hash_profile("0f" * 32)
LOWER, UPPER = Span(0, 2), Span(2, 4)
ROUTE = Route((Stage(ANNA, LOWER), Stage(BEN, UPPER)))
ALONE = Route((Stage(ANNA, SPEC.span),))
ALL_TOKENS = Want(rows="all")
DEVICE = Device("virtual", 1 << 20, 1e9, 1e9)


def model(**options) -> Model:
    """The hash model; `options` go to every engine it loads."""
    return Model(
        MODEL_ID, SPEC, PROFILE, lambda span: HashEngine(SPEC, span, **options), (SPEC.span,)
    )


def opening(stage: int = 0, route: Route = ROUTE, **changes) -> SessionOpen:
    """An opening of SESSION by OWNER for one stage of `route`."""
    return replace(
        SessionOpen(
            session=SESSION,
            epoch=1,
            owner=OWNER,
            model=MODEL_ID,
            route=route,
            stage=stage,
            position=0,
            profile=PROFILE,
            context_limit=SPEC.context,
            sampling=Sampling(),
            prompt_length=0,
            lease_s=30.0,
        ),
        **changes,
    )


def step(sequence: int, position: int, tokens: Sequence[int], route: Route = ROUTE, **changes):
    """A step of SESSION in epoch 1 to stage 0 that goes through to the last stage."""
    return replace(
        Step(
            session=SESSION,
            epoch=1,
            sequence=sequence,
            branch=0,
            position=position,
            token_ids=tuple(tokens),
            stage=0,
            through=len(route) - 1,
            want=ALL_TOKENS,
        ),
        **changes,
    )


def true_tokens(tokens: Sequence[int]) -> list[int]:
    """What a single peer would say greedily after each of `tokens`."""
    output = HashEngine(SPEC, SPEC.span).forward(tokens, None)
    return output.scores.argmax(axis=1).tolist()


def true_hidden(tokens: Sequence[int], span: Span = LOWER, codec_name: str = "fp32"):
    """The frame that the stage of `span` (which starts with the embedding) sends for `tokens`."""
    return codec.encode(codec_name, HashEngine(SPEC, span).forward(tokens, None).hidden)


class RecordingLinks:
    """Links that keep what was sent; `of(kind)` gives what went out, in order.

    Like those of Peers they refuse a message that cannot travel.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[PeerId, Message]] = []
        self.connected: list[PeerId] = []

    def send(self, peer: PeerId, message: Message) -> None:
        encode(message)
        self.sent.append((peer, message))

    def connect(self, peer: PeerId) -> None:
        self.connected.append(peer)

    def of(self, kind: type, to: PeerId | None = None) -> list:
        return [m for peer, m in self.sent if type(m) is kind and to in (None, peer)]

    def take(self) -> list[tuple[PeerId, Message]]:
        """Everything sent since the last time."""
        taken, self.sent = self.sent, []
        return taken
