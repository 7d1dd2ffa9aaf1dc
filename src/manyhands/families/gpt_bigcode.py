"""SantaCoder, StarCoder: a GPT-2 with one key head for all, matrices [out, in]. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import refuse
from manyhands.families.gpt2 import GPT, gpt2_sizes
from manyhands.families.values import Config, flag


def spec(config: Config) -> ModelSpec:
    """A GPT BigCode. Without `multi_query` q, k, v lie by head in their matrix."""
    refuse(config, add_cross_attention="attention to another sequence")
    made = gpt2_sizes(config, "gpt_bigcode", "gelu_pytorch_tanh")
    is_one = flag(config, "multi_query", True)
    return build(
        replace(
            made,
            names=replace(GPT, qkv="attn.c_attn", o="attn.c_proj"),
            kv_heads=1 if is_one else made.heads,
            qkv_runs=1 if is_one else made.heads,
            scale=None if flag(config, "scale_attn_weights", True) else 1.0,
        )
    )
