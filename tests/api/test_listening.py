"""The port: taken, free, not ours; starting within a loop, ending with streams open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from dataclasses import replace

import httpx
import pytest

from api_events import blocks
from api_house import CHAT, DEADLINE_S, house
from manyhands.api.listening import bound_http, serving_http
from manyhands.api.serving import Serving
from manyhands.errors import UserError

ENDLESS = {
    "model": "tiny",
    "messages": CHAT,
    "max_tokens": 450,
    "logit_bias": {"1": -100},
    "stream": True,
}


async def status(serving: Serving, host: str = "127.0.0.1", port: int = 0, key: str = "") -> int:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with (
        serving_http(serving, host, port) as url,
        httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http,
    ):
        return (await http.get(f"{url}/v1/models", headers=headers)).status_code


def test_any_free_port_is_taken_and_freed_and_taken_again(served):
    assert served.run(status(served.serving)) == 200
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for _ in range(2):
        assert served.run(status(served.serving, port=port)) == 200


def test_a_taken_port_says_what_to_try(served):
    port = int(served.url.rpartition(":")[2])
    with pytest.raises(UserError, match="--http-port"):
        served.run(status(served.serving, port=port))


@pytest.mark.parametrize(("host", "port"), [("198.51.100.7", 0), ("no.such.host.invalid", 0)])
def test_an_address_that_is_not_ours_is_refused(served, host, port):
    with pytest.raises(UserError, match="of this machine"):
        served.run(status(replace(served.serving, api_key="k"), host, port))


def test_a_port_that_is_none_is_refused(served):
    with pytest.raises(UserError, match="65535"):
        served.run(status(served.serving, port=70000))


def test_other_addresses_than_loopback_need_a_key(served):
    with pytest.raises(UserError, match="MANYHANDS_API_KEY"):
        served.run(status(served.serving, "0.0.0.0"))
    keyed = replace(served.serving, api_key="k")
    assert served.run(status(keyed, "0.0.0.0", key="k")) == 200
    assert served.run(status(keyed, "0.0.0.0")) == 401


def test_models_of_one_name_none_or_an_empty_key_are_refused(served):
    speaker = served.serving.speakers[0]
    for speakers in ((), (speaker, speaker)):
        with pytest.raises(UserError, match="models to serve"):
            replace(served.serving, speakers=speakers)
    with pytest.raises(UserError, match="key is empty"):
        replace(served.serving, api_key=" ")


async def test_ctrl_c_stays_with_whoever_started_it(served):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    async with serving_http(served.serving, port=0):
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


async def test_a_body_that_is_cancelled_or_fails_closes_the_port(served):
    urls = []

    async def fail() -> None:
        async with serving_http(served.serving, port=0) as url:
            urls.append(url)
            raise UserError("the body failed")

    with pytest.raises(ExceptionGroup) as raised:
        await fail()
    assert raised.group_contains(UserError, match="the body failed")

    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:

        async def wait() -> None:
            async with serving_http(served.serving, port=0) as url:
                urls.append(url)
                await asyncio.Event().wait()

        waiting = tasks.create_task(wait())
        while len(urls) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        waiting.cancel()
    for url in urls:
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, trust_env=False)  # noqa: ASYNC210 (nothing listens there)


def test_closing_ends_open_streams_with_a_word(llama):
    serving = house(llama)
    built = serving.__enter__()
    with (
        built.http() as http,
        http.stream("GET", "/swarm/events") as feed,
        http.stream("POST", "/v1/chat/completions", json=ENDLESS) as chat,
    ):
        said, seen = blocks(chat.iter_lines()), blocks(feed.iter_lines())
        next(said)
        next(seen)
        serving.__exit__(None, None, None)
        *_, last = said
        assert last.name == "error"
        assert last.value["error"]["code"] == "closing"
        assert not any(one.is_done for one in seen)


def test_closing_does_not_wait_for_a_request_that_never_comes(llama, caplog):
    with contextlib.ExitStack() as stack:
        with house(llama, peers=1) as built:
            address = ("127.0.0.1", int(built.url.rpartition(":")[2]))
            half = stack.enter_context(socket.create_connection(address, DEADLINE_S))
            half.sendall(
                b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n"
                b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
            )
            answer = stack.enter_context(half.makefile("rb"))
            assert b" 100 " in answer.readline()  # it waits for the rest now
            stack.enter_context(socket.create_connection(address, DEADLINE_S))
        assert answer.read().endswith(b'"closing"}}')
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_a_port_may_be_bound_before_there_is_anything_to_serve(served):
    listening = await bound_http(port=0)
    place = listening.getsockname()
    with pytest.raises(UserError, match="--http-port"):
        await bound_http(port=place[1])
    with socket.create_connection(place, DEADLINE_S) as early:
        early.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        async with serving_http(served.serving, listening=listening) as url:
            assert url == f"http://127.0.0.1:{place[1]}"
            with early.makefile("rb") as answer:
                assert b" 200 " in await asyncio.to_thread(answer.readline)
    assert listening.fileno() == -1


async def test_a_socket_that_was_given_is_closed_whatever_goes_wrong(served):
    listening = await bound_http(port=0)
    with pytest.raises(UserError, match="MANYHANDS_API_KEY"):
        async with serving_http(served.serving, "0.0.0.0", listening=listening):
            pass
    assert listening.fileno() == -1
