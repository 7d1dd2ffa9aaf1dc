"""A peer of a person takes part in placing a model's layers anew, and says what moves."""

from __future__ import annotations

import socket

from manyhands.cli.console import Console
from manyhands.cli.words import planned_tokens
from manyhands.domain.ids import PeerId
from manyhands.domain.settings import Settings
from manyhands.node.app import Node
from manyhands.node.model import Model
from manyhands.node.mover import Followed
from manyhands.node.newcomer import device_name


def follow(
    console: Console,
    node: Node,
    model: Model,
    founder: PeerId,
    settings: Settings,
    *,
    is_movable: bool,
) -> None:
    """From now on; `is_movable` where no person has said which layers are here."""

    def told(line: str) -> None:
        console.say(line, "cyan")
        console.event("moving", message=line)

    node.name = device_name(socket.gethostname())
    node.replanner.told = told
    tokens = planned_tokens(model, settings)
    node.follow(Followed(model.id, founder, tokens, is_movable))
