"""Rotary frequencies from a config: every scaling rule becomes one `Rope` of plain numbers.

The formulas are those of transformers 5 (`modeling_rope_utils`), which the tests compare with.
Each step is computed in double precision and rounded to float32 where transformers rounds, so that
the numbers (and with them the model's name) are the same on every machine, whatever its libm.
Knows nothing of blocks or tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from manyhands.domain.model_spec import Rope
from manyhands.errors import CheckpointError, NotServed
from manyhands.families.values import (
    Config,
    flag,
    number,
    numbers,
    optional_number,
    section,
    whole,
    word,
)


def rope(
    config: Config,
    head_dim: int,
    context: int,
    *,
    layer_type: str | None = None,
    theta: float = 10000.0,
    turned: float | None = None,
    interleaved: bool = False,
) -> Rope:
    """The rotation of a head of `head_dim` numbers in a model of `context` positions.

    Reads `rope_parameters` (transformers 5) or `rope_theta` with `rope_scaling` (before), of blocks
    of `layer_type` where they differ. `theta` stands for a missing `rope_theta`, `turned` for a
    missing `partial_rotary_factor`; None: this family turns all of a head, and nothing else.
    Raises CheckpointError for missing or absurd values, NotServed for a rule not known here.
    """
    values = _parameters(config, layer_type)
    fraction = number(values, "partial_rotary_factor", 1.0 if turned is None else turned)
    if turned is None and fraction != 1.0:
        raise NotServed("partial_rotary_factor other than 1 is not served for this family")
    if fraction > 1.0:
        raise CheckpointError(f"config: partial_rotary_factor is {fraction:g}, more than all")
    width = int(head_dim * fraction)
    if width < 2 or width % 2:
        raise CheckpointError(
            f"config: {width} numbers of a head_dim of {head_dim} are to be turned; rotary "
            "positions need an even count; check partial_rotary_factor"
        )
    kind = word(values, "rope_type", word(values, "type", "default"))
    if kind not in _RULES:
        raise NotServed(
            f"rope_type {kind!r} is not served; use a model with one of {', '.join(sorted(_RULES))}"
        )
    if values.get("rope_theta") is None:
        values = {**values, "rope_theta": theta}
    # A sequence of at most `context` tokens never reaches the growth of the dynamic rule, and
    # longer ones are refused everywhere, so there it is the default rule.
    return replace(_RULES[kind](values, width, context), interleaved=interleaved)


def softmax_factor(config: Config) -> float:
    """What attention scores are multiplied with besides: DeepSeek's square of yarn's mscale."""
    values = _parameters(config, None)
    kind = word(values, "rope_type", word(values, "type", "default"))
    if kind == "default" or not values.get("mscale_all_dim"):
        return 1.0
    return _float32(_mscale(number(values, "factor"), number(values, "mscale_all_dim")) ** 2)


def _mscale(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _parameters(config: Config, layer_type: str | None) -> Config:
    """The rope values in the flat transformers 5 form, with that version's order of precedence."""
    key = "rope_scaling" if section(config, "rope_scaling") else "rope_parameters"
    values = dict(section(config, key))
    if layer_type is not None and key == "rope_scaling" and section(config, "rope_parameters"):
        raise NotServed("rope_parameters beside rope_scaling is not served for this family")
    if any(isinstance(value, dict) for value in values.values()):
        if layer_type is None:
            raise NotServed(f"{key} differs by layer type, which is not served for this family")
        if not section(values, layer_type):
            raise NotServed(f"{key} says nothing of layer type {layer_type}")
        values = dict(section(values, layer_type))
    outside = {name: config.get(name) for name in ("rope_theta", "partial_rotary_factor")}
    for name, value in outside.items():
        values.setdefault(name, value)
    if config.get("original_max_position_embeddings") is not None:
        values["original_max_position_embeddings"] = config["original_max_position_embeddings"]
    return values


def _float32(value: float) -> float:
    return float(np.float32(value))


def _powers(values: Config, head_dim: int) -> list[float]:
    """Wave lengths over 2 pi: theta ** (2 i / head_dim) for each pair i."""
    theta = number(values, "rope_theta", 10000.0, above=1.0)
    return [_float32(theta ** _float32(i / head_dim)) for i in range(0, head_dim, 2)]


