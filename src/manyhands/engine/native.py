"""What compiled functions are made of: numba's decorators, typed, and memory read by address.

Needs numba. Knows nothing of what is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

I64, F32 = ir.IntType(64), ir.FloatType()

_ORDER = "seq_cst"


def native(function: F) -> F:
    """Compiled when it is first called, kept on disk, and run without the interpreter's lock."""
    return cast("F", njit(nogil=True, cache=True)(function))


def emitted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function for compiled code whose instructions `function` writes."""
    return cast("Callable[..., Any]", intrinsic(function))


def _at(_context: Any, _address: Any) -> Any:
    """A pointer, for `carray`."""

    def emit(_c: Any, builder: Any, _s: Any, given: Any) -> Any:
        return builder.inttoptr(given[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), emit


def _read(_context: Any, _address: Any) -> Any:
    """The 64-bit integer at an address, as it is now for all threads."""

    def emit(_c: Any, builder: Any, _s: Any, given: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(given[0], I64.as_pointer()), _ORDER, 8)

    return types.int64(types.int64), emit


def _read_float(_context: Any, _address: Any) -> Any:
    """The float32 at an address."""

    def emit(_c: Any, builder: Any, _s: Any, given: Any) -> Any:
        return builder.load(builder.inttoptr(given[0], F32.as_pointer()), align=4)

    return types.float32(types.int64), emit


def _write(_context: Any, _address: Any, _value: Any) -> Any:
    """Write a 64-bit integer for all threads."""

    def emit(context: Any, builder: Any, _s: Any, given: Any) -> Any:
        pointer = builder.inttoptr(given[0], I64.as_pointer())
        builder.store_atomic(given[1], pointer, _ORDER, 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


def _add(_context: Any, _address: Any, _value: Any) -> Any:
    """Add to the 64-bit integer at an address; what it was before."""

    def emit(_c: Any, builder: Any, _s: Any, given: Any) -> Any:
        pointer = builder.inttoptr(given[0], I64.as_pointer())
        return builder.atomic_rmw("add", pointer, given[1], _ORDER)

    return types.int64(types.int64, types.int64), emit


def _swap(_context: Any, _address: Any, _expected: Any, _value: Any) -> Any:
    """Write a value where the expected one is; whether it was."""

    def emit(_c: Any, builder: Any, _s: Any, given: Any) -> Any:
        pointer = builder.inttoptr(given[0], I64.as_pointer())
        return builder.extract_value(builder.cmpxchg(pointer, given[1], given[2], _ORDER), 1)

    return types.boolean(types.int64, types.int64, types.int64), emit


at: Callable[[int], Any] = emitted(_at)
read: Callable[[int], int] = emitted(_read)
read_float: Callable[[int], float] = emitted(_read_float)
write: Callable[[int, int], None] = emitted(_write)
add: Callable[[int, int], int] = emitted(_add)
swap: Callable[[int, int, int], bool] = emitted(_swap)
