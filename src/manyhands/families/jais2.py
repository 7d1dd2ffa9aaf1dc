"""Jais 2: a Llama with layer norms and a plain MLP, both with biases. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.families.building import build
from manyhands.families.decoder import activation, standard
from manyhands.families.values import Config, flag, number


def spec(config: Config) -> ModelSpec:
    """A Jais 2."""
    norm = Norm("layer", number(config, "layer_norm_eps", 1e-5))
    acts = activation(config, "hidden_act", "relu2")
    has_bias = flag(config, "attention_bias", True)
    return build(
        replace(
            standard(config, "jais2", norm=norm, acts=acts),
            mlp="plain",
            has_norm_bias=True,
            has_qkv_bias=has_bias,
            has_o_bias=has_bias,
            has_mlp_bias=flag(config, "mlp_bias", True),
        )
    )
