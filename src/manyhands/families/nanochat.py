"""nanochat: norms without weights, squared ReLUs, rotation the other way round. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.errors import NotServed
from manyhands.families.building import build
from manyhands.families.decoder import Names, activation, context, head_dim, standard
from manyhands.families.layer_types import full_only
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, number, optional_number


def spec(config: Config) -> ModelSpec:
    """A nanochat. It norms queries and keys after turning them, which is the same."""
    windows, width = full_only(config), head_dim(config)
    turn = rope(config, width, context(config))
    turn = replace(turn, inv_freq=tuple(-f for f in turn.inv_freq))
    if turn.inv_freq_long is not None:
        raise NotServed("rope_type 'longrope' is not served for this family")
    norm = Norm("rms", number(config, "rms_norm_eps", 1e-6), bare=True)
    made = standard(
        config,
        "nanochat",
        norm=norm,
        acts=activation(config, "hidden_act", "relu2"),
        windows=windows,
        ropes=(turn,) * len(windows),
    )
    has_bias = flag(config, "attention_bias")
    return build(
        replace(
            made,
            names=Names(up="mlp.fc1", down="mlp.fc2"),
            mlp="plain",
            qk_norm="head",
            qk=norm,
            embed_norm=norm,
            has_qkv_bias=has_bias,
            has_o_bias=has_bias,
            logits_softcap=optional_number(
                {"final_logit_softcapping": 15.0, **config}, "final_logit_softcapping"
            ),
        )
    )
