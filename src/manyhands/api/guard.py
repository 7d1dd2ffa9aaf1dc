"""Who may ask: the right Host, the right Origin, the right key; and what browsers are told to keep.

The Host rule stops pages whose name was rebound to this machine; the Origin rule stops other sites'
pages; the key stops everybody else on the network. Knows nothing of what is asked.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manyhands.api.refusals import Refusal
from manyhands.errors import UserError

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
    "access-control-expose-headers": "x-request-id, x-manyhands-ignored, x-manyhands-recovered-s",
    "access-control-max-age": "600",
}


@dataclass(frozen=True, slots=True)
class Access:
    """`host` is the address the server is bound to.

    `pages` are paths that anybody may read, `open_paths` others that need no key.

    Raises UserError when others than this machine could ask and there is no key, or for an
    origin that is none.
    """

    host: str
    api_key: str | None
    allowed_hosts: tuple[str, ...]
    allowed_origins: tuple[str, ...]
    pages: frozenset[str]
    open_paths: frozenset[str]

    def __post_init__(self) -> None:
        if self.api_key is None and not is_loopback(self.host):
            raise UserError(
                f"{self.host or 'every address'} can be reached by others, so a key is needed: "
                "give --api-key or MANYHANDS_API_KEY, or serve on 127.0.0.1"
            )
        for origin in self.allowed_origins:
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise UserError(f"{origin!r} is no origin; one looks like https://example.org")

    def knows_host(self, header: str) -> bool:
        """True when a request with this Host header was meant for us."""
        name = host_name(header)
        if name in LOCAL_NAMES or name == host_name(self.host):
            return True
        if name in map(host_name, self.allowed_hosts):
            return True
        # a name can be rebound, an address cannot
        return _is_every_address(self.host) and _address(name) is not None

    def knows_origin(self, origin: str, host: str) -> bool:
        """True for a page of ours, or of a site that was named."""
        parts = urlsplit(origin)
        is_ours = parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
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


def is_loopback(host: str) -> bool:
    """True when only this machine reaches what is bound to `host`."""
    address = _address(host_name(host))
    return host_name(host) == "localhost" or (address is not None and address.is_loopback)


def host_name(header: str) -> str:
    """The name or address in `name:port`, `[address]:port` or a bare IPv6 address."""
    text = header.strip().lower()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return text.removesuffix(".")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_every_address(host: str) -> bool:
    address = _address(host_name(host))
    return not host or (address is not None and address.is_unspecified)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
