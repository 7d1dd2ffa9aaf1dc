"""The routes of OpenAI's interface: models, chat completions, completions, embeddings."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from manyhands.api.asked import chat_asked, completion_asked
from manyhands.api.bodies import ChatBody, CompletionBody, EmbeddingBody
from manyhands.api.desk import Desk
from manyhands.api.embedded import Vectors
from manyhands.api.forms import Json
from manyhands.api.replies import Spoken, json_response
from manyhands.node.speaker import Speaker


def openai_routes(desk: Desk) -> APIRouter:
    """`/v1/…` over the models of a desk."""
    routes = APIRouter(prefix="/v1", tags=["OpenAI"])
    created = int(desk.serving.wall_clock())

    def about(speaker: Speaker) -> Json:
        return {
            "id": speaker.name,
            "object": "model",
            "created": created,
            "owned_by": "manyhands",
        }

    @routes.get("/models", summary="The models served here")
    async def models() -> Response:
        served = [about(speaker) for speaker in desk.serving.speakers]
        return json_response({"object": "list", "data": served})

    @routes.get("/models/{name:path}", summary="One model")
    async def model(name: str) -> Response:
        return json_response(about(desk.speaker(name)))

    @routes.post("/chat/completions", summary="Go on with a chat")
    async def chat(body: ChatBody) -> Response:
        return Spoken(lambda: chat_asked(body, desk), desk)

    @routes.post("/completions", summary="Go on with a text")
    async def completion(body: CompletionBody) -> Response:
        return Spoken(lambda: completion_asked(body, desk), desk)

    @routes.post("/embeddings", summary="A vector for each text")
    async def embeddings(body: EmbeddingBody) -> Response:
        return Vectors(body, desk)

    return routes
