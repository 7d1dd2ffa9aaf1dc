"""The closed list of messages: each in exactly one union, and in the lists of how it travels."""

import dataclasses
import inspect
from typing import get_args

from manyhands.domain import messages, work
from manyhands.domain.messages import (
    ACKNOWLEDGED,
    BULK,
    CREDITED,
    Announce,
    Message,
    SessionMessage,
    SignedRecord,
    StreamMessage,
)

PARTS = {SignedRecord}
"""Classes of messages.py that travel within messages only."""


def test_every_message_class_is_in_exactly_one_of_stream_session_and_directory():
    unions = [set(get_args(StreamMessage)), set(get_args(SessionMessage)), {Announce}]
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
