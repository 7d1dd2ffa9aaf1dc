"""The form of each header, made from the plain dataclasses: what a field may hold on the wire.

A form is a msgspec Struct with the dataclass's fields in their order, every one of them present, no
others, each bounded; so a field added to a message is on the wire at once and cannot go unchecked.
Knows neither frames nor kinds, nor what a message is for.

What JSON or JavaScript cannot hold has a form of its own: a tensor is {codec, shape, size} and its
bytes lie in the payload, in the order of the fields (of a mapping: of its sorted names); plain
bytes are their number, and lie there too; minus infinity, where it has a meaning, is the text
"-inf"; the 64 bits of a seed are 16 hex digits.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from manyhands.domain.ids import ModelId, PeerId, SessionId, is_hex
from manyhands.domain.manifest import ManifestId
from manyhands.domain.messages import Blob
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.domain.work import Result, Sampling
from manyhands.errors import ProtocolError
from manyhands.wire.frame import Buffer

Whole = Annotated[int, Meta(ge=0, lt=2**53)]
"""Every integer of a header: what a JavaScript number holds exactly."""

Seconds = Annotated[float, Meta(ge=0.0, le=1e18)]
"""Every float whose name ends in _s: times, and rates per second."""

Logarithm = float | Literal["-inf"]
"""A finite number, or minus infinity: a banned token's bias, an impossible token's logprob."""

Items = Meta(max_length=1 << 16)
"""Entries of any list: no step has more tokens than a chunk may have."""

TEXT_CHARACTERS = 256
LONG_TEXT_CHARACTERS = 4096
_LONG_TEXTS = frozenset({"message", "reason"})
_ID_DIGITS: Mapping[Any, int] = {PeerId: 64, ModelId: 64, ManifestId: 64, SessionId: 32}
_MINUS_INFINITY = float("-inf")


class TensorForm(msgspec.Struct, forbid_unknown_fields=True):
    """A tensor in a header; its `size` bytes lie in the payload."""

    codec: Annotated[str, Meta(min_length=1, max_length=64)]
    shape: tuple[Annotated[int, Meta(ge=0, le=1 << 24)], Annotated[int, Meta(ge=0, le=1 << 24)]]
    size: Whole


class Cut:
    """Takes tensors off the front of a payload, one after the other."""

    __slots__ = ("_at", "_buffer", "_size")

    def __init__(self, payload: tuple[Buffer, ...]) -> None:
        self._buffer: Buffer = payload[0] if len(payload) == 1 else b"".join(payload)
        self._size, self._at = len(self._buffer), 0

    @property
    def left(self) -> int:
        """Bytes not taken yet."""
        return self._size - self._at

    def take(self, size: int) -> Buffer:
        """The next `size` bytes, not copied. Raises ProtocolError when there are fewer."""
        if size > self.left:
            raise ProtocolError(
                f"a tensor of {size} bytes is announced and {self.left} bytes of payload are left"
            )
        first, self._at = self._at, self._at + size
        return self._buffer if size == self._size else memoryview(self._buffer)[first : self._at]


class Field(NamedTuple):
    """How one field travels: its annotation in the form, and the ways in and out, if any."""

    annotation: Any
    write: Callable[[Any, list[Buffer]], Any] | None = None
    read: Callable[[Any, Cut], Any] | None = None


class Form:
    """The form of one dataclass: `write` to a Struct, `read` back."""

    __slots__ = ("_build", "_names", "_pick", "_reads", "_writes", "struct")

    def __init__(self, cls: type) -> None:
        hints = get_type_hints(cls)
        names = [entry.name for entry in fields(cls)]
        travels = [_special(cls, name) or _field(hints[name], name) for name in names]
        self.struct: Any = msgspec.defstruct(
            f"{cls.__name__}Form",
            [(name, field.annotation) for name, field in zip(names, travels, strict=True)],
            forbid_unknown_fields=True,
        )
        self._build: Any = cls
        self._names = names
        self._pick = attrgetter(*names)
        self._writes = [(at, f.write) for at, f in enumerate(travels) if f.write is not None]
        self._reads = [(at, f.read) for at, f in enumerate(travels) if f.read is not None]

    def write(self, value: Any, parts: list[Buffer]) -> Any:
        """The Struct of `value`; its tensors' bytes are appended to `parts`."""
        picked = self._pick(value)
        values = list(picked) if len(self._names) > 1 else [picked]
        for at, write in self._writes:
            values[at] = write(values[at], parts)
        return self.struct(*values)

    def read(self, struct: Any, cut: Cut) -> Any:
        """The dataclass of `struct`, its tensors taken off `cut`.

        Raises ProtocolError, and what the dataclass itself raises: ValueError, BadSampling.
        """
        values = list(msgspec.structs.astuple(struct))
        for at, read in self._reads:
            values[at] = read(values[at], cut)
        return self._build(*values)


