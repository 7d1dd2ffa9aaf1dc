"""SmolLM3: a Llama where every fourth block has no positions, perhaps with windows. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Rope
from manyhands.errors import CheckpointError
from manyhands.families.building import build
from manyhands.families.decoder import context, head_dim, standard
from manyhands.families.layer_types import FULL, SLIDING, block_count, kinds, windows_of
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, whole


def spec(config: Config) -> ModelSpec:
    """A SmolLM3. `no_rope_layers` says 1 for a block that has rotary positions."""
    turn = rope(config, head_dim(config), context(config), theta=2_000_000.0)
    turned = _turned(config)
    windows = _windows(config, turned)
    ropes: tuple[Rope | None, ...] = tuple(turn if is_turned else None for is_turned in turned)
    has_bias = flag(config, "attention_bias")
    return build(
        replace(
            standard(config, "smollm3", windows=windows, ropes=ropes),
            has_qkv_bias=has_bias,
            has_o_bias=has_bias,
            has_mlp_bias=flag(config, "mlp_bias"),
            is_tied=flag(config, "tie_word_embeddings", True),
        )
    )


def _turned(config: Config) -> tuple[bool, ...]:
    blocks = block_count(config)
    said = config.get("no_rope_layers")
    if said is None:
        interval = whole(config, "no_rope_layer_interval", 4)
        return tuple((block + 1) % interval != 0 for block in range(blocks))
    is_list = isinstance(said, (list, tuple)) and len(said) == blocks
    if not is_list or any(value not in (0, 1) for value in said):
        raise CheckpointError(
            f"config: no_rope_layers must be a list of {blocks} zeros and ones; check config.json"
        )
    return tuple(bool(value) for value in said)


def _windows(config: Config, turned: tuple[bool, ...]) -> tuple[int | None, ...]:
    has_window = flag(config, "use_sliding_window") and config.get("sliding_window") is not None
    if config.get("layer_types") is not None:
        named = kinds(config, every=0)
    else:
        named = tuple(SLIDING if has_window and not is_turned else FULL for is_turned in turned)
    if not has_window and SLIDING in named:
        raise CheckpointError(
            "config: layer_types names sliding_attention, but use_sliding_window or sliding_window "
            "is off; check config.json"
        )
    return windows_of(config, named, None)
