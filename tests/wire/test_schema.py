"""Frames <-> messages: everything valid comes back equal, everything else is a typed error."""

from __future__ import annotations

import array
import json
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.domain.messages import Ack, Announce, Beat, Goodbye, LinkLost, Refused
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.domain.work import Result, Sampling, SessionOpen, Step
from manyhands.errors import BadSampling, FrameError, ProtocolError
from manyhands.wire import forms, schema
from manyhands.wire.frame import CAPS, Frame, FrameReader, Kind
from manyhands.wire.frame import encode as bytes_of
from wire_examples import EXAMPLES, SESSION, example, messages


def changed(kind: type, **values: object) -> Frame:
    """The example's frame with some header fields replaced."""
    frame = schema.encode(example(kind))
    header = json.loads(frame.header) | values
    return replace(frame, header=json.dumps(header).encode())


def changed_sampling(**values: object) -> Frame:
    header = json.loads(schema.encode(example(SessionOpen)).header)
    return changed(SessionOpen, sampling=header["sampling"] | values)


@given(messages)
def test_every_message_comes_back_equal_from_its_frame_and_from_its_bytes(message):
    frame = schema.encode(message)
    assert schema.decode(frame) == message
    (read,) = FrameReader().feed(b"".join(bytes_of(frame)))
    assert schema.decode(read) == message


@given(messages)
def test_equal_messages_have_equal_bytes(message):
    assert schema.encode(message) == schema.encode(replace(message))


def test_every_message_class_has_one_kind_and_an_example():
    assert sorted(schema.KINDS.values()) == sorted(Kind)
    assert set(schema.KINDS) == {type(message) for message in EXAMPLES}


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_header_has_exactly_the_fields_of_its_class(message):
    header = json.loads(schema.encode(message).header)
    assert list(header) == [entry.name for entry in fields(message)]
    for name in header:
        less = {key: value for key, value in header.items() if key != name}
        frame = replace(schema.encode(message), header=json.dumps(less).encode())
        with pytest.raises(ProtocolError, match=name):
            schema.decode(frame)
    with pytest.raises(ProtocolError, match="surprise"):
        schema.decode(changed(type(message), surprise=1))


def test_tensors_are_neither_copied_out_nor_in():
    payload = bytearray(64)
    step = replace(
        example(Step), tensor=TensorFrame("fp32", (2, 8), payload), allowed=None, side={}
    )
    frame = schema.encode(step)
    assert frame.payload == (payload,)
    assert frame.payload[0] is payload
    assert schema.decode(frame).tensor.payload is payload


def test_a_memoryview_of_numbers_is_sent_as_its_bytes():
    view = memoryview(array.array("f", [1.0, 2.0]))
    step = replace(example(Step), tensor=TensorFrame("fp32", (1, 2), view))
    assert schema.decode(schema.encode(step)).tensor.payload == view.tobytes()


@pytest.mark.parametrize(
    "frame",
    [
        changed(Ack, count=-1),
        changed(Ack, count=2**53),
        changed(Ack, count=1.5),
        changed(Ack, count=True),
        changed(Ack, count="1"),
        changed(Beat, running_s=-0.5),
        changed(Beat, running_s=None),
        changed(Beat, session="5E" * 16),
        changed(Beat, session="5e" * 15),
        changed(LinkLost, source="g1" * 32),
        changed(Step, token_ids=[0] * (2**16 + 1)),
        changed(Step, token_ids=[-1]),
        changed(Step, compute_s=[-1.0]),
        changed(Goodbye, reason="x" * 4097),
        changed(Goodbye, code="x" * 257),
        changed(Result, chosen_logprob=["inf"]),
        changed(Result, chosen_logprob=[None]),
        changed_sampling(seed="x" * 16),
        changed_sampling(seed="-" + "0" * 15),
        changed_sampling(seed=5),
        changed_sampling(logit_bias={"5": "nan"}),
        changed_sampling(logit_bias={"-5": 1.0}),
        changed_sampling(logit_bias={"five": 1.0}),
        changed(SessionOpen, route={"stages": [{"peer": "a1" * 32, "span": [2, 1]}]}),
        changed(
            SessionOpen,
            route={"stages": [{"peer": "a1" * 32, "span": {"first": 2, "last": 2}}]},
        ),
        Frame(Kind.ACK, b""),
        Frame(Kind.ACK, b'{"count":1} x'),
        Frame(Kind.ACK, b'{"count":1e999}'),
        Frame(Kind.ACK, b'{"count":' + b"1" * 5000 + b"}"),
        Frame(Kind.ACK, b'{"x":' + b"[" * 50_000),
        Frame(Kind.BEAT, schema.encode(example(Beat)).header.replace(b"0.25", b"NaN")),
        Frame(Kind.BEAT, schema.encode(example(Beat)).header.replace(b"0.25", b"1e999")),
        Frame(Kind.GOODBYE, b'{"code":"\xff","reason":""}'),
        Frame(Kind.GOODBYE, b'{"code":"\\ud800","reason":""}'),
    ],
)
def test_a_value_out_of_its_bounds_is_a_protocol_error_that_names_the_kind(frame):
    with pytest.raises(ProtocolError, match=Kind(frame.kind).name):
        schema.decode(frame)


@pytest.mark.parametrize(
    "values", [{"temperature": -1}, {"top_p": 0}, {"min_p": 2}, {"sample_index": 2**40}]
)
def test_bad_sampling_keeps_its_own_type(values):
    with pytest.raises(BadSampling):
        schema.decode(changed_sampling(**values))


