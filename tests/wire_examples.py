"""Messages for tests: one example of every kind, and hypothesis strategies for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from itertools import pairwise
from types import UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from manyhands.domain.device import Device
from manyhands.domain.ids import ModelId, PeerId, SessionId
from manyhands.domain.manifest import (
    BLOCK_BYTES,
    FileEntry,
    Manifest,
    ManifestId,
    PieceRun,
)
from manyhands.domain.messages import (
    Ack,
    Announce,
    AskBlock,
    AskMove,
    AskPieces,
    Beat,
    Blob,
    Block,
    Credit,
    Gap,
    Goodbye,
    Hello,
    LinkLost,
    ManifestTold,
    Message,
    NotGiven,
    NotMoved,
    PiecesHad,
    Probe,
    Probed,
    Ready,
    Refused,
    Renew,
    Replay,
    Replayed,
    Rewire,
    SessionClose,
    SignedRecord,
)
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span
from manyhands.domain.swarm import Holding, LinkTo, PeerRecord
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.domain.work import (
    MOST_TOP_N,
    Result,
    Route,
    Sampling,
    SessionOpen,
    Stage,
    Step,
    Want,
)

ANNA, BEN = PeerId("a1" * 32), PeerId("be" * 32)
MODEL, SESSION = ModelId("0d" * 32), SessionId("5e" * 16)
ROUTE = Route((Stage(ANNA, Span(0, 2)), Stage(BEN, Span(2, 5))))
SAMPLING = Sampling(
    seed=2**64 - 1,
    sample_index=1,
    temperature=0.75,
    top_k=40,
    top_p=0.95,
    min_p=0.05,
    repetition_penalty=1.125,
    presence_penalty=-0.5,
    frequency_penalty=0.5,
    logit_bias={5: float("-inf"), 7: 2.5},
)
RECORD = PeerRecord(
    peer=ANNA,
    sequence=3,
    expires_s=1000.5,
    address="192.168.0.2:4001",
    device=Device("cpu", 2**34, 2e10, 5e11, 0.0001),
    holdings=(Holding(MODEL, Span(0, 2), "ready"), Holding(MODEL, Span(0, 5), "stored")),
    room_bytes=2**30,
    queue_s=0.25,
    links=(LinkTo(BEN, 0.001, 1.25e8),),
    moves=(MODEL,),
    name="laptop-anna",
)

MANIFEST = ManifestId("77" * 32)

EXAMPLES: tuple[Message, ...] = (
    Hello(ANNA, 1, 2, "steps", 64, "manyhands 0.1 — tëst"),
    Ack(7),
    Credit(32),
    Goodbye("protocol", 'a second Hello, from "peer"'),
    SessionOpen(
        session=SESSION,
        epoch=2,
        owner=BEN,
        model=MODEL,
        route=ROUTE,
        stage=1,
        position=17,
        profile=Profile("0f" * 32, "bf16", "fp32", "numpy", "fp16", True, 0.0),
        context_limit=4096,
        sampling=SAMPLING,
        prompt_length=12,
        lease_s=30.0,
        parent=SessionId("6f" * 16),
        parent_position=5,
    ),
    Ready(SESSION, 2, 1, 17, "c0" * 32),
    Refused(SESSION, 2, 1, "resource", "no room for 4,096 tokens"),
    Step(
        session=SESSION,
        epoch=2,
        sequence=9,
        branch=1,
        position=17,
        token_ids=(5, 151_000),
        stage=1,
        through=1,
        want=Want(rows="all", logprob=True, top_n=2),
        tensor=TensorFrame("fp16", (2, 3), bytes(range(12))),
        next_token_ids=(7, 8),
        allowed=TensorFrame("bits", (2, 9), b"\xff\x01\x0f\x00"),
        side={
            "rope": TensorFrame("fp32", (1, 1), b"\x00\x00\x80\x3f"),
            "empty": TensorFrame("fp32", (0, 4), b""),
        },
        compute_s=(0.0125,),
        deadline_s=2.5,
    ),
    Result(
        session=SESSION,
        epoch=2,
        sequence=9,
        branch=1,
        position=17,
        tokens=(7, 8),
        chosen_logprob=(-0.5, -1.25),
        target_logprob=(-0.5, float("-inf")),
        target_is_greedy=(True, False),
        top_ids=((7, 9), (8, 5)),
        top_logprobs=((-0.5, -2.0), (-1.25, float("-inf"))),
        tensor=TensorFrame("fp32", (2, 1), b"\x00\x00\x80\x3f\x00\x00\x00\x40"),
        compute_s=(0.0125, 0.5),
        input_hash="11" * 32,
        output_hash="22" * 32,
        signature="33" * 64,
    ),
    Gap(SESSION, 2, 1, 15),
    Rewire(SESSION, 3, ROUTE, 1, 15),
    Replay(SESSION, 3, 0, 1, 15, 17, 128, 10, 0),
    Replayed(SESSION, 3, 1, 17),
    LinkLost(SESSION, 2, ANNA, BEN),
    Beat(SESSION, 2, 1, 2**53 - 1, 0.25),
    Renew(SESSION),
    SessionClose(SESSION),
    Announce((SignedRecord(RECORD, "5a" * 64),)),
    Probe(7, TensorFrame("fp32", (1, 2), bytes(8))),
    Probed(7),
    AskPieces(MODEL, ""),
    ManifestTold(
        Manifest(
            MODEL,
            4096,
            (
                FileEntry("config.json", 3, 3, ("44" * 32,)),
                FileEntry("model.safetensors", 8191, 100, ("55" * 32, "66" * 32)),
            ),
        ),
        "owner/name@" + "0c" * 20,
    ),
    PiecesHad(MODEL, MANIFEST, (PieceRun(0, 1), PieceRun(2, 3))),
    AskBlock(MANIFEST, 2, 5, 9),
    Block(MANIFEST, 2, 5, b"\x00\xffab"),
    NotGiven(MANIFEST, "not_served", "this manifest is not known here"),
    AskMove(MODEL, Span(2, 5), "load"),
    NotMoved(MODEL, Span(2, 5), "let_go", "resource", "nobody else holds layers 2:5"),
)


def example(kind: type) -> Message:
    """The example of this class."""
    return next(message for message in EXAMPLES if type(message) is kind)


def _hex(digits: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=digits // 2, max_size=digits // 2).map(bytes.hex)


_logarithms = st.floats(-1e6, 1e6, allow_nan=False) | st.just(float("-inf"))
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_wholes = st.integers(0, 2**53 - 1)
_unit = st.floats(0, 1, allow_nan=False)


@st.composite
def tensors(draw: st.DrawFn) -> TensorFrame:
    """Frames whose payload is some whole number of bytes a row."""
    rows, row_bytes = draw(st.integers(0, 4)), draw(st.integers(0, 5))
    payload = draw(st.binary(min_size=rows * row_bytes, max_size=rows * row_bytes))
    return TensorFrame(draw(st.sampled_from(["fp32", "bits"])), (rows, draw(_small)), payload)


_small = st.integers(0, 9)
_samplings = st.builds(
    Sampling,
    seed=st.integers(0, 2**64 - 1),
    sample_index=st.integers(0, 2**32 - 1),
    temperature=st.floats(0, 100),
    top_k=_wholes,
    top_p=st.floats(0, 1, exclude_min=True),
    min_p=_unit,
    repetition_penalty=st.floats(0, 100, exclude_min=True),
    presence_penalty=st.floats(-100, 100),
    frequency_penalty=st.floats(-100, 100),
    logit_bias=st.dictionaries(_wholes, _logarithms, max_size=4),
)
_spans = st.tuples(_wholes, _wholes).filter(lambda ends: ends[0] != ends[1])


@st.composite
def _routes(draw: st.DrawFn) -> Route:
    """Routes whose stages touch end to end from layer 0 on."""
    ends = [0, *sorted(draw(st.sets(st.integers(1, 2**53 - 1), min_size=1, max_size=4)))]
    return Route(tuple(Stage(draw(_hex(64)), Span(*pair)) for pair in pairwise(ends)))


@st.composite
def _manifests(draw: st.DrawFn) -> Manifest:
    """Manifests of a few files."""
    names = draw(
        st.lists(st.from_regex(r"[a-z]{1,9}\.json", fullmatch=True), unique=True, min_size=1)
    )
    sizes = [draw(st.integers(0, 3 * 4096)) for _ in names]
    files = (
        FileEntry(name, size, size // 2, tuple(draw(_hex(64)) for _ in range(-(-size // 4096))))
        for name, size in zip(names, sizes, strict=True)
    )
    return Manifest(draw(_hex(64)), 4096, tuple(files))


_LEAVES = {
    ManifestId: _hex(64),
    Manifest: _manifests(),
    PieceRun: _spans.map(lambda ends: PieceRun(*sorted(ends))),
    Blob: st.binary(max_size=9),
    PeerId: _hex(64),
    ModelId: _hex(64),
    SessionId: _hex(32),
    int: _wholes,
    bool: st.booleans(),
    str: _texts,
    TensorFrame: tensors(),
    Sampling: _samplings,
    Span: _spans.map(lambda ends: Span(*sorted(ends))),
    Route: _routes(),
}


def _of(hint, name):
    if hint is float:
        if name.endswith("_s"):
            return st.floats(0, 1e18)
        return _logarithms if "logprob" in name else st.floats(-1e18, 1e18)
    if hint in _LEAVES:
        return _LEAVES[hint]
    if is_dataclass(hint):
        return messages_of(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(_of(arguments[0], name), max_size=3).map(tuple)
    if origin in (Union, UnionType):
        return st.none() | _of(arguments[0], name)
    if origin is Mapping:
        return st.dictionaries(_texts, _of(arguments[1], name), max_size=3)
    raise TypeError(f"{name}: {hint}")


def _sensible(kind: type, values: dict) -> dict:
    """Bring together what a message refuses apart: places in routes, ends of steps and replays."""
    if kind in (SessionOpen, Rewire):
        values["stage"] %= len(values["route"])
    elif kind is Step:
        values["stage"], values["through"] = sorted((values["stage"], values["through"]))
        values["token_ids"] = values["token_ids"] or (0,)
    elif kind is Want:
        values["top_n"] %= MOST_TOP_N + 1
    elif kind is AskBlock:
        values["first"] //= 2
        values["last"] = values["first"] + 1 + values["last"] % BLOCK_BYTES
    elif kind is Replay:
        values["chunk"] = max(1, values["chunk"])
        for low, high in (("stage", "through"), ("first", "last")):
            ends = sorted((values[low], values[high]))
            values[low], values[high] = (ends[0], ends[1]) if ends[0] < ends[1] else (0, 1)
    return values


def messages_of(kind: type) -> st.SearchStrategy[Message]:
    """Any valid message of one class."""
    hints = get_type_hints(kind)
    made = {entry.name: _of(hints[entry.name], entry.name) for entry in fields(kind)}
    return st.fixed_dictionaries(made).map(lambda values: kind(**_sensible(kind, values)))


messages = st.one_of([messages_of(type(message)) for message in EXAMPLES])
"""Any valid message."""
