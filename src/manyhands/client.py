"""A few lines of Python: load a folder, generate, stream, look inside.

One implementation, async inside. It runs on an event loop in a thread of its own, so it works in
scripts, in Jupyter and in programs that have a loop already.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from manyhands.background import Background
from manyhands.codec import codec
from manyhands.domain.settings import Settings
from manyhands.domain.work import Result, Sampling, Want
from manyhands.engine import choice
from manyhands.errors import BadSampling, ManyhandsError, UserError
from manyhands.node.answer import Answer, Request, TextStream
from manyhands.node.local import LocalSwarm
from manyhands.node.model import Model as Held
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.tokenizer import Tokenizer

P = TypeVar("P", str, int)
Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]
"""A text, token ids, or a chat: messages with `role` and `content`."""

PROMPT_FORMS = "a prompt is a text, a list of token ids, or a list of chat messages"
MOST_LOGPROBS = 1000
OTHER_NAMES = {
    "max_new_tokens": "max_tokens",
    "max_length": "max_tokens",
    "do_sample": "temperature",
    "n": "several calls with different seeds",
    "repeat_penalty": "repetition_penalty",
}
"""What other libraries call it, and what is meant here."""


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
    has_text = (checkpoint.folder / "tokenizer.json").exists()
    tokenizer = Tokenizer.open(checkpoint.folder) if has_text else None
    loop = Background()
    make = partial(LocalSwarm, held, peers, choice.this_device(), used, kind.on_start)
    return Model(loop, loop.start(make), tokenizer, frozenset(checkpoint.end_tokens))


class Model:
    """A loaded model. Use it as a context manager or `close` it; it also ends when forgotten."""

    def __init__(
        self,
        loop: Background,
        swarm: LocalSwarm,
        tokenizer: Tokenizer | None,
        end_tokens: frozenset[int],
    ) -> None:
        self._loop, self._swarm = loop, swarm
        # also when it is only forgotten, as in a notebook cell that is run again, and at exit
        weakref.finalize(self, loop.close)
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
        stop: str | Sequence[str] | None = None,
        logprobs: int = 0,
        **sampling: Any,
    ) -> Stream[str]:
        """The answer piece by piece: iterate with `for` or `async for`.

        `sampling` are the fields of Sampling (seed, temperature, top_k, top_p, min_p, penalties,
        logit_bias); without any it is greedy. Raises BadSampling or UserError at once, and
        ContextOverflow, NoStandIn, DeadlinePassed and the like while it is read.
        """
        answer = self._answer(prompt, max_tokens, stop, logprobs, sampling, self._text().stream())
        return Stream(self, self._loop, answer, _texts_of(answer))

    def generate_ids(self, prompt: Prompt, max_tokens: int = 128, **sampling: Any) -> list[int]:
        """The whole answer as token ids; needs no tokenizer when the prompt is token ids."""
        return list(self.stream_ids(prompt, max_tokens, **sampling))

    def stream_ids(
        self, prompt: Prompt, max_tokens: int = 128, *, logprobs: int = 0, **sampling: Any
    ) -> Stream[int]:
        """The answer token by token, as ids; otherwise as `stream`."""
        answer = self._answer(prompt, max_tokens, None, logprobs, sampling, None)
        return Stream(self, self._loop, answer, _ids_of(answer))

    def forward(self, prompt: Prompt, *, logits: bool = False) -> NDArray[np.float32]:
        """What the head sees of each token, normed: [T tokens, D width]; or its scores [T, V]."""
        return self._loop.ask(self._forward(self._ids(prompt), logits=logits)).result()

    async def aforward(self, prompt: Prompt, *, logits: bool = False) -> NDArray[np.float32]:
        """`forward` for programs with an event loop."""
        work = self._forward(self._ids(prompt), logits=logits)
        return await asyncio.wrap_future(self._loop.ask(work))

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

    def _answer(
        self,
        prompt: Prompt,
        max_tokens: int,
        stop: str | Sequence[str] | None,
        logprobs: int,
        sampling: Mapping[str, Any],
        text: TextStream | None,
    ) -> Answer:
        self._loop.check_open()
        vocabulary = self._swarm.model.spec.vocabulary
        if not _is_whole(logprobs) or not 0 <= logprobs <= min(vocabulary, MOST_LOGPROBS):
            most = min(vocabulary, MOST_LOGPROBS)
            raise UserError(f"logprobs is {logprobs!r}; it must be a whole number from 0 to {most}")
        if not _is_whole(max_tokens) or max_tokens < 1:
            raise UserError(f"max_tokens is {max_tokens!r}; it must be a whole number from 1 on")
        request = Request(
            prompt=self._ids(prompt),
            max_tokens=int(max_tokens),
            sampling=_sampling(sampling),
            stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
            end_tokens=self._end_tokens,
            want=Want(logprob=logprobs > 0, top_n=int(logprobs)),
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
        if isinstance(prompt, (bytes, bytearray)) or not isinstance(prompt, Iterable):
            raise UserError(f"{PROMPT_FORMS}, not {type(prompt).__name__}")
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
        raise UserError(f"{PROMPT_FORMS}")

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


def _sampling(values: Mapping[str, Any]) -> Sampling:
    names = Sampling.__dataclass_fields__
    for name in values:
        if name not in names:
            near = OTHER_NAMES.get(name) or ", ".join(difflib.get_close_matches(name, names))
            hint = f"; did you mean {near}?" if near else f"; there are {', '.join(names)}"
            raise BadSampling(f"there is no {name!r} to sample with{hint}")
    return Sampling(**values)


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _rows(result: Result) -> NDArray[np.float32]:
    if result.tensor is None:
        raise ManyhandsError("the last stage sent no tensor; its version may be older")
    return codec.decode(result.tensor)
