"""GPT-J: attention and MLP side by side, neighbouring pairs turned, biases in the MLP. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import Decoder, Names
from manyhands.families.gpt2 import GPT, gpt2_sizes
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, whole


def spec(config: Config) -> ModelSpec:
    """A GPT-J."""
    names = Names(q="attn.q_proj", k="attn.k_proj", v="attn.v_proj", o="attn.out_proj")
    return build(gptj(config, "gptj", names))


def gptj(config: Config, family: str, names: Names) -> Decoder:
    """What GPT-J and CodeGen share; `names` those of the attention."""
    made = gpt2_sizes(config, family, "gelu_new")
    turned = whole(config, "rotary_dim", 64, most=made.head_dim)
    turn = rope({}, turned, made.context, interleaved=True)
    return replace(
        made,
        names=replace(
            names,
            tokens=GPT.tokens,
            blocks=GPT.blocks,
            norm=GPT.norm,
            attention_norm="ln_1",
            mlp_norm="",
            up="mlp.fc_in",
            down="mlp.fc_out",
        ),
        flow="parallel",
        ropes=(turn,) * len(made.windows),
        is_tied=flag(config, "tie_word_embeddings"),
        positions=0,
        has_qkv_bias=False,
        has_o_bias=False,
        has_head_bias=True,
    )