def test_minus_infinity_and_a_full_seed_survive():
    sampling = Sampling(seed=2**64 - 1, logit_bias={3: float("-inf"), 4: -1.5})
    message = replace(example(SessionOpen), sampling=sampling)
    header = json.loads(schema.encode(message).header)
    assert header["sampling"]["logit_bias"] == {"3": "-inf", "4": -1.5}
    assert schema.decode(schema.encode(message)).sampling == sampling


@pytest.mark.parametrize(
    "message",
    [
        replace(example(Beat), running_s=float("nan")),
        replace(example(Beat), running_s=float("inf")),
        replace(example(Beat), stage=-1),
        replace(example(Beat), stage=2**80),
        replace(example(Beat), session="not hex"),
        replace(example(Beat), session="g" * 32),
        replace(example(Result), chosen_logprob=(float("nan"),)),
        replace(example(Result), top_logprobs=((float("inf"),),)),
        replace(example(Result), tokens=(object(),)),
        replace(example(Step), tensor=TensorFrame("fp32", (2, 1), b"123")),
        replace(example(Step), tensor=TensorFrame("", (1, 1), b"123")),
        replace(example(SessionOpen), sampling=Sampling(top_k=2**60)),
        "not a message",
    ],
)
def test_what_the_other_side_would_refuse_is_not_sent(message):
    with pytest.raises(ProtocolError):
        schema.encode(message)


def test_a_message_over_its_cap_is_not_sent():
    records = example(Announce).records * 3000
    with pytest.raises(FrameError, match="ANNOUNCE"):
        schema.encode(Announce(records))


def test_a_long_or_odd_explanation_is_mended_not_refused():
    sent = Refused(SESSION, 1, 0, "resource", "\ud800" + "x" * 10_000)
    read = schema.decode(schema.encode(sent))
    assert read.message == "?" + "x" * (forms.LONG_TEXT_CHARACTERS - 1)


def tensor_form(**values: object) -> dict[str, object]:
    return {"codec": "fp16", "shape": [2, 3], "size": 12} | values


@pytest.mark.parametrize(
    "frame",
    [
        changed(Step, tensor=tensor_form(size=13)),
        changed(Step, tensor=tensor_form(size=14)),
        changed(Step, tensor=tensor_form(size=10)),
        changed(Step, tensor=tensor_form(shape=[0, 3])),
        changed(Step, tensor=tensor_form(shape=[-2, 3])),
        changed(Step, tensor=tensor_form(shape=[2, 2**24 + 1])),
        changed(Step, tensor=tensor_form(shape=[2])),
        changed(Step, tensor=tensor_form(size=2**52)),
        changed(Step, tensor=tensor_form(codec="")),
        changed(Step, tensor=None),
        changed(Step, side={}),
        replace(schema.encode(example(Step)), payload=()),
        replace(schema.encode(example(Step)), payload=(bytes(1000),)),
    ],
)
def test_tensors_that_do_not_add_up_to_the_payload_are_refused(frame):
    with pytest.raises(ProtocolError, match="STEP"):
        schema.decode(frame)


def test_tensors_lie_in_the_payload_by_field_then_by_sorted_name():
    frame = schema.encode(
        replace(
            example(Step),
            side={"b": TensorFrame("x", (1, 1), b"B"), "a": TensorFrame("x", (1, 1), b"A")},
        )
    )
    assert b"".join(frame.payload) == bytes(range(12)) + b"\xff\x01\x0f\x00" + b"AB"


def decode_or_refuse(frame: Frame) -> None:
    try:
        message = schema.decode(frame)
    except (ProtocolError, BadSampling):
        return
    assert schema.decode(schema.encode(message)) == message


@given(st.sampled_from(sorted(CAPS)), st.binary(max_size=100), st.binary(max_size=50))
def test_random_headers_and_payloads_give_a_message_or_a_typed_error(kind, header, payload):
    decode_or_refuse(Frame(kind, header, (payload,) if payload else ()))


def test_an_unknown_kind_is_refused_by_number():
    with pytest.raises(FrameError, match="999"):
        schema.decode(Frame(999, b"{}"))


@settings(max_examples=300)
@given(st.data())
def test_mutated_frames_give_a_message_or_a_typed_error(data):
    sent = schema.encode(data.draw(messages))
    wire = bytearray(b"".join(bytes_of(sent)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(wire) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "digit"])):
            case "flip":
                wire[at] = data.draw(st.integers(0, 255))
            case "cut":
                del wire[at : at + data.draw(st.integers(0, len(wire) - 1))]
            case "insert":
                wire[at:at] = data.draw(st.binary(max_size=20))
            case "digit":
                wire[at] = data.draw(st.sampled_from(list(b'0123456789-.eE"[]{},:')))
        if not wire:
            return
    try:
        read = FrameReader().feed(bytes(wire))
    except FrameError:
        return
    for frame in read:
        decode_or_refuse(frame)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(EXAMPLES), st.data())
def test_any_json_in_any_field_gives_a_message_or_a_typed_error(message, data):
    name = data.draw(st.sampled_from([entry.name for entry in fields(message)]))
    decode_or_refuse(changed(type(message), **{name: data.draw(json_values)}))


def test_a_type_without_a_form_is_noticed_when_the_house_is_built():
    with pytest.raises(TypeError, match="no form"):
        forms._field(set[int], "strange")


def test_a_tensor_larger_than_what_is_left_of_the_payload_is_named_with_both_sizes():
    with pytest.raises(ProtocolError, match="12 bytes is announced and 5 bytes"):
        schema.decode(replace(schema.encode(example(Step)), payload=(bytes(5),)))
