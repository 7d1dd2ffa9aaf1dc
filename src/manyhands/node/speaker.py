"""A model that can be asked: a prompt in any of its forms in, an answer or a vector out.

What Python, HTTP and the command line all speak through. Knows nothing of routes and losses.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyhands.codec import codec
from manyhands.domain.work import Result, Sampling, Want
from manyhands.errors import BadSampling, ManyhandsError, NotServed, UserError
from manyhands.node.answer import Answer, Request, TextStream
from manyhands.node.embed import (
    Embedded,
    Whole,
    check_classifies,
    check_embeds,
    embed,
    pooled,
    whole_image,
)
from manyhands.node.opened import Opened
from manyhands.node.owner import Owner
from manyhands.store.tokenizer import Tokenizer

Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]
"""A text, token ids, or a chat: messages with `role` and `content`."""

Embeddable = str | Sequence[int] | NDArray[np.float32]
"""A text, token ids, or the pixels of an image."""

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


class Speaker:
    """`owner` is asked anew each time: it raises UserError once the swarm is closed.

    `now` is the date that some chat templates write into a prompt.
    """

    def __init__(
        self,
        opened: Opened,
        owner: Callable[[], Owner],
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.name, self.model, self.end_tokens = opened.name, opened.model, opened.end_tokens
        self._tokenizer, self._owner, self._now = opened.tokenizer, owner, now
        self._is_normalised = opened.is_normalised
        self._beginning = opened.beginning
        self._unspoken = dict.fromkeys(opened.unspoken, -math.inf)

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises UserError for a model without one."""
        if self._tokenizer is None:
            raise UserError(
                "the model folder has no tokenizer.json; add it, or give and take token ids"
            )
        return self._tokenizer

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._owner().context(self.model)

    def ids(self, prompt: Prompt) -> tuple[int, ...]:
        """The prompt's token ids. Raises UserError: no prompt, no tokenizer, no chat template."""
        if isinstance(prompt, str):
            return tuple(self.tokenizer.encode(prompt))
        if isinstance(prompt, (bytes, bytearray)) or not isinstance(prompt, Iterable):
            raise UserError(f"{PROMPT_FORMS}, not {type(prompt).__name__}")
        items = list(prompt)
        if all(isinstance(item, (int, np.integer)) for item in items):
            ids = tuple(int(item) for item in items if isinstance(item, (int, np.integer)))
            size = self.model.spec.vocabulary
            wrong = [token for token in ids if not 0 <= token < size]
            if wrong:
                raise UserError(f"token id {wrong[0]} is outside the vocabulary of {size}")
            return ids
        if all(isinstance(item, Mapping) for item in items):
            messages: Any = items
            return tuple(self.tokenizer.encode(self.chat_text(messages), add_special=False))
        raise UserError(f"{PROMPT_FORMS}")

    def chat_text(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """A chat as the text whose tokens `ids` gives, by the template. Raises UserError."""
        return self.tokenizer.render_text(messages, now=self._now() if self._now else None)

    def answer(
        self,
        prompt: Prompt,
        max_tokens: int,
        *,
        stop: str | Sequence[str] | None = None,
        logprobs: int = 0,
        sampling: Mapping[str, Any] | None = None,
        as_text: bool = True,
    ) -> Answer:
        """An answer that is spoken when its `pieces` are read.

        `sampling` holds fields of Sampling; nothing is greedy. `logprobs` above 0 is how many
        alternatives come with each token, beside its own log-probability. Raises BadSampling,
        UserError and, for an encoder, NotServed; reading raises ContextOverflow, NoStandIn,
        DeadlinePassed and the like.
        """
        self.check_speaks()
        most = min(self.model.spec.vocabulary, MOST_LOGPROBS)
        if not _is_whole(logprobs) or not 0 <= logprobs <= most:
            raise UserError(f"logprobs is {logprobs!r}; it must be a whole number from 0 to {most}")
        if not _is_whole(max_tokens) or max_tokens < 1:
            raise UserError(f"max_tokens is {max_tokens!r}; it must be a whole number from 1 on")
        text: TextStream | None = self.tokenizer.stream() if as_text else None
        ids, drawn = self.ids(prompt), sampling_from(sampling or {})
        request = Request(
            prompt=ids,
            max_tokens=int(max_tokens),
            beginning=self._beginning,
            sampling=replace(drawn, logit_bias={**self._unspoken, **drawn.logit_bias}),
            stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
            end_tokens=self.end_tokens,
            want=Want(logprob=logprobs > 0, top_n=int(logprobs)),
        )
        return Answer(self._owner(), self.model, request, text)

    def check_speaks(self) -> None:
        """Raise NotServed for a model that goes on with no text."""
        if self.model.spec.answers != "lm":
            raise NotServed(
                f"{self.name} is an encoder and goes on with no text; ask it for embeddings, or "
                "use a language model"
            )

    async def embed(self, inputs: Sequence[Embeddable]) -> Embedded:
        """A vector of each text or image. Raises NotServed where the model makes none, UserError.

        An image is an array [channels, height, width] as the model's own processor makes it.
        """
        check_embeds(self.model.spec)
        wholes = self._wholes(inputs)
        return await embed(self._owner(), self.model, wholes, is_normalised=self._is_normalised)

    async def classify(self, inputs: Sequence[Embeddable]) -> Embedded:
        """The scores of all classes for each text or image, higher is likelier, as `embed`.

        Raises NotServed for a model that has no classes, UserError.
        """
        check_classifies(self.model.spec)
        return await pooled(self._owner(), self.model, self._wholes(inputs))

    def _wholes(self, inputs: Sequence[Embeddable]) -> list[Whole]:
        spec = self.model.spec
        if isinstance(inputs, str) or not isinstance(inputs, Sequence):
            raise UserError("give a list of texts, of lists of token ids, or of images")
        wholes = []
        for one in inputs:
            if isinstance(one, np.ndarray) and one.ndim == 3:
                wholes.append(whole_image(spec, one))
            elif spec.embed.patches is not None:
                raise UserError(f"{self.name} takes images: arrays [channels, height, width]")
            else:
                wholes.append(Whole(self.ids(one if isinstance(one, str) else list(one))))
        return wholes

    async def forward(self, ids: Sequence[int], *, logits: bool) -> NDArray[np.float32]:
        """What the head sees of each token [T tokens, D width], or its scores [T, V].

        Of an encoder-decoder the tokens are those that its answer begins with.
        """
        if not ids:
            raise UserError("the prompt is empty; give at least one token")
        owner, whole = self._owner(), (*ids, *self._beginning)
        session = await owner.open(self.model, Sampling(), len(ids), len(whole))
        try:
            want = Want(rows="all", token=False, logits=logits, hidden=not logits)
            results = await session.run(whole, want)
        finally:
            owner.close(session)
        return np.concatenate([_rows(result) for result in results])


def sampling_from(values: Mapping[str, Any]) -> Sampling:
    """Raises BadSampling for an unknown name (near ones are told) or a value outside its range."""
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
