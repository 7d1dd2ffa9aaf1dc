"""`hands chat`: talk in the terminal to a model that runs, here or at a URL."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from manyhands.cli.console import Console
from manyhands.cli.http import Api
from manyhands.errors import ManyhandsError, UserError

HELP = """/new begins a new conversation · /quit (or Ctrl-D) leaves · Ctrl-C stops an answer
/set temperature 0.7 · /set max_tokens 500 · /set seed 1 · /system You are brief."""


@dataclass(slots=True)
class Chat:
    """One conversation over HTTP. `is_chat` False: the model has no chat template, only text."""

    api: Api
    model: str
    is_chat: bool = True
    messages: list[dict[str, str]] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=lambda: {"max_tokens": 512})

    def say(self, text: str) -> Iterator[str]:
        """The answer's pieces; what was said is kept for the next turn."""
        self.messages.append({"role": "user", "content": text})
        answer = ""
        try:
            for piece in self._pieces(text):
                answer += piece
                yield piece
        finally:
            self.messages.append({"role": "assistant", "content": answer})

    def _pieces(self, text: str) -> Iterator[str]:
        body: dict[str, Any] = {"model": self.model, "stream": True, **self.values}
        if self.is_chat:
            events = self.api.stream("/v1/chat/completions", {**body, "messages": self.messages})
        else:
            events = self.api.stream("/v1/completions", {**body, "prompt": text})
        for event in events:
            for choice in event.get("choices", ()):
                piece = choice.get("text") or (choice.get("delta") or {}).get("content")
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
            case ["/system", *_]:
                self.messages[:] = [{"role": "system", "content": line.removeprefix("/system ")}]
                return "a new conversation with that instruction"
            case _:
                return HELP

    def _set(self, name: str, value: str) -> str:
        if name not in ("temperature", "max_tokens", "seed", "top_p"):
            raise UserError(
                f"{name!r} cannot be set; there are temperature, max_tokens, seed, top_p"
            )
        try:
            self.values[name] = float(value) if name in ("temperature", "top_p") else int(value)
        except ValueError:
            raise UserError(f"{value!r} is no number for {name}") from None
        return f"{name} is {value}"


def open_chat(api: Api, model: str | None) -> Chat:
    """Raises UserError for a model that is not served there, and what Api raises."""
    served = api.get("/swarm")["models"]
    names = [entry["name"] for entry in served]
    if model is not None and model not in names:
        raise UserError(f"{model!r} is not served there; there is {', '.join(names)}")
    chosen = served[names.index(model)] if model is not None else served[0]
    return Chat(api, chosen["name"], is_chat=chosen["chats"])


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


def _read_line(console: Console) -> str:
    if console.is_terminal and sys.stdin.isatty():
        return input(">>> ")
    line = sys.stdin.readline()
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
    except KeyboardInterrupt:
        console.say(" (stopped)", "dim")
    finally:
        answer.close()  # type: ignore[attr-defined]
    took_s = time.perf_counter() - started_s
    console.say()
    if console.is_terminal and pieces:
        console.say(f"{pieces} tokens, {pieces / took_s:.1f} a second", "dim")
    console.event("answered", pieces=pieces, took_s=took_s)
