"""What is said at a swarm's door: somebody knocks or asks, and is admitted or refused."""

from __future__ import annotations

from dataclasses import dataclass

from manyhands.domain.ids import ModelId, PeerId


@dataclass(frozen=True, slots=True)
class Knock:
    """Who wants in. `secret` is the invite's, in hex; empty from a member that renews.

    `proof` is the peer's signature over the door's key and the secret, so that nobody is
    admitted under a key that is not its own. `address` is where the peer works already, empty
    before it does: so that a copy of its key is told from itself.
    """

    protocol: int
    software: str
    peer: PeerId
    secret: str
    proof: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """Who wants in without an invite: a person is to approve it, by a code on both screens.

    `name` is what its owner calls the device. `commitment` binds the peer, the door and a number
    that is told later (`trust/short_code`); `proof` is the peer's signature over the door's key,
    the name and the commitment.
    """

    protocol: int
    software: str
    peer: PeerId
    name: str
    commitment: str
    proof: str


@dataclass(frozen=True, slots=True)
class Challenge:
    """The door's own random number, in hex: said once it has the other's commitment."""

    nonce: str


@dataclass(frozen=True, slots=True)
class Reveal:
    """The number that was committed to, in hex. From then on both sides know the code."""

    nonce: str


@dataclass(frozen=True, slots=True)
class Look:
    """Somebody only wants to know whose door this is."""

    protocol: int
    software: str


@dataclass(frozen=True, slots=True)
class About:
    """Whose door this is: what anybody may know. `now_s` is its clock (unix seconds)."""

    protocol: int
    software: str
    swarm: str
    name: str
    now_s: float


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
    """The swarm's CA and the newcomer's certificate (both PEM), whom to dial, what runs there.

    `now_s` is the door's clock (unix seconds): a newcomer whose own is far off is seen by nobody.
    """

    authority: str
    certificate: str
    contacts: tuple[Contact, ...]
    models: tuple[RunningModel, ...]
    now_s: float


@dataclass(frozen=True, slots=True)
class NotAdmitted:
    """Why not; `code` is that of an error of ours."""

    code: str
    message: str


DoorWord = Knock | Ask | Challenge | Reveal | Look | About | Admission | NotAdmitted
