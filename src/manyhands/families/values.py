"""Takes typed values out of a model's config; a missing or absurd one is an error naming its key.

A null counts as missing. Knows nothing of any family or file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manyhands.errors import CheckpointError

Config = Mapping[str, Any]
"""What `config.json` holds, as read; nothing in it is trusted."""

MOST = 2**24
"""No size or count of a model that exists comes near this; larger ones are damage or an attack."""


LEAST_NUMBER, MOST_NUMBER = 1e-18, 1e18
"""The same for numbers with a point; products of two of them still fit float32."""


def _wrong(key: str, value: object, rule: str) -> CheckpointError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return CheckpointError(f"config: {key} is {shown}; it must be {rule}; check config.json")


def _found(config: Config, key: str, default: Any, rule: str) -> Any:
    value = config.get(key)
    if value is not None:
        return value
    if default is None:
        raise CheckpointError(f"config: {key} is missing; it must be {rule}; check config.json")
    return default


def whole(
    config: Config, key: str, default: int | None = None, *, least: int = 1, most: int = MOST
) -> int:
    """A whole number in [least, most]; `default` None makes it required. Raises CheckpointError."""
    rule = f"a whole number from {least} to {most}"
    value = _found(config, key, default, rule)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(key, value, rule)
    return value


def number(config: Config, key: str, default: float | None = None, *, above: float = 0.0) -> float:
    """A number above `above`, never NaN, infinite or tiny; `default` None makes it required.

    Raises CheckpointError.
    """
    least = max(above, LEAST_NUMBER)
    rule = f"a number above {least:g} and below {MOST_NUMBER:g}"
    value = _found(config, key, default, rule)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(key, value, rule)
    if not least < value < MOST_NUMBER:
        raise _wrong(key, value, rule)
    return float(value)


def optional_number(config: Config, key: str, *, above: float = 0.0) -> float | None:
    """Like `number`, or None when the key is missing."""
    return None if config.get(key) is None else number(config, key, above=above)


def flag(config: Config, key: str, default: bool = False) -> bool:
    """True or false. Raises CheckpointError for anything else."""
    value = _found(config, key, default, "true or false")
    if not isinstance(value, bool):
        raise _wrong(key, value, "true or false")
    return value


def word(config: Config, key: str, default: str | None = None) -> str:
    """A string. Raises CheckpointError for anything else."""
    value = _found(config, key, default, "a string")
    if not isinstance(value, str):
        raise _wrong(key, value, "a string")
    return value


def numbers(config: Config, key: str, count: int) -> tuple[float, ...]:
    """A list of `count` finite numbers above 0. Raises CheckpointError."""
    rule = f"a list of {count} numbers above 0"
    value = _found(config, key, None, rule)
    if not isinstance(value, (list, tuple)) or len(value) != count:
        raise _wrong(key, value, rule)
    return tuple(number({key: item}, key) for item in value)


def words(config: Config, key: str, count: int) -> tuple[str, ...] | None:
    """A list of `count` strings, or None when the key is missing. Raises CheckpointError."""
    value = config.get(key)
    if value is None:
        return None
    good = isinstance(value, (list, tuple)) and len(value) == count
    if not good or not all(isinstance(item, str) for item in value):
        raise _wrong(key, value, f"a list of {count} strings, one a layer")
    return tuple(value)


def strings(config: Config, key: str) -> tuple[str, ...]:
    """A list of strings of any length, none when the key is missing. Raises CheckpointError."""
    value = _found(config, key, (), "a list of strings")
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise _wrong(key, value, "a list of strings")
    return tuple(value)


def section(config: Config, key: str) -> Config:
    """A nested object, empty when the key is missing. Raises CheckpointError."""
    value = config.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(key, value, "an object")
    return value


def whole_list(config: Config, key: str) -> tuple[int, ...]:
    """A list of whole numbers from 0, empty when the key is missing. Raises CheckpointError."""
    value = config.get(key)
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or len(value) > MOST:
        raise _wrong(key, value, "a list of whole numbers")
    return tuple(whole({key: item}, key, least=0) for item in value)


def with_defaults(config: Config, **defaults: Any) -> Config:
    """`config` with a family's own defaults where a key is missing or null."""
    return {**config, **{k: v for k, v in defaults.items() if config.get(k) is None}}
