"""InternLM3: a Llama, with its biases under two names. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.llama import llama
from manyhands.families.values import Config


def spec(config: Config) -> ModelSpec:
    """An InternLM3; files call `attention_bias` `qkv_bias` and `mlp_bias` `bias`."""
    renamed = {
        "attention_bias": config.get("qkv_bias", config.get("attention_bias")),
        "mlp_bias": config.get("bias", config.get("mlp_bias")),
    }
    return build(llama({**config, **renamed}, "internlm3"))
