"""`POST /v1/embeddings`: texts or token ids in, a vector each out, in OpenAI's form.

Knows nothing of how vectors are made.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from manyhands.api import parameters
from manyhands.api.asked import several, shown
from manyhands.api.bodies import EmbeddingBody
from manyhands.api.desk import Desk
from manyhands.api.refusals import RequestRefused, closing_refusal, refusal_of
from manyhands.api.replies import CLIENT_GONE, json_response
from manyhands.errors import ManyhandsError
from manyhands.node.embed import Embedded, check_embeds
from manyhands.node.speaker import Speaker

REFUSED = ("normalize", "pooling", "prompt_name", "task", "input_type", "truncate")
"""Parameters of other servers that would change a vector."""


class Vectors(Response):
    """Computes while it is sent, and stops when its reader leaves or the server closes."""

    def __init__(self, body: EmbeddingBody, desk: Desk) -> None:
        super().__init__()
        self._body, self._desk = body, desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises RequestRefused, UserError."""
        body, desk = self._body, self._desk
        with desk.a_request():
            speaker = desk.speaker(body.model)
            headers = _headers(body, speaker)
            inputs = [await _ids(one, speaker, desk) for one in several(body.input)]
            made = await _unless_left(speaker.embed(inputs), receive, desk.closing)
        if isinstance(made, Embedded):
            made = _reply(body, speaker, made, headers)
        await made(scope, receive, send)


def _headers(body: EmbeddingBody, speaker: Speaker) -> dict[str, str]:
    """What is told as ignored. Raises NotServed for a model without vectors, RequestRefused."""
    check_embeds(speaker.model.spec)
    extra = body.model_extra or {}
    for name in REFUSED:
        if extra.get(name) is not None:
            parameters.refuse(name)
    size = speaker.model.spec.head.outputs
    if body.dimensions not in (None, size):
        parameters.refuse("dimensions", f"leave it out; this model makes {size}")
    ignored = parameters.ignored(extra)
    return {"x-manyhands-ignored": ignored} if ignored else {}


async def _ids(one: str | list[int], speaker: Speaker, desk: Desk) -> tuple[int, ...]:
    if isinstance(one, str):
        ids = await desk.text_ids(speaker, one, "input")
    else:
        ids = speaker.ids(one)
    if len(ids) > speaker.context:
        raise RequestRefused(
            400,
            f"an input has {len(ids)} tokens and the context {speaker.context}; cut it into "
            "several",
            "input",
            "context_length_exceeded",
        )
    return ids


async def _unless_left(
    work: Coroutine[Any, Any, Embedded], receive: Receive, closing: asyncio.Event
) -> Embedded | Response:
    """What the work comes to, or a response when the reader leaves or the server closes first."""
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(_caught(work))
        gone, closed = tasks.create_task(_left(receive)), tasks.create_task(closing.wait())
        await asyncio.wait((working, gone, closed), return_when=asyncio.FIRST_COMPLETED)
        for task in (working, gone, closed):
            task.cancel()
    if working.cancelled():
        return (
            Response(status_code=CLIENT_GONE)
            if gone.done() and not gone.cancelled()
            else (closing_refusal().response())
        )
    made = working.result()
    return refusal_of(made).response() if isinstance(made, ManyhandsError) else made


async def _caught(work: Coroutine[Any, Any, Embedded]) -> Embedded | ManyhandsError:
    try:
        return await work
    except ManyhandsError as error:
        return error


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _reply(
    body: EmbeddingBody, speaker: Speaker, made: Embedded, headers: dict[str, str]
) -> Response:
    if kernels := shown(made.kernels):
        headers["x-manyhands-kernels"] = ", ".join(kernels)
    if made.recovered_s:
        headers["x-manyhands-recovered-s"] = ", ".join(f"{s:.6f}" for s in made.recovered_s)
    is_packed = body.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _form(vector, is_packed)}
        for index, vector in enumerate(made.vectors)
    ]
    usage = {"prompt_tokens": made.tokens, "total_tokens": made.tokens}
    whole = {"object": "list", "data": data, "model": speaker.name, "usage": usage}
    return json_response(whole, headers)


def _form(vector: NDArray[np.float32], is_packed: bool) -> str | list[float]:
    if is_packed:
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return [float(number) for number in vector]
