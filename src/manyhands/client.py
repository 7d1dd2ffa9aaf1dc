"""A few lines of Python: load a folder, generate, stream, look inside.

One implementation, async inside. It runs on an event loop in a thread of its own, so it works in
scripts, in Jupyter and in programs that have a loop already.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from manyhands.codec import codec
from manyhands.domain.settings import Settings
from manyhands.domain.work import Result, Sampling, Want
from manyhands.engine import choice
from manyhands.errors import ManyhandsError, UserError
from manyhands.node.answer import Answer, Request, TextStream
from manyhands.node.local import LocalSwarm
from manyhands.node.model import Model as Held
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.tokenizer import Tokenizer

T = TypeVar("T")
P = TypeVar("P", str, int)
Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]
"""A text, token ids, or a chat: messages with `role` and `content`."""


def load(
    folder: str | Path,
    *,
    peers: int = 1,
    engine: Literal["auto", "numpy", "torch"] = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    settings: Settings | None = None,
) -> Model:
    """A model from a folder of safetensors, split over `peers` peers in this process.

    `engine` auto is torch where it is installed, else numpy. `dtype` is fp32, bf16, fp16 or auto
    (torch only; numpy computes in fp32). `threads` are those of each peer. Raises CheckpointError,
    UnknownFamily, NotServed, ResourceError or BadSetting, each saying what to try.
    """
    checkpoint = Checkpoint.open(folder)
    checkpoint.check()
    kind = choice.choose(engine, dtype, threads, checkpoint.spec, checkpoint.read)
    used = settings or Settings()
    identity = checkpoint.identity()
    held = Held(
        id=identity,
        spec=checkpoint.spec,
        profile=kind.profile(identity),
        load=lambda span: kind.load(span, used.kv_bytes),
        bytes_per_weight=kind.bytes_per_number,
        bytes_per_kv=kind.bytes_per_number,
    )
    tokenizer = Tokenizer.open(folder) if (Path(folder) / "tokenizer.json").exists() else None
    loop = _Loop()
    make = partial(LocalSwarm, held, peers, choice.this_device(), used, kind.on_start)
    return Model(loop, loop.start(make), tokenizer, frozenset(checkpoint.end_tokens))


class Model:
    """A loaded model. Use as a context manager, or `close` it; it also ends with the program."""

    def __init__(
        self,
        loop: _Loop,
        swarm: LocalSwarm,
        tokenizer: Tokenizer | None,
        end_tokens: frozenset[int],
    ) -> None:
        self._loop, self._swarm = loop, swarm
        self._tokenizer, self._end_tokens = tokenizer, end_tokens

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all peers and free their memory."""
        self._loop.close()

    def generate(self, prompt: Prompt, max_tokens: int = 128, **sampling: Any) -> str:
        """The whole answer as text; see `stream`."""
        return "".join(self.stream(prompt, max_tokens, **sampling))

    async def agenerate(self, prompt: Prompt, max_tokens: int = 128, **sampling: Any) -> str:
        """`generate` for programs with an event loop."""
        return "".join([piece async for piece in self.stream(prompt, max_tokens, **sampling)])

    def stream(
        self,
        prompt: Prompt,
        max_tokens: int = 128,
        *,
        stop: Sequence[str] = (),
        logprobs: int = 0,
        **sampling: Any,
    ) -> Stream[str]:
        """The answer piece by piece: iterate with `for` or `async for`.

        `sampling` are the fields of Sampling (seed, temperature, top_k, top_p, min_p, penalties,
        logit_bias); without any it is greedy. Raises BadSampling or UserError at once, and
        ContextOverflow, NoStandIn, DeadlinePassed and the like while it is read.
        """
        answer = self._answer(prompt, max_tokens, stop, logprobs, sampling, self._text().stream())
        return Stream(self._loop, answer, answer.pieces())

    def generate_ids(self, prompt: Prompt, max_tokens: int = 128, **sampling: Any) -> list[int]:
        """The whole answer as token ids; needs no tokenizer when the prompt is token ids."""
        return list(self.stream_ids(prompt, max_tokens, **sampling))

    def stream_ids(
        self, prompt: Prompt, max_tokens: int = 128, *, logprobs: int = 0, **sampling: Any
    ) -> Stream[int]:
        """The answer token by token, as ids; otherwise as `stream`."""
        answer = self._answer(prompt, max_tokens, (), logprobs, sampling, None)
        return Stream(self._loop, answer, _ids_of(answer))

    def forward(self, prompt: Prompt, *, logits: bool = False) -> NDArray[np.float32]:
        """What the head sees of each token, normed: [T tokens, D width]; or its scores [T, V]."""
        return self._loop.ask(self._forward(self._ids(prompt), logits=logits)).result()

    async def aforward(self, prompt: Prompt, *, logits: bool = False) -> NDArray[np.float32]:
        """`forward` for programs with an event loop."""
        work = self._forward(self._ids(prompt), logits=logits)
        return await asyncio.wrap_future(self._loop.ask(work))

    @property
    def peers(self) -> tuple[str, ...]:
        """Each peer and the layers it holds, in words."""
        lines = []
        for number, node in enumerate(self._swarm.nodes):
            spans = [str(held.span) for held in node.holdings.holdings() if held.state == "ready"]
            lines.append(f"{number}: layers {' '.join(spans)}")
        return tuple(lines)

    def kill(self, peer: int) -> None:
        """End a peer at once, to see that the answer goes on. Not peer 0: that is you."""

        async def kill() -> None:
            self._swarm.kill(peer)

        self._loop.ask(kill()).result()

    def _answer(
        self,
        prompt: Prompt,
        max_tokens: int,
        stop: Sequence[str],
        logprobs: int,
        sampling: Mapping[str, Any],
        text: TextStream | None,
    ) -> Answer:
        request = Request(
            prompt=self._ids(prompt),
            max_tokens=max_tokens,
            sampling=_sampling(sampling),
            stop=tuple(stop),
            end_tokens=self._end_tokens,
            want=Want(logprob=logprobs > 0, top_n=logprobs),
        )
        return Answer(self._swarm.owner.owner, self._swarm.model, request, text)

    def _text(self) -> Tokenizer:
        if self._tokenizer is None:
            raise UserError(
                "the model folder has no tokenizer.json; add it, or use generate_ids with token ids"
            )
        return self._tokenizer

    def _ids(self, prompt: Prompt) -> tuple[int, ...]:
        if isinstance(prompt, str):
            return tuple(self._text().encode(prompt))
        items = list(prompt)
        if all(isinstance(item, (int, np.integer)) for item in items):
            ids = tuple(int(item) for item in items if isinstance(item, (int, np.integer)))
            size = self._swarm.model.spec.vocabulary
            wrong = [token for token in ids if not 0 <= token < size]
            if wrong:
                raise UserError(f"token id {wrong[0]} is outside the vocabulary of {size}")
            return ids
        if all(isinstance(item, Mapping) for item in items):
            return tuple(self._text().render(items))  # type: ignore[arg-type]
        raise UserError("a prompt is a text, a list of token ids, or a list of chat messages")

    async def _forward(self, ids: tuple[int, ...], *, logits: bool) -> NDArray[np.float32]:
        if not ids:
            raise UserError("the prompt is empty; give at least one token")
        owner = self._swarm.owner.owner
        session = await owner.open(self._swarm.model, Sampling(), len(ids), len(ids))
        try:
            want = Want(rows="all", token=False, logits=logits, hidden=not logits)
            results = await session.run(ids, want)
        finally:
            owner.close(session)
        return np.concatenate([_rows(result) for result in results])


