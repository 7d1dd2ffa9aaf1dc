"""StarCoder2: a Llama with layer norms, a plain MLP, and biases on every matrix. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.families.building import build
from manyhands.families.decoder import Names, activation, standard
from manyhands.families.layer_types import full_only, one_for_all
from manyhands.families.values import Config, flag, number


def spec(config: Config) -> ModelSpec:
    """A StarCoder2. No `sliding_window` means all tokens."""
    is_full = config.get("sliding_window") is None
    has_bias = flag(config, "use_bias", True)
    made = standard(
        config,
        "starcoder2",
        norm=Norm("layer", number(config, "norm_epsilon", 1e-5)),
        acts=activation(config, "hidden_act", "gelu_pytorch_tanh"),
        windows=full_only(config) if is_full else one_for_all(config, 4096),
    )
    return build(
        replace(
            made,
            mlp="plain",
            names=Names(up="mlp.c_fc", down="mlp.c_proj"),
            has_norm_bias=True,
            has_qkv_bias=has_bias,
            has_o_bias=has_bias,
            has_mlp_bias=has_bias,
            is_tied=flag(config, "tie_word_embeddings", True),
        )
    )
