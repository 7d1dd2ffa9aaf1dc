"""The closed list of what crosses the wire, each with the rule of how it travels.

Connection life (made and eaten by `wire/stream`): Hello, Ack, Credit, Goodbye.
Sessions: SessionOpen, Ready, Refused, Step, Result, Gap, Rewire, Replay, Replayed, LinkLost, Beat,
Renew, SessionClose. Directory: Announce. Survey: Probe, Probed. Weights: AskPieces, ManifestTold,
PiecesHad, AskBlock, Block, NotGiven. Moves: AskMove, NotMoved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from manyhands.domain.ids import ModelId, PeerId, SessionId
from manyhands.domain.manifest import BLOCK_BYTES, Manifest, ManifestId, PieceRun
from manyhands.domain.span import Span
from manyhands.domain.swarm import Change, PeerRecord
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.domain.work import Result, Route, SessionOpen, Step, check_place
from manyhands.errors import ProtocolError

Blob = bytes | bytearray | memoryview
"""Bytes of a file, as they are; they travel in a frame's payload."""

Lane = Literal["steps", "bulk"]
"""Two connections a pair of peers: steps and control on one, large and slow on the other."""


@dataclass(frozen=True, slots=True)
class Hello:
    """First frame of each side: who speaks, which protocol versions, what the connection is for.

    `credits` is how many credited messages the other side may send before it is granted more.
    """

    peer: PeerId
    first_version: int
    last_version: int
    lane: Lane
    credits: int
    software: str


@dataclass(frozen=True, slots=True)
class Ack:
    """`count` acknowledged messages have arrived on this connection since its hello."""

    count: int


@dataclass(frozen=True, slots=True)
class Credit:
    """`count` more credited messages may be sent."""

    count: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The sender closes; `code` and `reason` name an error of the errors tree, or "" for none."""

    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """Stage -> owner: epoch taken up; memory holds `length` tokens whose digest is `history`.

    A stage's memory is a function of its tokens, so the owner, who knows them, can tell by the
    digest alone whether memory that survived something may be used.
    """

    session: SessionId
    epoch: int
    stage: int
    length: int
    history: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Stage -> owner: not done, and why; `code` is a code of the errors tree."""

    session: SessionId
    epoch: int
    stage: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Stage -> owner: a step came out of order; memory holds `length` tokens."""

    session: SessionId
    epoch: int
    stage: int
    length: int


@dataclass(frozen=True, slots=True)
class Rewire:
    """Owner -> each stage that stays: new epoch and route; cut memory and journal at `position`."""

    session: SessionId
    epoch: int
    route: Route
    stage: int
    position: int

    def __post_init__(self) -> None:
        check_place(self.route, self.stage)


@dataclass(frozen=True, slots=True)
class Replay:
    """Owner -> stage `stage`: send again what you sent for positions [first, last).

    To stages stage+1 … through, in chunks of `chunk` tokens, numbered from `sequence`.
    """

    session: SessionId
    epoch: int
    stage: int
    through: int
    first: int
    last: int
    chunk: int
    sequence: int
    branch: int

    def __post_init__(self) -> None:
        if not (0 <= self.stage < self.through and 0 <= self.first < self.last and self.chunk > 0):
            raise ProtocolError(
                f"a replay of [{self.first}, {self.last}) in chunks of {self.chunk} from stage "
                f"{self.stage} through {self.through}"
            )


@dataclass(frozen=True, slots=True)
class Replayed:
    """Stage `through` of a replay -> owner: memory now holds `length` tokens."""

    session: SessionId
    epoch: int
    stage: int
    length: int


@dataclass(frozen=True, slots=True)
class LinkLost:
    """Stage -> owner: messages from `source` do not reach `target`: a link is named, not a peer."""

    session: SessionId
    epoch: int
    source: PeerId
    target: PeerId


@dataclass(frozen=True, slots=True)
class Beat:
    """Stage -> owner: alive, with `finished` steps done and the running one `running_s` old."""

    session: SessionId
    epoch: int
    stage: int
    finished: int
    running_s: float


@dataclass(frozen=True, slots=True)
class Renew:
    """Owner -> stage: the session is still wanted; its lease starts anew."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class SessionClose:
    """Owner -> stage: free everything of this session."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record and its peer's Ed25519 signature (128 hex digits) over its canonical bytes."""

    record: PeerRecord
    signature: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Directory records, new to the sender or to the connection."""

    records: tuple[SignedRecord, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """Please answer at once, with the same number; `fill` only takes time on the way."""

    number: int
    fill: TensorFrame | None = None


@dataclass(frozen=True, slots=True)
class Probed:
    """The answer to a probe."""

    number: int


@dataclass(frozen=True, slots=True)
class AskPieces:
    """Whoever fetches -> anybody: which pieces of a model can be had there.

    `known` is the manifest it has already, or "" for none.
    """

    model: ModelId
    known: str


@dataclass(frozen=True, slots=True)
class ManifestTold:
    """Answer to AskPieces that comes before PiecesHad, where the manifest is another than known.

    `origin` is where at the hub these files are, as OWNER/NAME@COMMIT; "" for nowhere.
    """

    manifest: Manifest
    origin: str


@dataclass(frozen=True, slots=True)
class PiecesHad:
    """Answer to AskPieces: what the sender can give of a manifest's pieces."""

    model: ModelId
    manifest: ManifestId
    had: tuple[PieceRun, ...]


