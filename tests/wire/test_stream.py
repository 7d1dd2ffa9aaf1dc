"""A connection's life, each rule by name; test_stream_machine interleaves all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from manyhands.domain.ids import PeerId
from manyhands.domain.messages import (
    ACKNOWLEDGED,
    Ack,
    Announce,
    Beat,
    Credit,
    Goodbye,
    Hello,
    Renew,
)
from manyhands.domain.work import Result, SessionOpen, Step
from manyhands.errors import (
    BadSampling,
    FrameError,
    ProtocolError,
    ResourceError,
    VersionMismatch,
    from_code,
)
from manyhands.wire import schema
from manyhands.wire.frame import Frame, Kind
from manyhands.wire.stream import Stream
from wire_examples import ANNA, BEN, EXAMPLES, example


def hello(peer: PeerId = ANNA, first: int = 1, last: int = 1, credits_: int = 2) -> Hello:
    return Hello(peer, first, last, "steps", credits_, "test")


def step(sequence: int) -> Step:
    return replace(example(Step), sequence=sequence)


def said(stream: Stream, now_s: float = 0.0) -> list[object]:
    return [schema.decode(frame) for frame in stream.outgoing(now_s)]


def heard(stream: Stream, *several: object, now_s: float = 0.0) -> list[object]:
    return [m for one in several for m in stream.receive(schema.encode(one), now_s)]


def opened(credits_: int = 2, theirs: int = 2) -> Stream:
    """Anna's side, greeted by Ben, who grants `theirs` credits."""
    stream = Stream(hello(ANNA, credits_=credits_), BEN)
    heard(stream, hello(BEN, credits_=theirs))
    said(stream)
    return stream


def test_own_hello_goes_first_and_nothing_else_before_the_others_came():
    stream = Stream(hello(), BEN)
    stream.send(example(Beat), 0.0)
    stream.send(step(0), 0.0)
    assert said(stream) == [hello()]
    assert said(stream) == []
    assert stream.state == "opening"
    assert heard(stream, hello(BEN)) == []
    assert stream.state == "open"
    assert stream.remote == hello(BEN)
    assert said(stream) == [example(Beat), step(0)]


def test_anybody_is_welcome_where_nobody_is_expected():
    stream = Stream(hello())
    heard(stream, hello(BEN))
    assert stream.remote.peer == BEN


def test_the_highest_common_version_is_spoken():
    stream = Stream(hello(first=1, last=3))
    heard(stream, hello(BEN, first=2, last=9))
    assert stream.version == 3


@pytest.mark.parametrize(("first", "last"), [(4, 9), (0, 1), (9, 2)])
def test_no_common_version_names_both_ranges_and_is_told_to_the_other_side(first, last):
    stream = Stream(hello(first=2, last=3))
    with pytest.raises(VersionMismatch) as caught:
        heard(stream, hello(BEN, first=first, last=last))
    for number in (2, 3, first, last):
        assert str(number) in str(caught.value)
    (greeting, goodbye) = said(stream)
    assert greeting == hello(first=2, last=3)
    assert isinstance(from_code(goodbye.code, goodbye.reason), VersionMismatch)


def test_a_hello_that_names_another_peer_is_refused():
    with pytest.raises(ProtocolError, match="proven"):
        heard(Stream(hello(), BEN), hello(ANNA))


def test_a_second_hello_is_refused():
    with pytest.raises(ProtocolError, match="second Hello"):
        heard(opened(), hello(BEN))


@pytest.mark.parametrize(
    "message",
    [m for m in EXAMPLES if not isinstance(m, (Hello, Goodbye))],
    ids=lambda message: type(message).__name__,
)
def test_a_first_frame_that_is_not_hello_is_refused(message):
    with pytest.raises(ProtocolError, match="must be Hello"):
        heard(Stream(hello()), message)


def test_control_overtakes_waiting_steps_and_nothing_overtakes_its_like():
    stream = opened(theirs=2)
    sent = [step(0), example(Beat), step(1), example(Result), step(2), example(Renew)]
    for message in sent:
        stream.send(message, 0.0)
    assert stream.waiting_steps == 3
    assert said(stream) == [example(Beat), example(Result), example(Renew), step(0), step(1)]
    assert stream.waiting_steps == 1
    stream.send(example(Announce), 0.0)
    assert said(stream) == [example(Announce)]
    heard(stream, Credit(1))
    assert said(stream) == [step(2)]


