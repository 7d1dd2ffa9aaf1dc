"""Which blocks attend through a sliding window, from a config's `layer_types` or older switches.

A window of W means that a token sees itself and the W-1 tokens before it, as in transformers.
Knows nothing of tensors.
"""

from __future__ import annotations

from manyhands.errors import CheckpointError, NotServed
from manyhands.families.values import Config, flag, whole, words

Windows = tuple[int | None, ...]
"""One entry a block: the window, or None for all tokens."""

MOST_BLOCKS = 10_000

FULL, SLIDING = "full_attention", "sliding_attention"


def block_count(config: Config) -> int:
    """`num_hidden_layers`."""
    return whole(config, "num_hidden_layers", most=MOST_BLOCKS)


def full_only(config: Config) -> Windows:
    """All blocks see all tokens; raises NotServed when `layer_types` says anything else."""
    blocks = block_count(config)
    named = words(config, "layer_types", blocks)
    if named is not None and set(named) != {FULL}:
        raise NotServed("this family serves layer_types of full_attention only")
    return (None,) * blocks


def one_for_all(config: Config, default: int) -> Windows:
    """`sliding_window` for every block; null means all tokens, a missing key means `default`."""
    blocks = block_count(config)
    if config.get("layer_types") is not None:
        raise NotServed(
            "layer_types is not served for this family, nor does transformers heed it here"
        )
    if "sliding_window" in config and config["sliding_window"] is None:
        return (None,) * blocks
    return (whole(config, "sliding_window", default, most=2**31),) * blocks


def by_layer(config: Config) -> Windows:
    """Qwen's rule: `use_sliding_window`, and `layer_types` or all blocks from `max_window_layers`.

    Raises CheckpointError for a sliding layer without a window, NotServed for an unknown type.
    """
    blocks = block_count(config)
    window = None
    if flag(config, "use_sliding_window") and config.get("sliding_window", 0) is not None:
        window = whole(config, "sliding_window", 4096, most=2**31)
    named = words(config, "layer_types", blocks)
    if named is None:
        first = whole(config, "max_window_layers", 28, least=0)
        return tuple(window if block >= first else None for block in range(blocks))
    unknown = set(named) - {FULL, SLIDING}
    if unknown:
        raise NotServed(f"layer_types {', '.join(sorted(unknown))} are not served for this family")
    if window is None and SLIDING in named:
        raise CheckpointError(
            "config: layer_types names sliding_attention, but use_sliding_window or sliding_window "
            "is off; check config.json"
        )
    return tuple(window if kind == SLIDING else None for kind in named)


def kinds(config: Config, *, every: int, first: int | None = None) -> tuple[str, ...]:
    """`layer_types`; where the key is missing, each `every`-th block is full and all others slide.

    The first full one is block `first` (by default the last of the first `every`); with `every` 0
    none is. Raises NotServed for an unknown type.
    """
    blocks = block_count(config)
    named = words(config, "layer_types", blocks)
    if named is None:
        at = every - 1 if first is None else first
        named = tuple(
            FULL if every and block % every == at % every else SLIDING for block in range(blocks)
        )
    unknown = set(named) - {FULL, SLIDING}
    if unknown:
        raise NotServed(f"layer_types {', '.join(sorted(unknown))} are not served for this family")
    return named


def windows_of(config: Config, named: tuple[str, ...], default: int | None) -> Windows:
    """The window of each block of those types; `default` stands for a missing `sliding_window`.

    Raises CheckpointError for a sliding block without a window.
    """
    if SLIDING not in named:
        return (None,) * len(named)
    window = config.get("sliding_window", default)
    if window is None:
        raise CheckpointError(
            "config: layer_types names sliding_attention, but there is no sliding_window; check "
            "config.json"
        )
    window = whole({"sliding_window": window}, "sliding_window", most=2**31)
    return tuple(window if kind == SLIDING else None for kind in named)
