"""CWM (Code World Model): a Llama, three blocks in four with a window. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import standard
from manyhands.families.layer_types import kinds, windows_of
from manyhands.families.values import Config, flag, whole


def spec(config: Config) -> ModelSpec:
    """A CWM."""
    windows = windows_of(config, kinds(config, every=4, first=0), 8192)
    heads = whole(config, "num_attention_heads")
    made = standard(
        config, "cwm", kv_heads=whole(config, "num_key_value_heads", heads), windows=windows
    )
    return build(replace(made, has_mlp_bias=flag(config, "mlp_bias")))
