"""Who may ask: the right Host, the right Origin, the right key; and what browsers are told to keep.

The Host rule stops pages whose name was rebound to this machine; the Origin rule stops other sites'
pages; the key stops everybody else on the network. Knows nothing of what is asked.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manyhands.api.refusals import Refusal
from manyhands.errors import UserError
from manyhands.net.hosts import host_name, is_address, is_every_address, is_loopback

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

PROTECTION = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
"""On every response: a page of ours loads nothing from elsewhere and is shown in no frame."""

ASKABLE = {
    "access-control-allow-methods": "GET, POST",
    "access-control-allow-headers": "authorization, content-type",
    "access-control-expose-headers": (
        "x-request-id, x-manyhands-ignored, x-manyhands-kernels, x-manyhands-recovered-s"
    ),
    "access-control-max-age": "600",
}


def check_access(host: str, api_key: str | None, allowed_origins: Iterable[str] = ()) -> None:
    """Raise UserError for what nobody should start a server with; asks nothing but its arguments.

    No key though others than this machine could ask, a key that no program can send as it is, an
    origin that is none.
    """
    if api_key is None and not is_loopback(host):
        raise UserError(
            f"{host or 'every address'} can be reached by others, so a key is needed: "
            "give --api-key or MANYHANDS_API_KEY, or serve on 127.0.0.1"
        )
    if api_key is not None:
        check_key(api_key)
    for origin in allowed_origins:
        scheme, place = _site(origin)
        if scheme not in ("http", "https") or origin != f"{scheme}://{place}":
            raise UserError(f"{origin!r} is no origin; one looks like https://example.org")


def check_key(api_key: str) -> None:
    """Raise UserError for a key that an HTTP header does not carry as it is."""
    where = "give --api-key or MANYHANDS_API_KEY"
    if not api_key.strip():
        raise UserError(f"the API key is empty; {where} some text")
    if api_key != api_key.strip():
        raise UserError(f"the API key has spaces around it, which HTTP drops; {where} without them")
    if not (api_key.isascii() and api_key.isprintable()):
        raise UserError(
            "the API key has characters that HTTP does not carry as they are; "
            f"{where} one of ASCII letters, digits and signs"
        )


@dataclass(frozen=True, slots=True)
class Access:
    """`host` is the address the server is bound to.

    `pages` are paths that anybody may read, `open_paths` others that need no key.

    Raises what `check_access` raises.
    """

    host: str
    api_key: str | None
    allowed_hosts: tuple[str, ...]
    allowed_origins: tuple[str, ...]
    pages: frozenset[str]
    open_paths: frozenset[str]

    def __post_init__(self) -> None:
        check_access(self.host, self.api_key, self.allowed_origins)

    def knows_host(self, header: str) -> bool:
        """True when a request with this Host header was meant for us."""
        name = host_name(header)
        if name in LOCAL_NAMES or name == host_name(self.host):
            return True
        if name in map(host_name, self.allowed_hosts):
            return True
        # a name can be rebound, an address cannot
        return is_every_address(self.host) and is_address(name)

    def knows_origin(self, origin: str, host: str) -> bool:
        """True for a page of ours, or of a site that was named."""
        scheme, place = _site(origin)
        is_ours = scheme in ("http", "https") and place.lower() == host.lower()
        return is_ours or origin in self.allowed_origins

    def has_key(self, authorization: str) -> bool:
        """Compares in a time that tells nothing of the key."""
        if self.api_key is None:
            return True
        scheme, _, given = authorization.partition(" ")
        is_same = hmac.compare_digest(_digest(given.strip()), _digest(self.api_key))
        return scheme.lower() == "bearer" and is_same


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it with what is wrong."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        is_listed = origin is not None and origin in self._access.allowed_origins

        async def protect(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in PROTECTION.items():
                    told[name] = value
                told.setdefault("cache-control", "no-store")
                if is_listed and origin is not None:
                    told["access-control-allow-origin"] = origin
                    told["cross-origin-resource-policy"] = "cross-origin"
                    told.add_vary_header("origin")
                    for name, value in ASKABLE.items():
                        told[name] = value
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal.response()(scope, receive, protect)
        elif is_listed and scope["method"] == "OPTIONS":
            await Response(status_code=204)(scope, receive, protect)
        else:
            await self._app(scope, receive, protect)

    def _refusal(self, scope: Scope, headers: Headers) -> Refusal | None:
        access, host = self._access, headers.get("host", "")
        is_read = scope["method"] in ("GET", "HEAD")
        is_page = is_read and scope["path"] in access.pages
        is_open = is_page or (is_read and scope["path"] in access.open_paths)
        if not access.knows_host(host):
            return Refusal(
                403,
                f"this server does not answer to the name {host_name(host)[:200]!r}; open it by "
                f"its address, or start it with --allow-host {host_name(host)[:200]}",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        if origin is not None and not is_page and not access.knows_origin(origin, host):
            return Refusal(
                403,
                f"pages of {origin[:200]!r} may not ask this server; "
                f"if they shall, start it with --allow-origin {origin[:200]}",
                code="origin_not_allowed",
            )
        is_preflight = scope["method"] == "OPTIONS" and origin in access.allowed_origins
        if is_open or is_preflight or access.has_key(headers.get("authorization", "")):
            return None
        return Refusal(
            401,
            "this server needs its key; send it as `Authorization: Bearer KEY` "
            "(it was set with --api-key or MANYHANDS_API_KEY)",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )


def _site(origin: str) -> tuple[str, str]:
    """Scheme and place of an origin; empty for what is none."""
    try:
        parts = urlsplit(origin)
    except ValueError:  # brackets that do not match, for instance
        return "", ""
    return parts.scheme, parts.netloc


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
