"""The web application: OpenAI's interface, the swarm's, and the page, behind one guard."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from manyhands.api.control_routes import control_routes
from manyhands.api.desk import Desk
from manyhands.api.envelope import Envelope
from manyhands.api.guard import Access, Guard
from manyhands.api.openai_routes import openai_routes
from manyhands.api.page import page_files, page_routes
from manyhands.api.refusals import Refusal, of_validation, refusal_of
from manyhands.api.serving import Serving
from manyhands.api.swarm_routes import swarm_routes, view_of
from manyhands.errors import ManyhandsError

SCHEMA = "/openapi.json"


def build_app(serving: Serving, host: str = "127.0.0.1") -> FastAPI:
    """The application for a server bound to `host`; `app.state.desk` is its Desk.

    Raises UserError when `host` can be reached by others and there is no key.
    """
    files = page_files()
    access = Access(
        host=host,
        api_key=serving.api_key,
        allowed_hosts=serving.allowed_hosts,
        allowed_origins=serving.allowed_origins,
        pages=frozenset({SCHEMA, *(file.path for file in files)}),
        open_paths=frozenset({"/health"}),
    )
    app = FastAPI(
        title="Manyhands",
        version=serving.version,
        description="One model on many devices. Errors have OpenAI's form.",
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
        openapi_url=SCHEMA,
        exception_handlers={
            HTTPException: _not_served,
            RequestValidationError: _not_valid,
            ManyhandsError: _failed,
        },
    )
    app.state.desk = desk = Desk(serving)
    app.include_router(openai_routes(desk))
    app.include_router(swarm_routes(desk))
    if serving.control is not None:
        app.include_router(control_routes(serving.control, lambda: view_of(desk)))
    app.router.routes.extend(page_routes(files))
    app.add_middleware(Guard, access=access)
    app.add_middleware(Envelope, chance=serving.chance)
    return app


async def _not_valid(request: Request, error: Exception) -> Response:
    del request
    errors = error.errors() if isinstance(error, RequestValidationError) else ()
    return of_validation(errors).response()


async def _not_served(request: Request, error: Exception) -> Response:
    refusal = refusal_of(error)
    asked = f"{request.method} {request.url.path[:200]}"
    if refusal.code is None and refusal.status == 404:
        refusal = Refusal(404, f"there is no {asked} here; /docs lists what there is")
    elif refusal.code is None and refusal.status == 405:
        refusal = Refusal(405, f"{asked} is not served; see /docs", headers=refusal.headers)
    return refusal.response()


async def _failed(request: Request, error: Exception) -> Response:
    del request
    return refusal_of(error).response()
