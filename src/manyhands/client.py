"""A few lines of Python: load a folder, generate, stream, look inside.

One implementation, async inside. It runs on an event loop in a thread of its own, so it works in
scripts, in Jupyter and in programs that have a loop already.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from manyhands.background import Background
from manyhands.domain.settings import Settings
from manyhands.engine import choice
from manyhands.errors import ManyhandsError
from manyhands.node.answer import Answer
from manyhands.node.local import LocalSwarm
from manyhands.node.opened import Opened, open_model
from manyhands.node.speaker import Embeddable, Prompt, Speaker
from manyhands.store.builtin import folder_of

P = TypeVar("P", str, int)


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

    A model without family file is run by transformers, where that is installed. `engine` auto is
    torch where it is installed, else numpy. `dtype` is fp32, bf16, fp16 or auto
    (torch only; numpy computes in fp32). `threads` are those of each peer. Raises CheckpointError,
    UnknownFamily, NotServed, ResourceError or BadSetting, each saying what to try.
    """
    used = settings or Settings()
    opened = open_model(folder_of(folder), used, engine=engine, dtype=dtype, threads=threads)
    loop = Background()
    make = partial(LocalSwarm, opened.model, peers, choice.this_device(), used, opened.on_start)
    return Model(loop, loop.start(make), opened)


class Model:
    """A loaded model. Use it as a context manager or `close` it; it also ends when forgotten."""

    def __init__(
        self,
        loop: Background,
        swarm: LocalSwarm,
        opened: Opened,
    ) -> None:
        self._loop, self._swarm = loop, swarm
        self._speaker = Speaker(opened, lambda: swarm.owner.owner)
        # also when it is only forgotten, as in a notebook cell that is run again, and at exit
        weakref.finalize(self, loop.close)

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
        stop: str | Sequence[str] | None = None,
        logprobs: int = 0,
        **sampling: Any,
    ) -> Stream[str]:
        """The answer piece by piece: iterate with `for` or `async for`.

        `sampling` are the fields of Sampling (seed, temperature, top_k, top_p, min_p, penalties,
        logit_bias); without any it is greedy. Raises BadSampling or UserError at once, and
        ContextOverflow, NoStandIn, DeadlinePassed and the like while it is read.
        """
        self._loop.check_open()
        answer = self._speaker.answer(
            prompt, max_tokens, stop=stop, logprobs=logprobs, sampling=sampling
        )
        return Stream(self, self._loop, answer, _texts_of(answer))

    def generate_ids(self, prompt: Prompt, max_tokens: int = 128, **sampling: Any) -> list[int]:
        """The whole answer as token ids; needs no tokenizer when the prompt is token ids."""
        return list(self.stream_ids(prompt, max_tokens, **sampling))

    def stream_ids(
        self, prompt: Prompt, max_tokens: int = 128, *, logprobs: int = 0, **sampling: Any
    ) -> Stream[int]:
        """The answer token by token, as ids; otherwise as `stream`."""
        self._loop.check_open()
        answer = self._speaker.answer(
            prompt, max_tokens, logprobs=logprobs, sampling=sampling, as_text=False
        )
        return Stream(self, self._loop, answer, _ids_of(answer))

    def forward(self, prompt: Prompt, *, logits: bool = False) -> NDArray[np.float32]:
        """What the head sees of each token, normed: [T tokens, D width]; or its scores [T, V]."""
        work = self._speaker.forward(self._speaker.ids(prompt), logits=logits)
        return self._loop.ask(work).result()

    async def aforward(self, prompt: Prompt, *, logits: bool = False) -> NDArray[np.float32]:
        """`forward` for programs with an event loop."""
        work = self._speaker.forward(self._speaker.ids(prompt), logits=logits)
        return await asyncio.wrap_future(self._loop.ask(work))

    def embed(self, inputs: Sequence[Embeddable]) -> NDArray[np.float32]:
        """A vector [outputs] for each text, list of token ids or image: [N, outputs].

        An image is an array [channels, height, width] as the model's own processor makes it. Raises
        NotServed for a model that makes no vectors, UserError, ContextOverflow.
        """
        return self._loop.ask(self._speaker.embed(inputs)).result().vectors

    async def aembed(self, inputs: Sequence[Embeddable]) -> NDArray[np.float32]:
        """`embed` for programs with an event loop."""
        made = await asyncio.wrap_future(self._loop.ask(self._speaker.embed(inputs)))
        return made.vectors

    def classify(self, inputs: Sequence[Embeddable]) -> NDArray[np.float32]:
        """The scores of all classes for each text, list of token ids or image: [N, classes].

        The highest is the likeliest; a softmax makes probabilities of them. Inputs and errors as
        with `embed`; NotServed for a model that has no classes.
        """
        return self._loop.ask(self._speaker.classify(inputs)).result().vectors

    async def aclassify(self, inputs: Sequence[Embeddable]) -> NDArray[np.float32]:
        """`classify` for programs with an event loop."""
        made = await asyncio.wrap_future(self._loop.ask(self._speaker.classify(inputs)))
        return made.vectors

    @property
    def peers(self) -> tuple[str, ...]:
        """Each living peer and the layers it holds; layer 0 embeds, the last is the head."""
        self._loop.check_open()
        lines = []
        for number, node in self._swarm.alive().items():
            spans = [str(held.span) for held in node.holdings.holdings() if held.state == "ready"]
            lines.append(f"{number}: layers {' '.join(spans)}")
        return tuple(lines)

    def kill(self, peer: int) -> None:
        """End a peer at once, to see that the answer goes on. Not peer 0: that is you."""

        async def kill() -> None:
            self._swarm.kill(peer)

        self._loop.ask(kill()).result()


