"""A server on this machine that speaks like the hub for one model, and counts what it gives."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0c" * 20


class HubHouse:
    """`given_bytes` counts the bytes of files, `asked` their names; `is_down` answers 503."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.given_bytes = 0
        self.asked: list[str] = []
        self.is_down = False
        house = self

        class Answers(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"  # a connection a question: none outlives the server

            def do_GET(self) -> None:
                house.answer(self, with_body=True)

            def do_HEAD(self) -> None:
                house.answer(self, with_body=False)

            def log_message(self, *words) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        path = urlsplit(request.path).path
        if self.is_down:
            return _send(request, 503, b"down", {}, with_body)
        if path in (f"/api/models/{self.name}", f"/api/models/{self.name}/revision/main"):
            return _json(request, {"id": self.name, "sha": COMMIT, "siblings": []})
        if path == f"/api/models/{self.name}/tree/{COMMIT}":
            return _json(request, [self._listed(file) for file in sorted(self.folder.iterdir())])
        prefix = f"/{self.name}/resolve/"
        file = self.folder / path.removeprefix(prefix).partition("/")[2]
        if not path.startswith(prefix) or not file.is_file():
            return _send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)
        data = file.read_bytes()
        headers = {"ETag": f'"{_name(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        asked = request.headers.get("Range")
        if asked is None:
            return self._give(request, file.name, 200, data, headers, with_body)
        first, last = asked.removeprefix("bytes=").split("-")
        cut = slice(int(first), int(last) + 1 if last else len(data))
        headers["Content-Range"] = f"bytes {cut.start}-{cut.stop - 1}/{len(data)}"
        return self._give(request, file.name, 206, data[cut], headers, with_body)

    def _give(self, request, name, status, data, headers, with_body) -> None:
        if with_body:
            self.given_bytes += len(data)
            self.asked.append(name)
        _send(request, status, data, headers, with_body)

    def _listed(self, file: Path) -> dict:
        data = file.read_bytes()
        return {"type": "file", "path": file.name, "size": len(data), "oid": _name(data)}


def _name(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _json(request, value) -> None:
    _send(request, 200, json.dumps(value).encode(), {"Content-Type": "application/json"}, True)


def _send(request, status, data, headers, with_body) -> None:
    request.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(data))}.items():
        request.send_header(name, value)
    request.end_headers()
    if with_body:
        request.wfile.write(data)


@contextlib.contextmanager
def hub_house(folder: Path, name: str = "owner/little") -> Iterator[HubHouse]:
    """It answers while the context is open."""
    house = HubHouse(folder, name)
    thread = threading.Thread(target=house.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield house
    finally:
        house.server.shutdown()
        house.server.server_close()
        thread.join()