def test_one_acknowledgement_counts_all_that_came_and_goes_before_the_rest():
    stream = opened(credits_=5)
    acknowledged = [m for m in EXAMPLES if type(m) in ACKNOWLEDGED]
    assert heard(stream, *acknowledged, example(Beat)) == [*acknowledged, example(Beat)]
    stream.send(example(Beat), 0.0)
    assert said(stream) == [Ack(len(acknowledged)), example(Beat)]
    assert said(stream) == []
    heard(stream, step(7))
    assert said(stream) == [Ack(len(acknowledged) + 1)]


def test_what_is_due_at_once_and_what_can_wait_for_company():
    stream = Stream(hello(ANNA, credits_=4), BEN)
    assert stream.due == "now"  # our Hello
    said(stream)
    stream.send(step(0), 0.0)
    assert stream.due == ""  # nothing may go before the other's Hello
    heard(stream, hello(BEN, credits_=1))
    assert stream.due == "now"
    said(stream)
    heard(stream, example(Beat))
    assert stream.due == ""  # nobody confirms a beat
    heard(stream, step(7))
    assert stream.due == "later"  # a confirmation alone
    stream.send(step(1), 0.0)
    assert stream.due == "later"  # and a step that has no credit
    heard(stream, step(8))
    stream.consumed(2)
    assert stream.due == "now"  # half a window of credits
    assert said(stream) == [Ack(2), Credit(2)]
    assert stream.due == ""
    heard(stream, Credit(1))
    assert stream.due == "now"
    said(stream)
    stream.goodbye()
    assert stream.due == "now"
    said(stream)
    heard(stream, Goodbye())
    assert stream.due == ""


def test_the_oldest_unacknowledged_message_has_an_age_from_when_it_was_given_out():
    stream = opened(theirs=1)
    stream.send(example(SessionOpen), 1.0)
    stream.send(example(Beat), 1.0)
    assert stream.oldest_unacknowledged_s(5.0) is None
    assert stream.oldest_waiting_s(5.0) == 4.0
    said(stream, 2.0)
    assert stream.oldest_waiting_s(5.0) is None
    for sequence in (0, 1):
        stream.send(step(sequence), 3.0)
    said(stream, 3.0)
    assert stream.oldest_unacknowledged_s(5.0) == 3.0
    assert stream.oldest_waiting_s(5.0) == 2.0  # the second step has no credit
    heard(stream, Ack(1))
    assert stream.oldest_unacknowledged_s(5.0) == 2.0
    heard(stream, Ack(2))
    assert stream.oldest_unacknowledged_s(5.0) is None


@pytest.mark.parametrize("count", [3, 0])
def test_an_acknowledgement_of_more_than_was_sent_or_of_less_than_before_is_refused(count):
    stream = opened(theirs=9)
    for sequence in range(2):
        stream.send(step(sequence), 0.0)
    said(stream)
    heard(stream, Ack(1))
    heard(stream, Ack(1))
    with pytest.raises(ProtocolError, match="Ack"):
        heard(stream, Ack(count))


def test_more_steps_than_credits_are_refused():
    stream = opened(credits_=2)
    heard(stream, step(0), step(1))
    with pytest.raises(ProtocolError, match="without credit"):
        heard(stream, step(2))


def test_credits_are_given_back_half_a_window_at_a_time():
    stream = opened(credits_=4)
    heard(stream, *map(step, range(4)))
    stream.consumed(1)
    assert said(stream) == [Ack(4)]
    stream.consumed(1)
    assert said(stream) == [Credit(2)]
    heard(stream, step(4), step(5))
    with pytest.raises(ProtocolError, match="without credit"):
        heard(stream, step(6))


def test_a_credit_is_not_used_before_it_was_written():
    stream = opened(credits_=1)
    heard(stream, step(0))
    stream.consumed(1)
    with pytest.raises(ProtocolError, match="without credit"):
        heard(stream, step(1))


@pytest.mark.parametrize("count", [2, -1])
def test_more_than_is_held_cannot_be_consumed(count):
    stream = opened()
    heard(stream, step(0))
    with pytest.raises(ProtocolError, match="consumed"):
        stream.consumed(count)


def test_a_window_of_nothing_takes_no_step_and_says_no_credit():
    stream = opened(credits_=0)
    assert said(stream) == []
    with pytest.raises(ProtocolError, match="without credit"):
        heard(stream, step(0))