class Stream(Generic[P]):
    """An answer as it comes, in pieces of text or token ids. `answer` tells more of it."""

    def __init__(self, loop: _Loop, answer: Answer, pieces: AsyncGenerator[P, None]) -> None:
        self.answer = answer
        self._loop = loop
        self._pieces: AsyncGenerator[P, None] = pieces
        self._pulling: Future[P | None] | None = None
        self._one_at_a_time = asyncio.Lock()

    def __iter__(self) -> Iterator[P]:
        try:
            while (piece := self._pull().result()) is not None:
                yield piece
        finally:
            self.close()

    async def __aiter__(self) -> AsyncIterator[P]:
        try:
            while (piece := await asyncio.wrap_future(self._pull())) is not None:
                yield piece
        finally:
            self.close()

    def close(self) -> None:
        """Stop here: the session is closed, nothing more is computed."""
        if self._pulling is not None:
            self._pulling.cancel()  # of no effect on one that is done
        if self._loop.is_open:
            self._loop.ask(self._end())

    def _pull(self) -> Future[P | None]:
        self._pulling = self._loop.ask(self._next())
        return self._pulling

    async def _next(self) -> P | None:
        async with self._one_at_a_time:
            return await anext(self._pieces, None)

    async def _end(self) -> None:
        async with self._one_at_a_time:  # a pull that was cancelled must be over first
            await self._pieces.aclose()


async def _ids_of(answer: Answer) -> AsyncGenerator[int, None]:
    """Token ids instead of text."""
    told = 0
    pieces = answer.pieces()
    try:
        async for _ in pieces:
            for token in answer.tokens[told:]:
                yield token.id
            told = len(answer.tokens)
    finally:
        await pieces.aclose()


def _sampling(values: Mapping[str, Any]) -> Sampling:
    names = Sampling.__dataclass_fields__
    unknown = [name for name in values if name not in names]
    if unknown:
        raise UserError(f"there is no {unknown[0]!r} to sample with; there are {', '.join(names)}")
    return Sampling(**values)


def _rows(result: Result) -> NDArray[np.float32]:
    if result.tensor is None:
        raise ManyhandsError("the last stage sent no tensor; its version may be older")
    return codec.decode(result.tensor)


class _Loop:
    """An event loop in a daemon thread, with one swarm on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="manyhands", daemon=True)
        self._swarm: LocalSwarm | None = None
        self._serving: Future[None] | None = None
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """False after `close`."""
        return self._thread.is_alive() and not self._loop.is_closed()

    def ask(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine there. Raises UserError after `close`."""
        if not self.is_open:
            work.close()
            raise UserError("the model is closed; load it again")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def start(self, make: partial[LocalSwarm]) -> LocalSwarm:
        """Make a swarm and return it once it serves; on an error everything is ended first."""
        ready: Future[LocalSwarm] = Future()
        self._serving = self.ask(self._serve(make, ready))
        try:
            return ready.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the swarm, the loop and the thread; a second time does nothing."""
        if self._loop.is_closed():
            return
        if self._swarm is not None:
            self._loop.call_soon_threadsafe(self._swarm.stop)
        if self._serving is not None:
            self._serving.exception()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())

    async def _serve(self, make: partial[LocalSwarm], ready: Future[LocalSwarm]) -> None:
        try:
            self._swarm = swarm = make()
            started = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(swarm.serve(started))
                waiting = tasks.create_task(started.wait())
                await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
                if not serving.done():
                    ready.set_result(swarm)
        except BaseExceptionGroup as errors:
            if not ready.done():
                ready.set_exception(_first(errors))
        except ManyhandsError as error:
            ready.set_exception(error)


def _first(error: BaseException) -> BaseException:
    """The first error inside nested groups: what the user should read."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
