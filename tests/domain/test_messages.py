"""The closed list of messages: each in exactly one union, and in the lists of how it travels."""

import dataclasses
import inspect
from dataclasses import replace
from typing import get_args

import pytest

from manyhands.domain import messages, work
from manyhands.domain.ids import ModelId, PeerId, SessionId
from manyhands.domain.manifest import BLOCK_BYTES, ManifestId
from manyhands.domain.messages import (
    ACKNOWLEDGED,
    BULK,
    CREDITED,
    Announce,
    AskBlock,
    Message,
    MoveMessage,
    PieceMessage,
    Probe,
    Probed,
    Replay,
    Rewire,
    SessionMessage,
    SignedRecord,
    StreamMessage,
)
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span
from manyhands.domain.work import Route, Sampling, SessionOpen, Stage, Step, Want
from manyhands.errors import ProtocolError

PARTS = {SignedRecord}
"""Classes of messages.py that travel within messages only."""


def test_every_message_class_is_of_exactly_one_kind():
    unions = [
        set(get_args(StreamMessage)),
        set(get_args(SessionMessage)),
        {Announce},
        {Probe, Probed},
        set(get_args(PieceMessage)),
        set(get_args(MoveMessage)),
    ]
    for number, union in enumerate(unions):
        assert not union & set().union(*unions[:number])
    assert set().union(*unions) == set(get_args(Message))
    written = {
        found
        for _, found in inspect.getmembers(messages, inspect.isclass)
        if found.__module__ == messages.__name__
    }
    travelling = {work.SessionOpen, work.Step, work.Result}
    assert (written - PARTS) | travelling == set(get_args(Message))


def test_every_message_is_frozen_data():
    for message in get_args(Message):
        assert dataclasses.is_dataclass(message)
        assert message.__dataclass_params__.frozen
        assert "__slots__" in vars(message)


def test_every_session_message_says_which_session():
    for message in get_args(SessionMessage):
        assert "session" in {field.name for field in dataclasses.fields(message)}


def test_stream_messages_are_never_acknowledged_credited_or_bulk():
    told = ACKNOWLEDGED | CREDITED | BULK
    assert told <= set(get_args(Message))
    assert not told & set(get_args(StreamMessage))


def test_what_waits_for_credit_is_acknowledged_so_that_a_lost_link_is_noticed():
    assert CREDITED <= ACKNOWLEDGED
    assert not BULK & ACKNOWLEDGED


A, B = PeerId("aa" * 32), PeerId("bb" * 32)
ROUTE = Route((Stage(A, Span(0, 2)), Stage(B, Span(2, 4))))
GAP_IN_ROUTE = Route((Stage(A, Span(0, 2)), Stage(B, Span(3, 4))))
SESSION = SessionId("ab" * 16)
OPENING = SessionOpen(
    session=SESSION,
    epoch=1,
    owner=A,
    model=ModelId("cc" * 32),
    route=ROUTE,
    stage=1,
    position=0,
    profile=Profile("w", "bf16", "fp32", "numpy", "fp32", row_invariant=False, tolerance=1e-4),
    context_limit=8,
    sampling=Sampling(),
    prompt_length=1,
    lease_s=30.0,
)
STEP = Step(SESSION, 1, 0, 0, 0, (1,), 0, 1, Want())
REPLAY = Replay(SESSION, 1, 0, 1, 0, 5, 2, 0, 0)


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        (OPENING, {"stage": 2}),
        (OPENING, {"stage": -1}),
        (OPENING, {"route": Route(())}),
        (OPENING, {"route": GAP_IN_ROUTE}),
        (Rewire(SESSION, 2, ROUTE, 0, 0), {"stage": 2}),
        (STEP, {"token_ids": ()}),
        (STEP, {"stage": 2}),
        (REPLAY, {"chunk": 0}),
        (REPLAY, {"last": 0}),
        (REPLAY, {"through": 0}),
        (AskBlock(ManifestId("aa" * 32), 0, 0, 9), {"last": BLOCK_BYTES + 1}),
        (AskBlock(ManifestId("aa" * 32), 0, 0, 9), {"first": 9}),
    ],
)
def test_messages_that_make_no_sense_cannot_be_made(message, changes):
    with pytest.raises(ProtocolError):
        replace(message, **changes)
