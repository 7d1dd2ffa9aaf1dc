"""jinja2's immutable sandbox, as transformers sets it up, with a budget of steps and sizes.

The budget (loop rounds, calls, lengths of strings) stops accidents and simple bombs. It is no proof
against a clever author: only a process of its own, with its own memory limit, would be.
Knows nothing of chats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NoReturn, cast

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MOST_STEPS = 1_000_000
"""Loop rounds and calls of one rendering; a long chat needs some tens of them a message."""
MOST_TEXT = 16 * 2**20
"""Characters of any string a template builds."""
MOST_ITEMS = 1_000_000
"""Items of any list a template builds."""
MOST_BITS = 4096
"""Size of any whole number a template builds."""
MOST_WIDTH = 9999
"""Columns to which a template may pad or indent."""

_WIDE_FORMAT = re.compile(r"%[^a-zA-Z%]*(\*|\d{5})|\{[^{}]*\d{5}|\{[^{}]*\{")


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """An environment for templates of strangers; one rendering at a time (call `begin` before)."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, jinja2.ext.loopcontrols],
        )
        self._steps = 0
        self._now: datetime | None = None
        self.filters["tojson"] = _to_json
        self.filters["metered_rounds"] = self._rounds
        self.filters["metered_concat"] = _concat
        for name in ("center", "indent", "wordwrap"):
            self.filters[name] = _narrow(self.filters[name])
        del self.filters["format"], self.filters["pprint"]
        self.filters["replace"] = _replace
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = self._strftime_now

    def begin(self, now: datetime | None) -> None:
        """A new rendering with a full budget; `now` answers `strftime_now`."""
        self._steps, self._now = MOST_STEPS, now

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            _refuse(f"it takes more than {MOST_STEPS} steps")

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """jinja2's documented hook: the tree, with every loop and `~` metered."""
        tree = super()._parse(source, name, filename)
        _Metering().visit(tree)
        return tree

    def _rounds(self, items: Iterable[Any]) -> list[Any]:
        made = []
        for item in items:
            self._spend(1)
            made.append(item)
        return made

    def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Every call of a template, macros too."""
        self._spend(1)
        method = getattr(called, "__wrapped__", called)  # jinja2 wraps str.format
        if isinstance(getattr(method, "__self__", None), str):
            _check_method(method, args, kwargs)
        made = super().call(context, called, *args, **kwargs)
        if isinstance(made, range):
            self._spend(len(made))  # filters go through it without a loop of the template's
        return made

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`+`, `*`, `**` and `%`, their sizes checked before the work is done."""
        self._spend(1)
        _check_operator(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def _strftime_now(self, form: str) -> str:
        if self._now is None:
            _refuse("it asks for today's date; give it as `now`")
        _check_format(form)
        return self._now.strftime(form)


class _Metering(NodeTransformer):
    """Sends every loop's iterable and every `~` through a filter that counts."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2 asks by this name
        self.generic_visit(node)
        node.iter = _filtered(cast("nodes.Expr", node.iter), "metered_rounds")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - as above
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "metered_concat")


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what an assistant said, for training; here it only renders."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def _refuse(why: str) -> NoReturn:
    raise jinja2.TemplateRuntimeError(why)


def _raise_exception(message: object) -> NoReturn:
    raise jinja2.TemplateError(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As in transformers: jinja2's own filter escapes HTML characters."""
    _check_width(indent)
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _check_size(size: int, most: int) -> None:
    if size > most:
        _refuse(f"it makes something of size {size}; {most} is most")


def _check_width(*values: object) -> None:
    for value in values:
        if isinstance(value, int):
            _check_size(abs(value), MOST_WIDTH)


def _check_format(form: str) -> None:
    if _WIDE_FORMAT.search(form):
        _refuse(f"it formats to a width over {MOST_WIDTH}")


def _concat(parts: list[Any]) -> str:
    texts = [str(part) for part in parts]
    _check_size(sum(map(len, texts)), MOST_TEXT)
    return "".join(texts)


def _narrow(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, refusing a width that would make a short text a huge one."""

    # jinja2 hands its context to filters that are marked so; the mark must survive the wrapping.
    def narrow(*args: Any, **kwargs: Any) -> Any:
        _check_width(*args, *kwargs.values())
        return wrapped(*args, **kwargs)

    narrow.__dict__.update(wrapped.__dict__)
    return narrow


def _replace(value: Any, old: str, new: str, count: int = -1) -> str:
    text, old, new = str(value), str(old), str(new)
    _check_size(len(text) + text.count(old) * len(new), MOST_TEXT)
    return text.replace(old, new, -1 if count is None else count)


def _check_method(method: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> None:
    """Refuse a string's method that would make a huge string of it."""
    text = str(getattr(method, "__self__", ""))
    match getattr(method, "__name__", ""):
        case "center" | "ljust" | "rjust" | "zfill" | "expandtabs":
            _check_width(*args, *kwargs.values())
        case "format" | "format_map":
            _check_format(text)
        case "replace" if len(args) >= 2 and all(isinstance(arg, str) for arg in args[:2]):
            _check_size(len(text) + text.count(args[0]) * len(args[1]), MOST_TEXT)


def _check_operator(operator: str, left: Any, right: Any) -> None:
    match operator, left, right:
        case "+", str(), str():
            _check_size(len(left) + len(right), MOST_TEXT)
        case "+", list() | tuple(), list() | tuple():
            _check_size(len(left) + len(right), MOST_ITEMS)
        case "*", (str() | list() | tuple()) as items, int(times):
            _check_size(len(items) * times, MOST_ITEMS)
        case "*", int(times), (str() | list() | tuple()) as items:
            _check_size(len(items) * times, MOST_ITEMS)
        case "*", int(), int():
            _check_size(left.bit_length() + right.bit_length(), MOST_BITS)
        case "**", int(), int():
            _check_size(left.bit_length() * abs(right), MOST_BITS)
        case "%", str(), _:
            _check_format(left)
        case _:
            pass
