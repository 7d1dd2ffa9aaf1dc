"""CWM (Code World Model): a Llama, three blocks in four with a window. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import context, head_dim, standard
from manyhands.families.layer_types import kinds, windows_of
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, section, whole

_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 1_000_000.0,
    "factor": 16.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""What a config means that says nothing of rotary positions."""


def spec(config: Config) -> ModelSpec:
    """A CWM."""
    windows = windows_of(config, kinds(config, every=4, first=0), 8192)
    heads, width = whole(config, "num_attention_heads"), head_dim(config)
    is_said = any(section(config, key) for key in ("rope_scaling", "rope_parameters"))
    said = config if is_said else {**config, "rope_parameters": _ROPE}
    turn = rope(said, width, context(config), theta=1_000_000.0)
    made = standard(
        config,
        "cwm",
        kv_heads=whole(config, "num_key_value_heads", heads),
        head_width=width,
        windows=windows,
        ropes=(turn,) * len(windows),
    )
    return build(replace(made, has_mlp_bias=flag(config, "mlp_bias")))
