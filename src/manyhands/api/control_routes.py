"""What only the person who runs the swarm may ask: who waits at the door, yes or no, an invite.

Each needs the control key, which lies in that person's home folder and nowhere else: an API key is
given to programs that chat, and loopback is open to everybody on the machine.
"""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from manyhands.api.forms import Json
from manyhands.api.refusals import RequestRefused
from manyhands.api.replies import json_response
from manyhands.api.serving import Control
from manyhands.node.approvals import Newcomer
from manyhands.trust.short_code import read_code

LONGEST_S = 366 * 86400.0
HEADER = "x-manyhands-control"


class Word(BaseModel):
    """What a person says to the device that shows `code`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    code: str
    approve: bool


class Wanted(BaseModel):
    """An invite that is good for `life_s`; with `guest_s` it is a guest's, for so long."""

    model_config = ConfigDict(strict=True, extra="forbid")

    life_s: Annotated[float, Field(ge=1, le=LONGEST_S)] | None = None
    guest_s: Annotated[float, Field(ge=1, le=LONGEST_S)] | None = None


def control_routes(control: Control) -> APIRouter:
    """`/swarm/newcomers` and `/swarm/invites`."""

    def check(request: Request) -> None:
        shown = request.headers.get(HEADER, "").encode("utf-8", "replace")
        if not hmac.compare_digest(shown, control.key.encode()):
            raise RequestRefused(
                403, "only whoever runs the swarm may ask this, by `hands` on the same machine"
            )

    routes = APIRouter(include_in_schema=False, dependencies=[Depends(check)])
    approvals = control.founder.approvals

    @routes.get("/swarm/newcomers")
    async def newcomers() -> Response:
        return json_response({"newcomers": [as_json(one) for one in approvals.waiting()]})

    @routes.post("/swarm/newcomers")
    async def say(word: Word) -> Response:
        newcomer = approvals.answer(read_code(word.code), is_welcome=word.approve)
        return json_response({"newcomer": as_json(newcomer), "approved": word.approve})

    @routes.post("/swarm/invites")
    async def invite(wanted: Wanted) -> Response:
        life_s = wanted.life_s or control.founder.settings.invite_life_s
        made = control.founder.invite(life_s, wanted.guest_s)
        return json_response({"text": made.text, "link": control.link(made), "life_s": life_s})

    return routes


def as_json(newcomer: Newcomer) -> Json:
    """A device at the door, as a program reads it."""
    return {"name": newcomer.name, "code": newcomer.code, "peer": newcomer.peer}