def _plain(values: Config, head_dim: int) -> list[float]:
    return [_float32(1.0 / power) for power in _powers(values, head_dim)]


def _original_context(values: Config, context: int) -> int:
    return whole(values, "original_max_position_embeddings", context, most=2**31, least=2)


def _default(values: Config, head_dim: int, context: int) -> Rope:
    del context
    return Rope(tuple(_plain(values, head_dim)))


def _dynamic(values: Config, head_dim: int, context: int) -> Rope:
    number(values, "factor")  # checked although it changes nothing within `context`
    return _default(values, head_dim, context)


def _linear(values: Config, head_dim: int, context: int) -> Rope:
    del context
    factor = number(values, "factor")
    return Rope(tuple(_float32(f / factor) for f in _plain(values, head_dim)))


def _llama3(values: Config, head_dim: int, context: int) -> Rope:
    """Long waves are stretched by `factor`, short ones kept, those between blended."""
    factor, original = number(values, "factor"), _original_context(values, context)
    low, high = number(values, "low_freq_factor"), number(values, "high_freq_factor")
    if not low < high:
        raise CheckpointError(
            f"config: high_freq_factor {high:g} must be above low_freq_factor {low:g}"
        )

    def scaled(frequency: float) -> float:
        wave = 2 * math.pi / frequency
        if wave > original / low:
            return frequency / factor
        if wave < original / high:
            return frequency
        smooth = (original / wave - low) / (high - low)
        return (1 - smooth) * frequency / factor + smooth * frequency

    return Rope(tuple(_float32(scaled(f)) for f in _plain(values, head_dim)))


def _yarn(values: Config, head_dim: int, context: int) -> Rope:
    """NTK by parts (Peng et al. 2023): a ramp over the pairs from kept to stretched."""
    original = _original_context(values, context)
    factor = number(values, "factor", context / original)
    theta = number(values, "rope_theta", 10000.0, above=1.0)

    def pair_turning(times: float) -> float:
        return head_dim * math.log(original / (times * 2 * math.pi)) / (2 * math.log(theta))

    first = pair_turning(_or_default(values, "beta_fast", 32.0))
    last = pair_turning(_or_default(values, "beta_slow", 1.0))
    if flag(values, "truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    if first == last:
        last += 0.001  # as transformers does, so that the ramp is a step and not a division by 0

    def blended(pair: int, power: float) -> float:
        stretched = min(max((pair - first) / (last - first), 0.0), 1.0)
        return stretched / (factor * power) + (1 - stretched) / power

    pairs = enumerate(_powers(values, head_dim))
    inv_freq = tuple(_float32(blended(pair, power)) for pair, power in pairs)
    return Rope(inv_freq, attention_factor=_float32(_yarn_attention_factor(values, factor)))


def _or_default(values: Config, key: str, default: float) -> float:
    """A number whose 0 means "the default" (transformers writes `get(key) or default`)."""
    return number(values, key) if values.get(key) else default


def _yarn_attention_factor(values: Config, factor: float) -> float:
    given = optional_number(values, "attention_factor")
    if given is not None:
        return given
    if values.get("mscale") and values.get("mscale_all_dim"):
        above, below = number(values, "mscale"), number(values, "mscale_all_dim")
        return _mscale(factor, above) / _mscale(factor, below)
    return _mscale(factor, 1.0)


def _longrope(values: Config, head_dim: int, context: int) -> Rope:
    """A divisor for each pair (Ding et al. 2024), another list beyond the original context."""
    original = _original_context(values, context)
    factor = number(values, "factor", context / original)
    attention_factor = optional_number(values, "attention_factor")
    if attention_factor is None:
        grown = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
        attention_factor = grown
    powers = _powers(values, head_dim)

    def divided(key: str) -> tuple[float, ...]:
        divisors = numbers(values, key, head_dim // 2)
        return tuple(
            _float32(1.0 / _float32(_float32(d) * p)) for d, p in zip(divisors, powers, strict=True)
        )

    return Rope(
        divided("short_factor"),
        attention_factor=_float32(attention_factor),
        inv_freq_long=divided("long_factor"),
        switch_at=original,
    )


_RULES: dict[str, Callable[[Config, int, int], Rope]] = {
    "default": _default,
    "dynamic": _dynamic,
    "linear": _linear,
    "llama3": _llama3,
    "longrope": _longrope,
    "yarn": _yarn,
}
