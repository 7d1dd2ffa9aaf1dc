"""HyperCLOVA X: Granite's multipliers, and norms after attention and MLP. Reads no files."""

from __future__ import annotations

import math
from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import Names
from manyhands.families.llama import llama
from manyhands.families.values import Config, flag, number


def spec(config: Config) -> ModelSpec:
    """A HyperCLOVA X. `logits_scaling` multiplies, other than Granite's."""
    made = llama(config, "hyperclovax")
    after = Names(attention_after_norm="post_norm1", mlp_after_norm="post_norm2")
    return build(
        replace(
            made,
            names=after if flag(config, "use_post_norm") else made.names,
            scale=number(config, "attention_multiplier", 1 / math.sqrt(made.head_dim)),
            residual_scale=number(config, "residual_multiplier", 1.0),
            embed_scale=number(config, "embedding_multiplier", 1.0),
            logits_scale=number(config, "logits_scaling", 1.0),
        )
    )
