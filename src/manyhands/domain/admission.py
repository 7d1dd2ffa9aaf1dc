"""What is said at a swarm's door: somebody knocks, and is admitted or refused."""

from __future__ import annotations

from dataclasses import dataclass

from manyhands.domain.ids import ModelId, PeerId


@dataclass(frozen=True, slots=True)
class Knock:
    """Who wants in. `secret` is the invite's, in hex; empty from a member that renews.

    `proof` is the peer's signature over the door's key and the secret, so that nobody is
    admitted under a key that is not its own.
    """

    protocol: int
    software: str
    peer: PeerId
    secret: str
    proof: str


@dataclass(frozen=True, slots=True)
class RunningModel:
    """A model the swarm runs: its id, what its owner calls it, and how it is computed there."""

    id: ModelId
    name: str
    engine: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Contact:
    """A member and where it can be dialled."""

    peer: PeerId
    address: str


@dataclass(frozen=True, slots=True)
class Admission:
    """The swarm's CA and the newcomer's certificate (both PEM), whom to dial, what runs there."""

    authority: str
    certificate: str
    contacts: tuple[Contact, ...]
    models: tuple[RunningModel, ...]


@dataclass(frozen=True, slots=True)
class NotAdmitted:
    """Why not; `code` is that of an error of ours."""

    code: str
    message: str


DoorWord = Knock | Admission | NotAdmitted
