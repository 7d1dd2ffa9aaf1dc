"""`hands chat`: talk in the terminal to a model that runs, here or at a URL."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from manyhands.cli.approve import answered
from manyhands.cli.console import AskedToEnd, Console
from manyhands.cli.http import Api
from manyhands.errors import ManyhandsError, UserError

HELP = """/new begins a new conversation · /quit (or Ctrl-D) leaves · Ctrl-C stops an answer
/set temperature 0.7 · /set max_tokens 500 · /set seed 1 · /system You are brief.
/approve CODE lets a device in that waits · /deny CODE refuses it"""


@dataclass(slots=True)
class Chat:
    """One conversation over HTTP. `is_chat` False: the model has no chat template, only text."""

    api: Api
    model: str
    is_chat: bool = True
    messages: list[dict[str, str]] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=lambda: {"max_tokens": 512})
    tokens: int | None = None
    """Of the last answer, once it is whole."""

    def say(self, text: str) -> Iterator[str]:
        """The answer's pieces; what was said is kept for the next turn.

        A question that failed, or was stopped, before anything was said is taken back.
        """
        before = list(self.messages)
        self.messages.append({"role": "user", "content": text})
        self.tokens = None
        answer = ""
        try:
            for piece in self._pieces(text):
                answer += piece
                yield piece
        except BaseException:
            if not answer:
                self.messages[:] = before
                raise
            self.messages.append({"role": "assistant", "content": answer})
            raise
        self.messages.append({"role": "assistant", "content": answer})

    def _pieces(self, text: str) -> Iterator[str]:
        body: dict[str, Any] = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.values,
        }
        if self.is_chat:
            events = self.api.stream("/v1/chat/completions", {**body, "messages": self.messages})
        else:
            events = self.api.stream("/v1/completions", {**body, "prompt": text})
        for event in events:
            try:
                piece = "".join(_texts(event))
                counted = (event.get("usage") or {}).get("completion_tokens")
            except (AttributeError, TypeError):
                raise self.api.no_swarm() from None
            if isinstance(counted, int):
                self.tokens = counted
            if piece:
                yield piece

    def command(self, line: str) -> str:
        """Do what a line beginning with / says; what to print. Raises UserError, EOFError."""
        words = line.split(maxsplit=2)
        match words:
            case ["/quit" | "/exit" | "/bye"]:
                raise EOFError
            case ["/new"]:
                self.messages.clear()
                return "a new conversation"
            case ["/set", str(name), str(value)]:
                return self._set(name, value)
            case ["/approve" | "/deny" as said, *codes] if len(codes) < 2:
                is_welcome, code = said == "/approve", codes[0] if codes else None
                name, code = answered(self.api, code, is_welcome=is_welcome)
                return f"{name} ({code}) is {'let in' if is_welcome else 'refused'}"
            case ["/system", *_] if len(words) > 1:
                self.messages[:] = [{"role": "system", "content": line.split(maxsplit=1)[1]}]
                return "a new conversation with that instruction"
            case _:
                return HELP

    def _set(self, name: str, value: str) -> str:
        if name not in ("temperature", "max_tokens", "seed", "top_p"):
            raise UserError(
                f"{name!r} cannot be set; there are temperature, max_tokens, seed, top_p"
            )
        try:
            number = float(value) if name in ("temperature", "top_p") else int(value)
        except ValueError:
            number = math.nan
        if isinstance(number, float) and not math.isfinite(number):
            raise UserError(f"{value!r} is no number for {name}")
        self.values[name] = number
        return f"{name} is {value}"


def open_chat(api: Api, model: str | None) -> Chat:
    """Raises UserError for a model that is not served there, and what Api raises."""
    try:
        served = {str(entry["name"]): bool(entry["chats"]) for entry in api.get("/swarm")["models"]}
    except (LookupError, TypeError):
        raise api.no_swarm() from None
    if model is not None and model not in served:
        raise UserError(f"{model!r} is not served there; there is {', '.join(served)}")
    chosen = next(iter(served), None) if model is None else model
    if chosen is None:
        raise api.no_swarm()
    return Chat(api, chosen, is_chat=served[chosen])


def talk(chat: Chat, console: Console) -> None:
    """Read lines and answer them until /quit or the end of input."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (lines can then be edited and called back)
    if console.is_terminal:
        console.say(f"talking to {chat.model}\n{HELP}", "dim")
    while True:
        try:
            line = _read_line(console)
        except (EOFError, KeyboardInterrupt):
            console.say()
            return
        if not line.strip():
            continue
        try:
            if line.startswith("/"):
                console.say(chat.command(line), "dim")
            else:
                _answer(chat, line, console)
        except EOFError:
            return
        except ManyhandsError as error:
            console.say(f"hands: {error}", "red")


def _texts(event: dict[str, Any]) -> Iterator[str]:
    for choice in event.get("choices", ()):
        text = choice.get("text") or (choice.get("delta") or {}).get("content")
        if text:
            yield text


def _read_line(console: Console) -> str:
    if console.is_terminal and sys.stdin is not None and sys.stdin.isatty():
        return input(">>> ")
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _answer(chat: Chat, line: str, console: Console) -> None:
    started_s, pieces = time.perf_counter(), 0
    answer = chat.say(line)
    try:
        for piece in answer:
            pieces += 1
            console.write(piece)
            console.event("piece", text=piece)
    except AskedToEnd:
        raise
    except KeyboardInterrupt:
        console.say(" (stopped)", "dim")
    finally:
        answer.close()  # type: ignore[attr-defined]
    took_s = time.perf_counter() - started_s
    console.say()
    if console.is_terminal and pieces:
        count, what = (pieces, "pieces") if chat.tokens is None else (chat.tokens, "tokens")
        console.say(f"{count} {what}, {count / took_s:.1f} a second", "dim")
    console.event("answered", pieces=pieces, tokens=chat.tokens, took_s=took_s)
