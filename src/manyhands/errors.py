"""Every error this package raises on purpose, drawn as one tree.

Each message says what, with which, what to try.

ManyhandsError
├── UserError        bad input (exit 2)
│   ├── CheckpointError    a model folder is missing, truncated, mismatched
│   ├── UnknownFamily      no family file for this model_type
│   ├── ContextOverflow    more tokens than the model or the session holds
│   ├── BadSampling        a sampling value outside its range
│   ├── BadSetting         an unknown or out-of-range setting
│   └── NotServed          asked for in words the protocol has, but this version does not serve
├── PeerError        another peer was lost, slow or lied (exit 4)
│   ├── PeerLost           a peer or link went away
│   ├── PeerPaused         a peer gives nothing for a while, by its user's limits
│   ├── NoStandIn          nobody left can hold the lost span
│   ├── DeadlinePassed     an answer did not come in time
│   └── PeerLied           a check of another peer's work failed
├── ResourceError    memory or disk (exit 3)
│   └── MemoryFull         no room now; there will be when other sessions end
└── ProtocolError    bytes that are not our protocol, or out of turn (exit 4)
    ├── FrameError         a frame over its cap, cut short, of unknown kind
    ├── VersionMismatch    the other side speaks no version we speak
    └── SessionUnknown     a message for a session this peer does not hold

An error that must cross the wire travels as (code, message) and is rebuilt by `from_code`.
"""

from __future__ import annotations


class ManyhandsError(Exception):
    """Root of all deliberate errors. `code` crosses the wire, `exit_code` leaves the process."""

    code = "failed"
    exit_code = 1


class UserError(ManyhandsError):
    """The input is wrong; the message says how to mend it."""

    code = "user"
    exit_code = 2


class CheckpointError(UserError):
    """A model folder cannot be used as it is."""

    code = "checkpoint"


class UnknownFamily(UserError):
    """No family file knows this `model_type`."""

    code = "unknown_family"


class ContextOverflow(UserError):
    """More tokens than the context holds."""

    code = "context_overflow"


class BadSampling(UserError):
    """A sampling value is outside its range."""

    code = "bad_sampling"


class BadSetting(UserError):
    """A setting is unknown or outside its range."""

    code = "bad_setting"


class NotServed(UserError):
    """The protocol has a word for it, this version does not serve it yet."""

    code = "not_served"


class PeerError(ManyhandsError):
    """Another peer failed us."""

    code = "peer"
    exit_code = 4


class PeerLost(PeerError):
    """A peer or the link to it went away."""

    code = "peer_lost"


class PeerPaused(PeerError):
    """A peer gives nothing for a while, or leaves; it failed nobody."""

    code = "peer_paused"


class NoStandIn(PeerError):
    """A span was lost and nobody left can hold it."""

    code = "no_stand_in"


class DeadlinePassed(PeerError):
    """Something asked of the swarm did not come before its deadline."""

    code = "deadline"


class PeerLied(PeerError):
    """A check showed that another peer's result or record is not what it claims."""

    code = "peer_lied"


class ResourceError(ManyhandsError):
    """Not enough memory or disk."""

    code = "resource"
    exit_code = 3


class MemoryFull(ResourceError):
    """There is no room now, but there will be when other sessions end."""

    code = "memory_full"


class ProtocolError(ManyhandsError):
    """Bytes or messages that break the protocol."""

    code = "protocol"
    exit_code = 4


class FrameError(ProtocolError):
    """A frame is over its cap, cut short, or of an unknown kind."""

    code = "frame"


class VersionMismatch(ProtocolError):
    """No protocol version is spoken by both sides."""

    code = "version"


class SessionUnknown(ProtocolError):
    """A message names a session this peer does not hold."""

    code = "session_unknown"


def _tree(root: type[ManyhandsError]) -> dict[str, type[ManyhandsError]]:
    """Code -> class; a class elsewhere that only refines one of these crosses the wire as that."""
    found = {root.code: root}
    for child in root.__subclasses__():
        if "code" in vars(child):
            found.update(_tree(child))
    return found


def from_code(code: str, message: str) -> ManyhandsError:
    """Rebuild an error that crossed the wire; an unknown code becomes a plain ManyhandsError."""
    return _tree(ManyhandsError).get(code, ManyhandsError)(message)