def _field(hint: Any, name: str) -> Field:
    """How a field of type `hint` travels. Raises TypeError for a type that has no form yet."""
    if hint in _ID_DIGITS:
        return _hex(_ID_DIGITS[hint])
    if hint is bool:
        return Field(bool)
    if hint is int:
        return Field(Whole)
    if hint is float:
        return Field(Seconds if name.endswith("_s") else float)
    if hint is str:
        return _text(name)
    if hint == Blob:
        return Field(Whole, _write_bytes, lambda size, cut: cut.take(size))
    if hint is TensorFrame:
        return Field(TensorForm, _write_tensor, _read_tensor)
    if isinstance(hint, type) and is_dataclass(hint):
        form = Form(hint)
        return Field(form.struct, form.write, form.read)
    return _compound(hint, name)


def _compound(hint: Any, name: str) -> Field:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return Field(hint)
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return _list(_field(arguments[0], name))
    if origin in (Union, types.UnionType) and len(arguments) == 2 and arguments[1] is type(None):
        return _optional(_field(arguments[0], name))
    if origin is Mapping and arguments == (str, TensorFrame):
        return Field(
            Annotated[dict[Annotated[str, Meta(max_length=64)], TensorForm], Meta(max_length=64)],
            lambda named, parts: {key: _write_tensor(named[key], parts) for key in sorted(named)},
            lambda named, cut: {key: _read_tensor(named[key], cut) for key in sorted(named)},
        )
    raise TypeError(
        f"field {name} is a {hint}, which has no form on the wire yet; give it one here"
    )


def _special(cls: type, name: str) -> Field | None:
    """The few fields that need more than their type says."""
    if cls is Sampling and name == "seed":
        return Field(
            Annotated[str, Meta(min_length=16, max_length=16)],
            lambda seed, _: f"{seed:016x}",
            lambda text, _: int(_checked_hex(text), 16),
        )
    if cls is Sampling and name == "logit_bias":
        return Field(
            Annotated[dict[Whole, Logarithm], Items],
            lambda biases, _: {token: _to_text(bias) for token, bias in biases.items()},
            lambda biases, _: {token: float(bias) for token, bias in biases.items()},
        )
    if cls is Result and name in ("chosen_logprob", "target_logprob"):
        return Field(
            Annotated[tuple[Logarithm, ...], Items],
            lambda values, _: tuple(map(_to_text, values)),
            lambda values, _: tuple(map(float, values)),
        )
    if cls is Result and name == "top_logprobs":
        return Field(
            Annotated[tuple[Annotated[tuple[Logarithm, ...], Items], ...], Items],
            lambda rows, _: tuple(tuple(map(_to_text, row)) for row in rows),
            lambda rows, _: tuple(tuple(map(float, row)) for row in rows),
        )
    return None


def _to_text(value: float) -> float | str:
    return "-inf" if value == _MINUS_INFINITY else value


def _checked_hex(text: str) -> str:
    if not is_hex(text, len(text)):
        raise ProtocolError(f"{text!r} is not lower-case hex digits")
    return text


def _hex(digits: int) -> Field:
    return Field(
        Annotated[str, Meta(min_length=digits, max_length=digits)],
        lambda text, _: _checked_hex(text),
        lambda text, _: _checked_hex(text),
    )


def _text(name: str) -> Field:
    if name not in _LONG_TEXTS:
        return Field(Annotated[str, Meta(max_length=TEXT_CHARACTERS)])
    # What went wrong must always be sayable: a long explanation is cut, not refused.
    return Field(
        Annotated[str, Meta(max_length=LONG_TEXT_CHARACTERS)],
        lambda text, _: text[:LONG_TEXT_CHARACTERS].encode(errors="replace").decode(),
    )


def _list(item: Field) -> Field:
    annotation: Any = Annotated[types.GenericAlias(tuple, (item.annotation, ...)), Items]
    write, read = item.write, item.read
    return Field(
        annotation,
        write and (lambda values, parts: tuple(write(value, parts) for value in values)),
        read and (lambda values, cut: tuple(read(value, cut) for value in values)),
    )


def _optional(item: Field) -> Field:
    write, read = item.write, item.read
    return Field(
        item.annotation | None,
        write and (lambda value, parts: None if value is None else write(value, parts)),
        read and (lambda value, cut: None if value is None else read(value, cut)),
    )


def _whole_rows(shape: tuple[int, int], size: int) -> None:
    rows = shape[0]
    if size % rows if rows else size:
        raise ProtocolError(
            f"a tensor of {rows} rows has {size} bytes; every row has the same number"
        )


def _write_bytes(data: Buffer, parts: list[Buffer]) -> int:
    if len(data):
        parts.append(data)
    return len(data)


def _write_tensor(tensor: TensorFrame, parts: list[Buffer]) -> TensorForm:
    payload = tensor.payload
    if isinstance(payload, memoryview) and (payload.format != "B" or payload.ndim != 1):
        payload = payload.cast("B")
    size = len(payload)
    _whole_rows(tensor.shape, size)
    if size:
        parts.append(payload)
    return TensorForm(tensor.codec, tensor.shape, size)


def _read_tensor(form: TensorForm, cut: Cut) -> TensorFrame:
    _whole_rows(form.shape, form.size)
    return TensorFrame(form.codec, form.shape, cut.take(form.size))
