"""Connections that ask nothing, say nonsense or come in crowds, at a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import subprocess
import sys

import httpx
import pytest

from api_house import DEADLINE_S
from manyhands.api.listening import serving_http

GET = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
HALF = b"GET /health HTTP/1.1\r\nhost:"
LONG_S = 600.0


def connect(url: str) -> socket.socket:
    place = url.removeprefix("http://").partition(":")
    return socket.create_connection((place[0], int(place[2])), DEADLINE_S)


def all_of(connection: socket.socket) -> bytes:
    """What comes until the other side ends it."""
    with connection, connection.makefile("rb") as answer:
        try:
            return answer.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("said", [b"", HALF, GET, GET + HALF])
async def test_a_connection_that_asks_nothing_more_is_closed(served, said):
    async with serving_http(served.serving, port=0, idle_s=0.2) as url:
        silent = connect(url)
        silent.sendall(said)
        answer = await asyncio.to_thread(all_of, silent)
        assert answer.count(b" 200 OK") == said.count(GET)


def test_a_request_that_takes_longer_than_that_is_not_cut_off(served):
    async def asked() -> int:
        async with (
            serving_http(served.serving, port=0, idle_s=0.05) as url,
            httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http,
        ):
            body = {"model": "tiny", "prompt": "a", "max_tokens": 200, "logit_bias": {"1": -100}}
            answer = await http.post(f"{url}/v1/completions", json=body)
            return answer.json()["usage"]["completion_tokens"]

    assert served.run(asked()) == 200


def test_crowds_that_say_nothing_keep_nobody_out(served):
    async def asked() -> list[int]:
        async with serving_http(served.serving, port=0, places=4, idle_s=LONG_S) as url:
            with contextlib.ExitStack() as stack:
                crowd = [stack.enter_context(connect(url)) for _ in range(20)]
                for one in crowd[::2]:
                    with contextlib.suppress(ConnectionError):  # dropped already
                        one.sendall(HALF)
                async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http:
                    return [(await http.get(f"{url}/health")).status_code for _ in range(3)]

    assert served.run(asked()) == [200, 200, 200]


async def test_what_is_no_http_is_told_in_the_form_of_every_error_and_fills_no_log(served, caplog):
    async with serving_http(served.serving, port=0) as url:
        for nonsense in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"HELLO\r\n\r\n"):
            stranger = connect(url)
            stranger.sendall(nonsense)
            head, _, body = (await asyncio.to_thread(all_of, stranger)).partition(b"\r\n\r\n")
            assert b" 400 " in head
            assert json.loads(body)["error"]["code"] == "invalid_request"
        upgrade = connect(url)
        upgrade.sendall(GET[:-2] + b"connection: upgrade, close\r\nupgrade: websocket\r\n\r\n")
        assert b" 200 OK" in await asyncio.to_thread(all_of, upgrade)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize(("handles", "places"), [(256, 64), (40, 16)])
def test_the_places_are_a_share_of_the_file_handles(handles, places):
    program = (
        "import resource; from manyhands.api.connections import places_here; "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({handles}, {handles})); "
        "print(places_here())"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert int(told.stdout) == places
