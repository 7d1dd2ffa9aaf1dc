"""A real HTTP server over a real swarm of tiny peers, in a thread of its own, for tests of api/."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import openai

from manyhands.api.listening import serving_http
from manyhands.api.serving import Serving
from manyhands.domain.settings import Settings
from manyhands.engine import choice
from manyhands.node.local import LocalSwarm
from manyhands.node.opened import Opened, open_model
from manyhands.node.speaker import Speaker

DEADLINE_S = 40.0
CHAT = [{"role": "user", "content": "Many hands?"}]


class House:
    """`url` is the server's; `run` runs a coroutine on its loop."""

    def __init__(
        self, swarm: LocalSwarm, serving: Serving, url: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.swarm, self.serving, self.url, self._loop = swarm, serving, url, loop

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The coroutine's value."""
        return self.begin(work).result(DEADLINE_S)

    def begin(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Start a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def http(self, **options: Any) -> httpx.Client:
        """A client; close it."""
        return httpx.Client(base_url=self.url, timeout=DEADLINE_S, trust_env=False, **options)

    def openai(self, key: str = "none", **options: Any) -> openai.OpenAI:
        """The client that most programs use; close it."""
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=key, timeout=DEADLINE_S, max_retries=0, **options
        )

    def sessions(self) -> int:
        """Sessions that this server's peer has open."""
        return len(self.swarm.owner.owner._sessions)

    async def kill_at(self, peer: int, length: int) -> None:
        """End a peer once some session is this long."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                sessions = self.swarm.owner.owner._sessions.values()
                if any(session.length >= length for session in sessions):
                    return self.swarm.kill(peer)
                await asyncio.sleep(0)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return once it is so."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if is_so():
                    return
                await asyncio.sleep(0.01)


@contextlib.contextmanager
def house(
    folder: Path,
    peers: int = 3,
    settings: Settings | None = None,
    change: Callable[[Opened], Opened] = lambda opened: opened,
    engine: str = "numpy",
    **serving: Any,
) -> Iterator[House]:
    """Serve a folder's model, or what `change` makes of it, on a free port of 127.0.0.1."""
    made: Future[House] = Future()
    over: Future[asyncio.Event] = Future()

    async def serve() -> None:
        used = settings or Settings()
        model = change(open_model(folder, used, engine=engine))
        swarm = LocalSwarm(model.model, peers, choice.this_device(), used, model.on_start)
        started, ended = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(swarm.serve(started))
            await started.wait()
            said = serving_of(swarm, model, **serving)
            async with serving_http(said, port=0) as url:
                over.set_result(ended)
                made.set_result(House(swarm, said, url, asyncio.get_running_loop()))
                await ended.wait()
            swarm.stop()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if made.done():
                raise
            made.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    built = made.result(DEADLINE_S)
    try:
        yield built
    finally:
        built._loop.call_soon_threadsafe(over.result().set)
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def serving_of(swarm: LocalSwarm, opened: Opened, **changes: Any) -> Serving:
    """What a server over this swarm serves, under the name `tiny`."""
    speaker = Speaker(
        replace(opened, name="tiny"), lambda: swarm.owner.owner, lambda: datetime.now(UTC)
    )
    serving = Serving(
        speakers=(speaker,),
        node=swarm.owner,
        wall_clock=lambda: datetime.now(UTC).timestamp(),
        version="0.0.test",
    )
    return replace(serving, **changes)