@dataclass(frozen=True, slots=True)
class AskBlock:
    """Whoever fetches -> a giver: bytes [first, last) of a piece, a block at most."""

    manifest: ManifestId
    piece: int
    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last <= self.first + BLOCK_BYTES or self.piece < 0:
            raise ProtocolError(
                f"bytes [{self.first}, {self.last}) of piece {self.piece} asked for; a block has "
                f"{BLOCK_BYTES} at most"
            )


@dataclass(frozen=True, slots=True)
class Block:
    """Answer to AskBlock: the bytes of a piece from `first` on."""

    manifest: ManifestId
    piece: int
    first: int
    data: Blob


@dataclass(frozen=True, slots=True)
class NotGiven:
    """Answer to AskPieces or AskBlock: not from here; `about` is the model or the manifest."""

    about: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class AskMove:
    """Who decides -> a peer: load a span of a model, or let go of it. Its record tells the rest."""

    model: ModelId
    span: Span
    change: Change


@dataclass(frozen=True, slots=True)
class NotMoved:
    """Answer to AskMove: it was not done, and why; `code` is a code of the errors tree."""

    model: ModelId
    span: Span
    change: Change
    code: str
    message: str


StreamMessage = Hello | Ack | Credit | Goodbye
SessionMessage = (
    SessionOpen
    | Ready
    | Refused
    | Step
    | Result
    | Gap
    | Rewire
    | Replay
    | Replayed
    | LinkLost
    | Beat
    | Renew
    | SessionClose
)
PieceMessage = AskPieces | ManifestTold | PiecesHad | AskBlock | Block | NotGiven
MoveMessage = AskMove | NotMoved
Message = StreamMessage | SessionMessage | Announce | Probe | Probed | PieceMessage | MoveMessage

ACKNOWLEDGED: frozenset[type] = frozenset({Step, Result, SessionOpen, Rewire, Replay})
"""Kinds whose arrival the receiving stream confirms; a missing confirmation names the link."""

CREDITED: frozenset[type] = frozenset({Step})
"""Kinds that wait for credits; everything else goes ahead of them."""

BULK: frozenset[type] = frozenset(
    {
        Announce,
        Probe,
        Probed,
        AskPieces,
        ManifestTold,
        PiecesHad,
        AskBlock,
        Block,
        NotGiven,
        AskMove,
        NotMoved,
    }
)
"""Kinds that travel on the bulk connection."""
