"""OPT: learned positions from the third row on, a plain MLP of ReLUs, biases. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.families.building import build
from manyhands.families.decoder import Names, activation, refuse, shared_out, standard
from manyhands.families.layer_types import block_count
from manyhands.families.values import Config, flag, whole


def spec(config: Config) -> ModelSpec:
    """An OPT. The 350M model norms after instead of before and embeds narrower: refused."""
    refuse(config, to=True, do_layer_norm_before="norms after the residual")
    refuse(config, _remove_final_layer_norm="no norm before the head")
    width = whole(config, "hidden_size")
    refuse(config, to=width, word_embed_proj_dim="an embedding of another width")
    heads = whole(config, "num_attention_heads")
    made = standard(
        {**config, "intermediate_size": whole(config, "ffn_dim")},
        "opt",
        kv_heads=heads,
        head_width=shared_out(config),
        norm=Norm("layer", 1e-5, bare=not flag(config, "layer_norm_elementwise_affine", True)),
        acts=activation(config, "activation_function", "relu"),
        ropes=(None,) * block_count(config),
    )
    names = Names(
        tokens="model.decoder.embed_tokens",
        positions="model.decoder.embed_positions",
        blocks="model.decoder.layers",
        norm="model.decoder.final_layer_norm",
        attention_norm="self_attn_layer_norm",
        mlp_norm="final_layer_norm",
        o="self_attn.out_proj",
        up="fc1",
        down="fc2",
    )
    has_bias = flag(config, "enable_bias", True)
    return build(
        replace(
            made,
            names=names,
            is_tied=flag(config, "tie_word_embeddings", True),
            mlp="plain",
            positions=made.context,
            position_offset=2,
            has_norm_bias=True,
            has_qkv_bias=has_bias,
            has_o_bias=has_bias,
            has_mlp_bias=has_bias,
        )
    )
