"""GPT-NeoX, Pythia: q, k, v by head in one matrix, two norms side by side or in turn. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.families.building import build
from manyhands.families.decoder import Names, activation, context, shared_out, standard
from manyhands.families.layer_types import full_only
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, number, whole


def spec(config: Config) -> ModelSpec:
    """A GPT-NeoX. `rotary_pct` and `rotary_emb_base` are its older spelling."""
    old = {
        "partial_rotary_factor": config.get("rotary_pct"),
        "rope_theta": config.get("rotary_emb_base"),
    }
    windows, width = full_only(config), shared_out(config)
    turn = rope({**old, **config}, width, context(config), turned=0.25)
    heads = whole(config, "num_attention_heads")
    has_bias = flag(config, "attention_bias", True)
    made = standard(
        config,
        "gpt_neox",
        kv_heads=heads,
        head_width=width,
        norm=Norm("layer", number(config, "layer_norm_eps", 1e-5)),
        acts=activation(config, "hidden_act", "gelu"),
        windows=windows,
        ropes=(turn,) * len(windows),
    )
    names = Names(
        tokens="gpt_neox.embed_in",
        blocks="gpt_neox.layers",
        norm="gpt_neox.final_layer_norm",
        head="embed_out",
        qkv="attention.query_key_value",
        o="attention.dense",
        up="mlp.dense_h_to_4h",
        down="mlp.dense_4h_to_h",
    )
    return build(
        replace(
            made,
            names=names,
            flow="parallel" if flag(config, "use_parallel_residual", True) else "pre",
            mlp="plain",
            qkv_runs=heads,
            has_norm_bias=True,
            has_qkv_bias=has_bias,
            has_o_bias=has_bias,
            has_mlp_bias=True,
        )
    )
