"""The page's files, read once: nothing else of the disk can be asked for.

Knows nothing of what they hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "web"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

NAMES = {"index.html": "/", "docs.html": "/docs"}
"""Pages have paths of their own; every other file is at /web/ and its name."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file in memory; `tag` names its content, for caches."""

    path: str
    body: bytes
    kind: str
    tag: str


def page_files(folder: Path = FOLDER) -> tuple[PageFile, ...]:
    """All files of the page."""
    found = []
    for file in sorted(folder.iterdir()):
        if file.suffix in TYPES:
            body = file.read_bytes()
            tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            path = NAMES.get(file.name, f"/web/{file.name}")
            found.append(PageFile(path, body, TYPES[file.suffix], tag))
    return tuple(found)


def page_routes(files: tuple[PageFile, ...]) -> list[Route]:
    """One route a file, GET and HEAD."""
    return [Route(file.path, _serve(file), methods=["GET"]) for file in files]


def _serve(file: PageFile) -> Callable[[Request], Awaitable[Response]]:
    headers: Mapping[str, str] = {"etag": file.tag, "cache-control": "no-cache"}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=dict(headers))
        return Response(file.body, 200, dict(headers), file.kind)

    return serve
