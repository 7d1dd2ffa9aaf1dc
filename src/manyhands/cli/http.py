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

from manyhands.cli.notes import running
from manyhands.errors import ManyhandsError, PeerError, PeerLost, UserError
from manyhands.store.home import Home

DEADLINE_S = 10.0
ANSWER_DEADLINE_S = 300.0
"""Between two pieces of an answer: a prompt may take long on a slow device."""

MOST_BYTES = 64 << 20
BROKEN = 503
"""The status by which a swarm says that layers are missing, or that it is full."""


@dataclass(frozen=True, slots=True)
class Api:
    """Where a running one listens, and its key where it needs one.

    `control` is what whoever runs it shows, besides, to tell it things.
    """

    url: str
    key: str | None = None
    control: str | None = None

    def get(self, path: str) -> Any:
        """The JSON at `path`.

        Raises PeerLost, UserError for what the other side refuses, PeerError for what it cannot.
        """
        with self._asked("GET", path, None, DEADLINE_S) as response:
            return self._read(response.read(MOST_BYTES))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON that answers `body`. Raises what `get` raises."""
        with self._asked("POST", path, body, DEADLINE_S) as response:
            return self._read(response.read(MOST_BYTES))

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events that answer a request, until [DONE]; closing the iterator cancels it."""
        with self._asked("POST", path, body, ANSWER_DEADLINE_S) as response:
            for line in response:
                data = line.strip()
                if data == b"data: [DONE]":
                    return
                if data.startswith(b"data: "):
                    event = self._read(data.removeprefix(b"data: "))
                    _raise_for(event)
                    if isinstance(event, dict):
                        yield event
        raise PeerLost(f"{self.url} broke off in mid-answer; is `hands serve` still running there?")

    def no_swarm(self) -> ManyhandsError:
        """What to raise when the answers are not of our making."""
        return ManyhandsError(
            f"what answers at {self.url} is no `hands serve` of this version; look at the address"
        )

    def _read(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise self.no_swarm() from None

    @contextlib.contextmanager
    def _asked(
        self, method: str, path: str, body: dict[str, Any] | None, deadline_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        place = urlsplit(self.url)
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        if self.control:
            headers["X-Manyhands-Control"] = self.control
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
    if key is not None and not (key.isascii() and key.isprintable()):
        raise UserError("an API key is made of plain letters, digits and signs, on one line")
    if url is not None:
        _check_url(url)
        return Api(url.rstrip("/"), key)
    notes = running(home)
    if not notes:
        raise UserError("nothing runs here; start it with `hands run` or `hands serve`")
    note = max(notes, key=lambda note: note.since)
    return Api(note.url, key or note.key, note.control)


def _check_url(url: str) -> None:
    try:
        place = urlsplit(url)
        is_good = place.scheme == "http" and bool(place.hostname) and place.port != 0
    except ValueError:  # of the port, or of brackets
        is_good = False
    if not is_good or not url.isascii() or not url.isprintable():
        raise UserError(f"{url[:80]!r} is no address; write http://HOST:PORT")


def _refused(status: int, body: bytes) -> None:
    with contextlib.suppress(ValueError, RecursionError):
        _raise_for(json.loads(body), status)
    raise ManyhandsError(f"it answered with status {status}; is it a `hands serve`?")


def _raise_for(event: Any, status: int | None = None) -> None:
    """`status` None: the error came in the middle of an answer."""
    error = event.get("error") if isinstance(event, dict) else None
    if not isinstance(error, dict):
        return
    message = str(error.get("message"))
    if status == BROKEN or error.get("code") == "service_unavailable":
        raise PeerError(message)
    if error.get("type") == "server_error":
        raise ManyhandsError(message)
    raise UserError(message)
