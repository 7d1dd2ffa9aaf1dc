"""What goes wrong, in OpenAI's words: a status and `{"error": {message, type, param, code}}`.

Knows nothing of routes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from manyhands.domain.work import Sampling
from manyhands.errors import (
    BadSampling,
    CheckpointError,
    ContextOverflow,
    ManyhandsError,
    PeerError,
    ResourceError,
    UserError,
)

RETRY_AFTER_S = 5
"""What a full or broken swarm asks a program to wait before it asks again."""

CODES = {
    400: "invalid_request",
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    500: "internal_error",
    503: "service_unavailable",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One error as a program reads it. `param` names the field of the request that is meant."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """OpenAI's form."""
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        return {
            "error": {
                "message": self.message,
                "type": kind.get(
                    self.status, "server_error" if self.status >= 500 else "invalid_request_error"
                ),
                "param": self.param,
                "code": self.code or CODES.get(self.status, "invalid_request"),
            }
        }

    def text(self) -> str:
        """The body as JSON; ASCII, so that half characters in a message can be sent back."""
        return json.dumps(self.body())

    def response(self) -> Response:
        """The HTTP response."""
        return Response(self.text(), self.status, dict(self.headers), "application/json")


class RequestRefused(HTTPException):
    """Raised in a route; the app's error answer is its `refusal`."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.refusal = Refusal(status, message, param, code, headers or {})


def closing_refusal() -> Refusal:
    """What is told of everything that a server's end cuts off."""
    why = "this server is closing; ask again when it is back"
    return Refusal(503, why, code="closing")


def refusal_of(error: Exception) -> Refusal:
    """What is told of an error; of one that is not ours only that it is in the log."""
    match error:
        case RequestRefused():
            return error.refusal
        case HTTPException():
            return Refusal(error.status_code, str(error.detail), headers=dict(error.headers or {}))
        case ContextOverflow():
            return Refusal(400, str(error), code="context_length_exceeded")
        case BadSampling():
            return Refusal(400, str(error), _first_word(str(error)), "invalid_value")
        case CheckpointError():
            return Refusal(500, str(error), code=error.code)
        case UserError():
            return Refusal(400, str(error), code=error.code if error.code != "user" else None)
        case ResourceError() | PeerError():
            again = {"retry-after": str(RETRY_AFTER_S)}
            return Refusal(503, str(error), code=error.code, headers=again)
        case ManyhandsError():
            return Refusal(500, str(error), code=error.code)
        case _:
            return Refusal(500, "this is a mistake of manyhands; its log says more")


def of_validation(errors: Sequence[Mapping[str, Any]]) -> Refusal:
    """The first of pydantic's complaints, with the field's path as `param`."""
    if not errors:
        return Refusal(400, "the body is not as documented")
    first = errors[0]
    path = [part for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        where = f" at character {path[0]}" if path else ""
        reason = first.get("ctx", {}).get("error", "")
        return Refusal(400, f"the body is no JSON{where}: {reason}", code="invalid_json")
    if not path and first["type"] == "value_error":  # of several fields together
        message = str(first["msg"]).removeprefix("Value error, ")
        return Refusal(400, message, message.split(" ", 1)[0], "invalid_value")
    if not path:
        return Refusal(
            400, "the body must be a JSON object, sent with `content-type: application/json`"
        )
    name = _dotted(path)
    rule = RULES.get(str(path[0]))
    if rule is not None:
        return Refusal(400, f"{path[0]} {rule}", str(path[0]), "invalid_type")
    missing = first["type"] == "missing"
    code = "missing_required_parameter" if missing else "invalid_value"
    return Refusal(400, f"{name}: {str(first['msg'])[:300]}", name, code)


RULES = {
    "prompt": (
        "must be a text, a list of texts, a list of token ids or a list of such lists; none empty"
    ),
    "input": (
        "must be a text, a list of texts, a list of token ids or a list of such lists; none empty"
    ),
    "stop": "must be a text or a list of at most 16 texts, none of them empty",
}
"""For fields of several forms, of which pydantic would tell only one."""


def _dotted(path: Sequence[Any]) -> str:
    """`messages[0].content`; names of alternatives (`str`, `list[…]`) are left out."""
    made = ""
    for part in path:
        if isinstance(part, int):
            made += f"[{part}]"
        elif "[" not in part and part not in ("str", "int"):
            made += f".{part}" if made else part
    return made[:200]


def _first_word(message: str) -> str | None:
    word = message.split(" ", 1)[0]
    return word if word in Sampling.__dataclass_fields__ else None
