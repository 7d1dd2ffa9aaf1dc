"""What one HTTP server serves: the models, the peer behind them, and who may ask."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import manyhands
from manyhands.api.forms import Json
from manyhands.api.guard import check_key
from manyhands.errors import UserError
from manyhands.node.app import Node
from manyhands.node.founder import Founder
from manyhands.node.live import wall_clock
from manyhands.node.speaker import Speaker
from manyhands.trust.invite import Invite


@dataclass(frozen=True, slots=True)
class PlanAsked:
    """What would become of a model here, with `more` devices like this one."""

    model: str
    form: str
    context: int
    more: int


class Planner(Protocol):
    """Predicts; `names` are models it knows, `formats` what their weights could be held in."""

    names: tuple[str, ...]
    formats: tuple[str, ...]

    async def plan(self, asked: PlanAsked, swarm: Json) -> Json:
        """The forecast over `swarm`, which is as `/swarm` tells it; computed beside the event loop.

        Raises UserError, ResourceError when it fits nowhere, and what measuring raises.
        """
        ...


@dataclass(frozen=True, slots=True)
class Control:
    """Over a swarm that is founded in this process; `key` is shown by who may use it."""

    key: str
    founder: Founder
    link: Callable[[Invite], str] = lambda invite: invite.text
    """An invite with the way to the door."""
    planner: Planner | None = None


@dataclass(frozen=True, slots=True)
class Serving:
    """`node` is the peer that opens all sessions; `wall_clock` tells unix seconds.

    With `api_key` every request but those for the page must show it. `allowed_hosts` are names
    under which this server is reached besides its own address, `allowed_origins` other sites
    (`https://example.org`) whose pages may ask. `chance` names answers and draws the seeds that
    nobody chose. With `control` the swarm's founder can be told things. Raises UserError for no
    model, two of one name, or a key that check_key refuses.
    """

    speakers: tuple[Speaker, ...]
    node: Node
    wall_clock: Callable[[], float] = wall_clock
    version: str = manyhands.__version__
    api_key: str | None = None
    control: Control | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    chance: random.Random = field(default_factory=random.SystemRandom)

    def __post_init__(self) -> None:
        names = [speaker.name for speaker in self.speakers]
        if not names or len(set(names)) < len(names):
            raise UserError(f"the models to serve are {names}; give one or more, each once")
        if self.api_key is not None:
            check_key(self.api_key)
