"""From a body to answers that wait to be spoken: prompts encoded, sampling checked.

Knows nothing of how answers are sent.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manyhands.api import parameters
from manyhands.api.bodies import AskBody, ChatBody, CompletionBody
from manyhands.api.chat_messages import plain_messages
from manyhands.api.desk import Desk
from manyhands.api.forms import ChatForm, CompletionForm, Form, Heading
from manyhands.api.refusals import RequestRefused
from manyhands.api.token_log import TokenLog
from manyhands.node.answer import Answer
from manyhands.node.speaker import Speaker

COMPLETION_TOKENS = 16
"""What OpenAI's completions say when no max_tokens is given."""

CHAT_TOKENS = 1024
"""The same of chats: memory for all of an answer is set aside when it begins, so a whole context by
default would let one chat keep all others waiting."""

DEFAULT_TEMPERATURE = 1.0

MOST_ANSWERS = 128

MOST_NAME, MOST_NAMES = 100, 32
"""Of kernel sets: characters, and how many are told."""

PLAIN = ("top_p", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty")
"""Fields that mean here what they mean there."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of several. `echo` is said before it; `log` is None without log-probabilities."""

    index: int
    answer: Answer
    log: TokenLog | None
    echo: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, understood."""

    form: Form
    heading: Heading
    choices: tuple[Choice, ...]
    prompt_tokens: int
    is_stream: bool
    has_usage: bool
    ignored: str

    def completion_tokens(self) -> int:
        """Tokens spoken so far."""
        return sum(len(choice.answer.tokens) for choice in self.choices)

    def recovered_s(self) -> list[float]:
        """Seconds each recovery from a loss took, so far."""
        return [
            round(seconds, 6) for choice in self.choices for seconds in choice.answer.recovered_s
        ]

    def kernels(self) -> list[str]:
        """Kernel sets that computed the answers so far, each once, fit for a header."""
        return shown([name for choice in self.choices for name in choice.answer.kernels])

    def kernels_of(self, index: int) -> list[str]:
        """Those of one answer."""
        return shown(self.choices[index].answer.kernels)


async def chat_asked(body: ChatBody, desk: Desk) -> Asked:
    """A chat. Raises RequestRefused, UserError."""
    ignored = parameters.ignored(body.model_extra)
    speaker = desk.speaker(body.model)
    speaker.check_speaks()
    messages = plain_messages(body.messages)
    if desk.abilities(speaker).speaks and not desk.abilities(speaker).chats:
        raise RequestRefused(
            400,
            f"the model {speaker.name} has no chat template; "
            "give it plain text through /v1/completions",
            "messages",
            "no_chat_template",
        )
    ids = await desk.chat_ids(speaker, messages, "messages")
    logprobs = max(body.top_logprobs or 0, 1) if body.logprobs else 0
    left = max(speaker.context - len(ids), 1)
    most = body.max_completion_tokens or body.max_tokens or min(left, CHAT_TOKENS)
    sampling = _sampling(body, speaker, desk)
    ask = _Ask(body, desk, speaker, most, sampling, logprobs, body.top_logprobs or 0)
    choices = await ask.choices(0, ids, "messages")
    return ask.asked(ChatForm(), choices, len(ids), ignored)


async def completion_asked(body: CompletionBody, desk: Desk) -> Asked:
    """Completions of one prompt or several. Raises RequestRefused, UserError."""
    ignored = parameters.ignored(body.model_extra)
    speaker = desk.speaker(body.model)
    speaker.check_speaks()
    samples, prompts = body.n or 1, several(body.prompt)
    if body.best_of not in (None, samples):
        parameters.refuse("best_of", "leave it out, or make it the same as n")
    if body.echo and body.logprobs is not None:
        parameters.refuse("echo", "with logprobs it asks for those of the prompt; leave one out")
    if len(prompts) * samples > MOST_ANSWERS:
        raise RequestRefused(
            400,
            f"{len(prompts)} prompts with {samples} answers each; {MOST_ANSWERS} answers are "
            "most, so send fewer at a time",
            "prompt",
        )
    logprobs = 0 if body.logprobs is None else max(body.logprobs, 1)
    most = body.max_tokens or COMPLETION_TOKENS
    sampling = _sampling(body, speaker, desk)
    ask = _Ask(body, desk, speaker, most, sampling, logprobs, body.logprobs or 0)
    choices: list[Choice] = []
    prompt_tokens = 0
    for prompt in prompts:
        if isinstance(prompt, str):
            echo, ids = prompt, await desk.text_ids(speaker, prompt, "prompt")
        else:
            _check_length(len(prompt), speaker, "prompt")
            ids = speaker.ids(prompt)
            echo = await desk.text(speaker, ids) if body.echo else ""
        prompt_tokens += len(ids)
        choices += await ask.choices(len(choices), ids, "prompt", echo if body.echo else "")
    return ask.asked(CompletionForm(), choices, prompt_tokens, ignored)


@dataclass(frozen=True, slots=True)
class _Ask:
    """What all choices of a request share."""

    body: AskBody
    desk: Desk
    speaker: Speaker
    max_tokens: int
    sampling: Mapping[str, Any]
    logprobs: int
    shown_top: int

    async def choices(
        self, first: int, ids: Sequence[int], param: str, echo: str = ""
    ) -> list[Choice]:
        """All answers to one prompt, made beside the event loop: a long one takes its time."""
        _check_length(len(ids), self.speaker, param)

        def make() -> list[Choice]:
            samples = range(self.body.n or 1)
            return [self._choice(first + sample, sample, ids, echo) for sample in samples]

        return await asyncio.to_thread(make)

    def _choice(self, index: int, sample: int, ids: Sequence[int], echo: str) -> Choice:
        answer = self.speaker.answer(
            ids,
            self.max_tokens,
            stop=self.body.stop,
            logprobs=self.logprobs,
            sampling={**self.sampling, "sample_index": sample},
        )
        log = None
        if self.logprobs:
            texts = self.desk.texts(self.speaker)
            log = TokenLog(self.speaker.tokenizer, texts, self.shown_top, len(echo))
        return Choice(index, answer, log, echo)

    def asked(
        self, form: Form, choices: Sequence[Choice], prompt_tokens: int, ignored: str
    ) -> Asked:
        model = self.speaker.model
        heading = Heading(
            id=self.desk.named(form.prefix),
            created=int(self.desk.serving.wall_clock()),
            model=self.speaker.name,
            fingerprint=f"{model.id[:12]}-{model.profile.kernels}",
        )
        options = self.body.stream_options
        return Asked(
            form=form,
            heading=heading,
            choices=tuple(choices),
            prompt_tokens=prompt_tokens,
            is_stream=bool(self.body.stream),
            has_usage=options is not None and bool(options.include_usage),
            ignored=ignored,
        )


def shown(kernels: Iterable[str]) -> list[str]:
    """Names that peers gave themselves: visible ASCII, nothing that ends a list or a header."""
    names = (re.sub(r"[^!-+\-.-~]", "?", name)[:MOST_NAME] for name in kernels)
    return list(dict.fromkeys(name for name in names if name))[:MOST_NAMES]


def _check_length(tokens: int, speaker: Speaker, param: str) -> None:
    """Raise RequestRefused for a prompt that leaves no room for an answer."""
    if tokens >= speaker.context:
        raise RequestRefused(
            400,
            f"the prompt has {tokens} tokens and the context {speaker.context}, answer included; "
            "shorten the prompt",
            param,
            "context_length_exceeded",
        )


def _sampling(body: AskBody, speaker: Speaker, desk: Desk) -> dict[str, Any]:
    """The request's sampling in our words. Raises RequestRefused for a bias that fits no token."""
    values = {name: value for name in PLAIN if (value := getattr(body, name)) is not None}
    values["temperature"] = DEFAULT_TEMPERATURE if body.temperature is None else body.temperature
    if body.top_k is not None:
        values["top_k"] = 0 if body.top_k == -1 else body.top_k
    if body.seed is None:
        values["seed"] = desk.serving.chance.getrandbits(64)
    else:
        values["seed"] = body.seed % 2**64  # OpenAI's seeds have a sign
    size = speaker.model.spec.vocabulary
    biases: dict[int, float] = {}
    for token, bias in (body.logit_bias or {}).items():
        if not (token.isascii() and token.isdigit() and len(token) < 12 and int(token) < size):
            raise RequestRefused(
                400,
                f"logit_bias names {token[:40]!r}; its keys are token ids from 0 to {size - 1}",
                "logit_bias",
                "invalid_value",
            )
        biases[int(token)] = bias
    return {**values, "logit_bias": biases}


def several(prompt: str | list[int] | list[str] | list[list[int]]) -> list[str | list[int]]:
    """Prompts one by one, whichever of the forms they came in."""
    if isinstance(prompt, str):
        return [prompt]
    several: list[str | list[int]] = []
    ids: list[int] = []
    for one in prompt:
        if isinstance(one, int):
            ids.append(one)
        else:
            several.append(one)
    return several or [ids]
