"""Golden frames of tests/vectors: Python writes these very bytes and reads these meanings."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from manyhands.domain.tensor_frame import TensorFrame
from manyhands.domain.work import Step
from manyhands.errors import FrameError, ProtocolError
from manyhands.wire import schema
from manyhands.wire.frame import CAPS, Frame, FrameReader, Kind
from manyhands.wire.frame import encode as bytes_of
from wire_examples import EXAMPLES, example

FOLDER = Path(__file__).parents[1] / "vectors"
IS_WRITING = os.environ.get("MANYHANDS_WRITE_VECTORS") == "1"


def tensors_of(message: object) -> list[dict[str, object]]:
    places: list[tuple[str, TensorFrame | None]] = [
        (name, getattr(message, name, None)) for name in ("tensor", "allowed", "fill")
    ]
    side = getattr(message, "side", {})
    places += [(f"side.{name}", side[name]) for name in sorted(side)]
    return [
        {
            "place": place,
            "codec": tensor.codec,
            "shape": list(tensor.shape),
            "bytes": bytes(tensor.payload).hex(),
        }
        for place, tensor in places
        if tensor is not None
    ]


def golden(message) -> dict[str, object]:
    frame = schema.encode(message)
    return {
        "kind": frame.kind,
        "frame": b"".join(bytes_of(frame)).hex(),
        "header": json.loads(frame.header),
        "payload": b"".join(frame.payload).hex(),
        "tensors": tensors_of(message),
    }


def raw(kind: int, header: bytes, payload: bytes = b"") -> str:
    length = 6 + len(header) + len(payload)
    return (struct.pack(">IHI", length, kind, len(header)) + header + payload).hex()


def refused() -> list[dict[str, str]]:
    step = schema.encode(example(Step))
    payload = b"".join(step.payload)
    stages = b'{"stages":[{"peer":"' + b"A1" * 32 + b'","span":{"first":0,"last":1}}]}'
    listed = [
        ("frame", "unknown kind", raw(999, b"{}")),
        ("frame", "a length below that of the prefix", struct.pack(">IHI", 5, 2, 0).hex()),
        ("frame", "a header longer than the frame", struct.pack(">IHI", 16, 2, 11).hex()),
        (
            "frame",
            "a payload over the cap",
            struct.pack(">IHI", 6 + 2 + CAPS[Kind.STEP].payload + 1, Kind.STEP, 2).hex(),
        ),
        (
            "frame",
            "a header over the cap",
            struct.pack(">IHI", 6 + CAPS[Kind.ACK].header + 1, 2, CAPS[Kind.ACK].header + 1).hex(),
        ),
        ("frame", "a payload where the kind has none", raw(Kind.ACK, b'{"count":1}', b"x")),
        ("header", "not JSON", raw(Kind.ACK, b'{"count":1')),
        ("header", "not UTF-8", raw(Kind.GOODBYE, b'{"code":"\xff","reason":""}')),
        ("header", "a field is missing", raw(Kind.ACK, b"{}")),
        ("header", "an unknown field", raw(Kind.ACK, b'{"count":1,"more":1}')),
        ("header", "an integer below 0", raw(Kind.ACK, b'{"count":-1}')),
        ("header", "an integer of 2**53", raw(Kind.ACK, b'{"count":9007199254740992}')),
        (
            "header",
            "an id of upper-case digits",
            raw(Kind.RENEW, b'{"session":"' + b"5E" * 16 + b'"}'),
        ),
        (
            "header",
            "a peer id of upper-case digits, deep inside",
            raw(
                Kind.REWIRE,
                b'{"session":"' + b"5e" * 16 + b'","epoch":1,"route":' + stages + b',"stage":0,'
                b'"position":0}',
            ),
        ),
        (
            "header",
            "a payload that no tensor announces",
            raw(Kind.STEP, step.header, payload + b"x"),
        ),
        ("header", "a payload shorter than announced", raw(Kind.STEP, step.header, payload[:-1])),
        (
            "header",
            "a tensor whose bytes are no whole rows",
            raw(Kind.STEP, step.header.replace(b'"size":12', b'"size":13'), payload + b"x"),
        ),
    ]
    return [{"layer": layer, "why": why, "frame": frame} for layer, why, frame in listed]


def write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_golden_frame_is_written_and_read_as_it_stands(message):
    kind = schema.KINDS[type(message)]
    path = FOLDER / "frames" / f"{kind.name}.json"
    if IS_WRITING:
        write(path, golden(message))
    vector = read(path)
    assert golden(message) == vector
    (frame,) = FrameReader().feed(bytes.fromhex(vector["frame"]))
    assert frame == Frame(
        vector["kind"],
        frame.header,
        (bytes.fromhex(vector["payload"]),) if vector["payload"] else (),
    )
    decoded = schema.decode(frame)
    assert decoded == message
    assert tensors_of(decoded) == vector["tensors"]


def test_there_is_one_golden_frame_for_every_kind_and_no_other():
    names = {path.stem for path in (FOLDER / "frames").glob("*.json")}
    assert names == {kind.name for kind in Kind}


def test_the_refused_bytes_are_refused_where_they_say():
    path = FOLDER / "refused.json"
    if IS_WRITING:
        write(path, refused())
    vectors = read(path)
    assert vectors == refused()
    for vector in vectors:
        data = bytes.fromhex(vector["frame"])
        if vector["layer"] == "frame":
            with pytest.raises(FrameError):
                FrameReader().feed(data)
            continue
        (frame,) = FrameReader().feed(data)
        with pytest.raises(ProtocolError):
            schema.decode(frame)
