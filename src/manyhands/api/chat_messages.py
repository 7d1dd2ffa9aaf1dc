"""Chat messages as a template takes them: plain texts with a role.

Refuses by name what no template here can show: images, sounds, calls of tools.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from manyhands.api.bodies import ChatMessage
from manyhands.api.parameters import OFF
from manyhands.api.refusals import RequestRefused

CALLS = ("tool_calls", "tool_call_id", "function_call", "audio", "refusal")


def plain_messages(messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
    """Role, content and, where given, name. `developer` is what templates know as `system`.

    Several text parts of one message are joined by line ends. Raises RequestRefused.
    """
    return [_plain(message, f"messages[{number}]") for number, message in enumerate(messages)]


def _plain(message: ChatMessage, where: str) -> dict[str, str]:
    if message.role in ("tool", "function"):
        _refuse(f"{where}.role", f"messages of role {message.role} are not served")
    for name, value in (message.model_extra or {}).items():
        if name in CALLS and value not in OFF:
            _refuse(f"{where}.{name}", f"{name} in a message is not served")
    role = "system" if message.role == "developer" else message.role
    plain = {"role": role, "content": _text(message.content, f"{where}.content")}
    return plain if message.name is None else {**plain, "name": message.name}


def _text(content: str | list[dict[str, Any]] | None, where: str) -> str:
    if content is None:
        _refuse(where, "a message without content is not served")
    if isinstance(content, str):
        return content
    texts = []
    for number, part in enumerate(content):
        kind, text = part.get("type"), part.get("text")
        if kind != "text":
            _refuse(f"{where}[{number}]", f"a part of type {str(kind)[:40]!r} is not served")
        if not isinstance(text, str):
            _refuse(f"{where}[{number}].text", "a text part without a text is not served")
        texts.append(text)
    return "\n".join(texts)


def _refuse(param: str, reason: str) -> NoReturn:
    raise RequestRefused(400, f"{param}: {reason}; send text only", param, "unsupported_parameter")
