"""Tiny models and swarms for tests of plans: made from numbers, never from files."""

from hypothesis import strategies as st

from manyhands.domain.device import Device, Link
from manyhands.domain.ids import ModelId, PeerId
from manyhands.domain.model_spec import (
    Attention,
    BlockSpec,
    EmbedSpec,
    HeadSpec,
    LayerSpec,
    Mlp,
    ModelSpec,
    Norm,
    TensorSource,
)
from manyhands.domain.span import Span
from manyhands.domain.swarm import Holding, PeerRecord, Swarm

MODEL = ModelId("ab" * 32)
OTHER_MODEL = ModelId("cd" * 32)
NORM = Norm("rms", 1e-6)


def peer_id(number: int) -> PeerId:
    """A readable id: 0001…, 0002…, in order."""
    return PeerId(f"{number:04x}" * 16)


def block(width: int = 8, inner: int = 32, window: int | None = None) -> LayerSpec:
    attention = Attention(2, 1, width // 2, width // 2, 1.0, window=window)
    shapes = {
        "q": (width, width),
        "k": (width // 2, width),
        "v": (width // 2, width),
        "o": (width, width),
        "gate": (inner, width),
        "up": (inner, width),
        "down": (width, inner),
        "attention_norm": (width,),
        "mlp_norm": (width,),
    }
    tensors = {name: TensorSource((name,), shape) for name, shape in shapes.items()}
    return LayerSpec(BlockSpec(NORM, attention, Mlp("gated", "silu", inner)), tensors)


def model(blocks: int, width: int = 8, vocabulary: int = 64, tied: bool = False) -> ModelSpec:
    table = (vocabulary, width)
    embed = LayerSpec(EmbedSpec(vocabulary), {"tokens": TensorSource(("embed",), table)})
    head = LayerSpec(
        HeadSpec(NORM, "lm", vocabulary),
        {
            "norm": TensorSource(("norm",), (width,)),
            "head": TensorSource(
                ("embed",) if tied else ("head",), table, "tied" if tied else "plain"
            ),
        },
    )
    row = (embed, *(block(width, 4 * width) for _ in range(blocks)), head)
    return ModelSpec("llama", width, vocabulary, 128, row)


def device(read: float = 1e6, flops: float = 1e7, memory: int = 10**9) -> Device:
    return Device("cpu", memory, read, flops, 1e-5)


def record(
    number: int,
    spans: tuple[Span, ...] = (),
    of: Device | None = None,
    state: str = "ready",
    room: int = 10**9,
    queue_s: float = 0.0,
) -> PeerRecord:
    return PeerRecord(
        peer=peer_id(number),
        sequence=1,
        expires_s=1e9,
        address="memory",
        device=of or device(),
        holdings=tuple(Holding(MODEL, span, state) for span in spans),
        room_bytes=room,
        queue_s=queue_s,
    )


def swarm(*records: PeerRecord, links: tuple[Link, ...] = (), broken: tuple = ()) -> Swarm:
    return Swarm(
        version=1,
        peers={record.peer: record for record in records},
        links={(link.source, link.target): link for link in links},
        broken=frozenset(broken),
    )


seconds = st.integers(0, 6).map(lambda n: n * 1e-3)
"""Few distinct values, so that ties come up."""


@st.composite
def spans(draw: st.DrawFn, layers: int) -> Span:
    first = draw(st.integers(0, layers - 1))
    return Span(first, draw(st.integers(first + 1, layers)))


@st.composite
def devices(draw: st.DrawFn, memory: int = 10**9) -> Device:
    return device(draw(st.sampled_from([1e5, 1e6, 4e6])), draw(st.sampled_from([1e6, 1e7])), memory)


@st.composite
def swarms(draw: st.DrawFn, layers: int, peers: int = 4) -> Swarm:
    """Swarms of up to `peers` peers with overlapping holdings, odd links and little room."""
    records, links, broken = [], [], []
    count = draw(st.integers(1, peers))
    for number in range(1, count + 1):
        held = draw(st.lists(spans(layers), min_size=1, max_size=2))
        states = st.sampled_from(["ready", "ready", "ready", "stored", "draining"])
        records.append(
            record(
                number,
                tuple(held),
                draw(devices()),
                draw(states),
                draw(st.sampled_from([0, 300, 700, 10**6])),
                draw(seconds),
            )
        )
    names = [peer_id(n) for n in range(count + 1)]
    for source in names:
        for target in names:
            kind = (
                draw(st.sampled_from(["default", "measured", "broken"])) if source != target else ""
            )
            if kind == "measured":
                links.append(Link(source, target, draw(seconds), 1e6))
            if kind == "broken":
                broken.append((source, target))
    return swarm(*records, links=tuple(links), broken=tuple(broken))