class Stream(Generic[P]):
    """An answer as it comes, in pieces of text or token ids. `answer` tells more of it.

    Several readers share its pieces: each piece goes to one of them. It keeps its model until it
    is read or closed, which may be done from any thread and ends every reader's iteration.
    """

    def __init__(
        self, model: Model, loop: Background, answer: Answer, pieces: AsyncGenerator[P, None]
    ) -> None:
        self.answer = answer
        self._model: Model | None = model  # which ends once nobody keeps it
        self._loop = loop
        self._pieces: AsyncGenerator[P, None] = pieces
        self._is_closed = False
        self._pulls: set[asyncio.Task[Any]] = set()  # touched on the loop only
        self._one_at_a_time = asyncio.Lock()

    def __iter__(self) -> Iterator[P]:
        try:
            while (piece := self._pull()) is not None:
                yield piece
        finally:
            self.close()

    async def __aiter__(self) -> AsyncIterator[P]:
        try:
            while (piece := await self._apull()) is not None:
                yield piece
        finally:
            self.close()

    def close(self) -> None:
        """Stop here: the session is closed, nothing more is computed, readers come to their end."""
        self._is_closed = True
        with contextlib.suppress(ManyhandsError):  # the loop has ended: nothing is left to stop
            self._loop.ask(self._end())
        self._model = None

    def _pull(self) -> P | None:
        if self._is_closed:
            return None
        try:
            return self._loop.ask(self._next()).result()
        except (CancelledError, ManyhandsError):
            if self._is_closed:  # by another thread, meanwhile
                return None
            raise

    async def _apull(self) -> P | None:
        if self._is_closed:
            return None
        try:
            return await asyncio.wrap_future(self._loop.ask(self._next()))
        except asyncio.CancelledError:
            reader = asyncio.current_task()
            if self._is_closed and reader is not None and not reader.cancelling():
                return None
            raise
        except ManyhandsError:
            if self._is_closed:
                return None
            raise

    async def _next(self) -> P | None:
        """The next piece; None at the end, and once closed."""
        task = asyncio.current_task()
        if self._is_closed or task is None:
            return None
        self._pulls.add(task)
        try:
            async with self._one_at_a_time:
                return await anext(self._pieces, None)
        except asyncio.CancelledError:
            if self._is_closed:
                return None
            raise
        finally:
            self._pulls.discard(task)

    async def _end(self) -> None:
        for pull in self._pulls:
            pull.cancel()
        async with self._one_at_a_time:  # a pull that was cancelled must be over first
            await self._pieces.aclose()


async def _texts_of(answer: Answer) -> AsyncGenerator[str, None]:
    """The pieces that are not empty."""
    pieces = answer.pieces()
    try:
        async for piece in pieces:
            if piece:
                yield piece
    finally:
        await pieces.aclose()


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