def test_goodbye_is_the_last_frame_and_what_could_not_go_before_it_is_dropped():
    stream = opened(theirs=1)
    for message in (step(0), step(1), example(Beat)):
        stream.send(message, 0.0)
    stream.goodbye(ResourceError("no memory"))
    stream.goodbye()
    assert stream.state == "closing"
    stream.send(example(Renew), 0.0)
    assert said(stream) == [example(Beat), step(0), Goodbye("resource", "no memory")]
    heard(stream, Credit(5), example(Result))
    stream.send(step(3), 0.0)
    assert said(stream) == []
    assert stream.waiting_steps == 0
    heard(stream, Goodbye())
    assert stream.state == "closed"


def test_messages_that_were_under_way_when_we_said_goodbye_are_still_given():
    stream = opened()
    stream.goodbye()
    assert heard(stream, example(Result)) == [example(Result)]


def test_goodbye_before_the_hello_came_needs_no_answer():
    stream = Stream(hello())
    stream.send(example(Beat), 0.0)
    stream.goodbye()
    assert said(stream) == [hello(), Goodbye()]
    heard(stream, hello(BEN))
    assert stream.state == "closing"
    assert said(stream) == []


def test_after_the_others_goodbye_nothing_is_said_or_taken():
    stream = opened()
    stream.send(step(0), 0.0)
    heard(stream, Goodbye("resource", "no memory"))
    assert stream.state == "closed"
    assert stream.farewell == Goodbye("resource", "no memory")
    stream.goodbye()
    assert said(stream) == []
    assert stream.waiting_steps == 0
    with pytest.raises(ProtocolError, match="after Goodbye"):
        heard(stream, example(Beat))
    assert stream.state == "closed"


def test_a_goodbye_may_be_the_first_frame():
    stream = Stream(hello())
    heard(stream, Goodbye("version", "too old"))
    assert stream.state == "closed"
    assert said(stream) == []


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (Frame(Kind.ACK, b"{"), ProtocolError),
        (Frame(77, b"{}"), FrameError),
        (
            replace(
                schema.encode(example(SessionOpen)),
                header=schema.encode(example(SessionOpen)).header.replace(b"0.95", b"1.95"),
            ),
            BadSampling,
        ),
    ],
)
def test_a_bad_frame_ends_the_stream_with_a_goodbye_that_says_why(frame, error):
    stream = opened()
    with pytest.raises(error) as caught:
        stream.receive(frame, 1.0)
    assert stream.state == "closing"
    assert said(stream) == [Goodbye(error.code, str(caught.value))]
    with pytest.raises(ProtocolError, match="failed"):
        heard(stream, example(Beat))


@pytest.mark.parametrize("kind", [Hello, Ack, Credit, Goodbye])
def test_what_the_stream_says_itself_cannot_be_sent(kind):
    stream = opened()
    with pytest.raises(ProtocolError, match="by the stream itself"):
        stream.send(example(kind), 0.0)


def test_a_message_that_cannot_be_sent_does_not_harm_the_stream():
    stream = opened()
    with pytest.raises(ProtocolError):
        stream.send(replace(example(Beat), stage=-1), 0.0)
    stream.send(example(Beat), 0.0)
    assert said(stream) == [example(Beat)]


def test_the_time_of_the_last_frame_is_kept():
    stream = Stream(hello())
    assert stream.heard_s == 0.0
    heard(stream, hello(BEN), now_s=3.5)
    assert stream.heard_s == 3.5


def test_how_long_acknowledgements_take_is_learnt_and_one_late_one_changes_it_little():
    stream = opened(theirs=9)
    assert stream.usual_acknowledgement_s is None
    for number in range(3):
        stream.send(step(number), 0.0)
    stream.outgoing(10.0)
    heard(stream, Ack(2), now_s=10.5)  # two at once
    assert stream.usual_acknowledgement_s == pytest.approx(0.5)
    heard(stream, example(Beat), now_s=12.0)
    assert stream.usual_acknowledgement_s == pytest.approx(0.5)
    heard(stream, Ack(3), now_s=12.5)  # from when it was written, not from when it was sent
    one_late_s = 4.0 * 0.5 + 0.1  # 2.5 s, but it counts as no more than this
    assert stream.usual_acknowledgement_s == pytest.approx(0.9 * 0.5 + 0.1 * one_late_s)
