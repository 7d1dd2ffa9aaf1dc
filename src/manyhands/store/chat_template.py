"""Renders a model's chat template, a program from a stranger, within the sandbox's limits.

Knows nothing of tokens, nor of which file a template came from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2

from manyhands.errors import CheckpointError, UserError
from manyhands.store.template_sandbox import MOST_TEXT, TemplateSandbox

MOST_TEMPLATE_CHARACTERS = 512 * 1024

_FAILURES = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What a template's own mistakes raise."""


class ChatTemplate:
    """A compiled template. Raises CheckpointError when it does not compile."""

    def __init__(self, source: str) -> None:
        if len(source) > MOST_TEMPLATE_CHARACTERS:
            raise CheckpointError(
                f"the chat template has {len(source)} characters; "
                f"{MOST_TEMPLATE_CHARACTERS} is most"
            )
        self._sandbox = TemplateSandbox()
        try:
            self._template = self._sandbox.from_string(source)
        except _FAILURES as error:
            raise CheckpointError(f"the chat template does not compile: {error}") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
        now: datetime | None,
        **variables: Any,
    ) -> str:
        """The chat as one text. `now` is what the template gets when it asks for the date.

        Raises UserError: messages that are no JSON, a refusal of the template, a limit reached.
        """
        try:
            # A copy of plain data: the template never touches an object of ours.
            plain = json.loads(json.dumps([dict(message) for message in messages]))
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"messages must be objects with role and content: {error}") from error
        given = {
            "tools": None,
            "documents": None,
            **variables,
            "messages": plain,
            "add_generation_prompt": add_generation_prompt,
        }
        self._sandbox.begin(now)
        pieces, size = [], 0
        try:
            for piece in self._template.generate(given):
                pieces.append(piece)
                size += len(piece)
                if size > MOST_TEXT:
                    raise UserError(f"the chat template wrote over {MOST_TEXT} characters")
        except _FAILURES as error:
            raise UserError(f"the chat template refused these messages: {error}") from error
        return "".join(pieces)
