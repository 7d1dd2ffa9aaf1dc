"""What only the person who runs the swarm may ask: who waits at the door, an invite, a plan.

Each needs the control key, which lies in that person's home folder and nowhere else: an API key is
given to programs that chat, and loopback is open to everybody on the machine. Or the key of a page
that this person has opened by a pass.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from manyhands.api.forms import Json
from manyhands.api.passes import LIFE_S, Passes
from manyhands.api.qr import qr_path
from manyhands.api.refusals import RequestRefused
from manyhands.api.replies import json_response
from manyhands.api.serving import Control, PlanAsked, Planner
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


class Shown(BaseModel):
    """The pass in the link that a page was opened by."""

    model_config = ConfigDict(strict=True, extra="forbid")

    text: Annotated[str, Field(alias="pass", max_length=200)]


class PlanBody(BaseModel):
    """A model by name; its weights in `format`, memory for `context` tokens, `more` devices."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: Annotated[str, Field(min_length=1, max_length=200)]
    format: Annotated[str, Field(max_length=20)] = "auto"
    context: Annotated[int, Field(ge=1, le=1 << 24)] = 4096
    more: Annotated[int, Field(ge=0, le=64)] = 0


def control_routes(control: Control, view: Callable[[], Json]) -> APIRouter:
    """`/swarm/newcomers`, `/swarm/invites`, `/swarm/plan`, and how a page gets to ask them.

    `view` is the swarm as `/swarm` tells it.
    """
    passes = Passes(time.monotonic, secrets.token_urlsafe)

    def check(request: Request) -> None:
        shown = request.headers.get(HEADER, "")
        is_owner = hmac.compare_digest(shown.encode("utf-8", "replace"), control.key.encode())
        if not (is_owner or passes.is_key(shown)):
            raise RequestRefused(
                403,
                "only whoever runs the swarm may ask this: by `hands` on the same machine, or on "
                "the page that `hands page` opens",
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
        link = control.link(made)
        told = {"text": made.text, "link": link, "life_s": life_s, "qr": qr_path(link)}
        return json_response(told)

    @routes.post("/swarm/passes")
    async def make_pass() -> Response:
        return json_response({"pass": passes.made(), "life_s": LIFE_S})

    if control.planner is not None:
        routes.include_router(_plan_routes(control.planner, view))
    # alone without the key: a pass is what it is had by
    opening = APIRouter(include_in_schema=False)

    @opening.post("/swarm/key")
    async def key(shown: Shown) -> Response:
        return json_response({"key": passes.key(shown.text)})

    opening.include_router(routes)
    return opening


def _plan_routes(planner: Planner, view: Callable[[], Json]) -> APIRouter:
    routes = APIRouter()
    one_at_a_time = asyncio.Lock()  # it computes, and others want answers meanwhile

    @routes.get("/swarm/plan")
    async def plannable() -> Response:
        return json_response({"models": planner.names, "formats": planner.formats})

    @routes.post("/swarm/plan")
    async def plan(body: PlanBody) -> Response:
        asked = PlanAsked(body.model, body.format, body.context, body.more)
        async with one_at_a_time:
            return json_response(await planner.plan(asked, view()))

    return routes


def as_json(newcomer: Newcomer) -> Json:
    """A device at the door, as a program reads it."""
    return {"name": newcomer.name, "code": newcomer.code, "peer": newcomer.peer}
