"""Asks a running `hands serve` over HTTP: JSON, and answers that stream.

The standard library only: the command line must not need an HTTP library to talk to itself.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psutil

from manyhands.errors import ManyhandsError, PeerLost, UserError
from manyhands.store.home import Home

DEADLINE_S = 10.0
ANSWER_DEADLINE_S = 300.0
"""Between two pieces of an answer: a prompt may take long on a slow device."""

MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Api:
    """Where a running one listens, and its key where it needs one."""

    url: str
    key: str | None = None

    def get(self, path: str) -> Any:
        """The JSON at `path`. Raises PeerLost, UserError for what the other side refuses."""
        with self._asked("GET", path, None, DEADLINE_S) as response:
            return json.loads(response.read(MOST_BYTES))

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events that answer a request, until [DONE]; closing the iterator cancels it."""
        with self._asked("POST", path, body, ANSWER_DEADLINE_S) as response:
            for line in response:
                text = line.decode("utf-8").strip()
                if text == "data: [DONE]":
                    return
                if text.startswith("data: "):
                    event = json.loads(text.removeprefix("data: "))
                    _raise_for(event)
                    yield event

    @contextlib.contextmanager
    def _asked(
        self, method: str, path: str, body: dict[str, Any] | None, deadline_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        place = urlsplit(self.url)
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        connection = http.client.HTTPConnection(
            place.hostname or "", place.port, timeout=deadline_s
        )
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            if response.status >= 400:
                _refused(response.status, response.read(MOST_BYTES))
            yield response
        except (OSError, http.client.HTTPException) as error:
            raise PeerLost(
                f"{self.url} does not answer ({error}); is `hands serve` still running there?"
            ) from error
        finally:
            connection.close()


def find_api(home: Home, url: str | None, key: str | None) -> Api:
    """The one named, or the one that runs on this machine.

    Raises UserError when there is none.
    """
    if url is not None:
        if urlsplit(url).scheme != "http" or not urlsplit(url).hostname:
            raise UserError(f"{url!r} is no address; write http://HOST:PORT")
        return Api(url.rstrip("/"), key)
    notes = [note for note in home.running() if psutil.pid_exists(int(note.get("pid", -1)))]
    if not notes:
        raise UserError("nothing runs here; start it with `hands run` or `hands serve`")
    note = max(notes, key=lambda note: float(note.get("since", 0)))
    return Api(str(note["url"]), key or note.get("key"))


def _refused(status: int, body: bytes) -> None:
    with contextlib.suppress(ValueError):
        _raise_for(json.loads(body))
    raise ManyhandsError(f"it answered with status {status}")


def _raise_for(event: Any) -> None:
    error = event.get("error") if isinstance(event, dict) else None
    if isinstance(error, dict):
        raise UserError(str(error.get("message")))
