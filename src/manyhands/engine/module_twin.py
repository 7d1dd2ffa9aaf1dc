"""A config made tiny: the same switches, few blocks, small sizes; for the twin a model is tried on.

Works on the names that configs use for their sizes, which are much the same everywhere. A family
that names them otherwise keeps its sizes, or its twin cannot be built and says so: nothing is
assumed to be right because it was made here, the twin is run. Knows no library.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

LEAST_BLOCKS, MOST_BLOCKS = 6, 12
WIDTH, HEADS, HEAD, INNER, TOKENS, POSITIONS, WINDOW = 64, 4, 16, 96, 320, 512, 8

_BLOCKS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "decoder_layers",
    "num_decoder_layers",
    "encoder_layers",
    "num_encoder_layers",
    "num_blocks",
)
_PERIODS = ("attn_layer_period", "full_attention_interval", "layer_group_size")
_KEY_HEADS = re.compile("(swa_)?(num_key_value_heads|num_kv_heads|num_query_groups)")


def _fixed(size: int) -> Callable[[int], int]:
    return lambda _: size


def _at_most(size: int) -> Callable[[int], int]:
    return lambda value: min(value, size)


_SIZES: tuple[tuple[str, Callable[[int], int]], ...] = (
    ("(unpadded_)?(\\w+_)?vocab_size(_\\w+)?", _at_most(TOKENS)),
    ("lru_width|hidden_dim|dim|emb_dim|d_model|n_embd", _fixed(WIDTH)),
    ("((in|out)put_)?(hidden_size|embedding_(dim|size))|word_embed_proj_dim", _fixed(WIDTH)),
    ("mamba_(n_|num_)heads", _fixed(2 * HEADS)),
    ("linear_num_key_heads", _fixed(HEADS // 2)),
    ("linear_num_value_heads", _fixed(HEADS)),
    (
        "((swa|index|linear|encoder|decoder|num_encoder|num_decoder)_)?"
        "((num|n)_)?(attention_|query_)?heads|n_head|index_n_heads|linear_num_heads"
        "|num_(en|de)coder_attention_heads",
        _fixed(HEADS),
    ),
    ("(\\w+_)?qk_(rope|nope)_head_dim|rotary_dim", _fixed(HEAD // 2)),
    ("mamba_(d_head|head_?dim)", _fixed(HEAD)),
    ("mamba_d_ssm", _fixed(2 * WIDTH)),
    (
        "(\\w+_)?head_dim|attention_head_size|d_head|dim_head|kv_channels|d_kv",
        _fixed(HEAD),
    ),
    ("(\\w+_)?intermediate_size(_\\w+)?|n_inner|d_inner|d_?ff|dim_ff", _at_most(INNER)),
    (
        "(\\w+_)?ffn_dim|(expert_)?ffn_hidden_size|feed_forward_size|block_ff_dim",
        _at_most(INNER),
    ),
    ("(\\w+_)?rank", _at_most(HEAD)),
    ("(num_|n_)?(routed_|local_)?experts|moe_num_experts|zero_expert_num", _at_most(4)),
    ("num_experts_per_tok(en)?|moe_(topk|k)|top_k_experts|experts_per_token", _at_most(2)),
    ("n_group|num_expert_group|topk_group", _fixed(1)),
    ("(n_|num_|moe_num_)shared_experts", _at_most(1)),
    (
        "(\\w+_)?sliding_window(_size)?|window_size|local_attention|attention_chunk_size"
        "|attention_window_size|keep_window_size",
        _at_most(WINDOW),
    ),
    (
        "max_position_embeddings|n_positions|n_ctx|max_seq_len|max_(source|target)_positions"
        "|context_length|model_max_length",
        _at_most(POSITIONS),
    ),
    ("(mamba_)?d_state|(ssm_)?state_size", _at_most(HEAD)),
    ("(mamba_)?dt_rank|time_step_rank", _at_most(WINDOW)),
    ("(mamba_)?n_?groups", _fixed(1)),
    ("(mamba_)?chunk_size|index_block_size|hidden_size_per_layer_input", _at_most(WINDOW)),
    ("index_topk", _at_most(HEAD)),
    ("o_groups", _at_most(2)),
    ("local_radius|global_block_size", _at_most(WINDOW // 2)),
    ("num_random_blocks", _at_most(1)),
    ("first_k_dense_replace|num_dense_layers", _at_most(1)),
)
_RULES = tuple((re.compile(names), size) for names, size in _SIZES)


def tiny(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with small sizes; what is small already stays as it is.

    Lists with an entry a block are cut with the blocks, so that every kind of block is kept where
    they come early enough.
    """
    blocks, kept = _depth(config)
    heads = next((config[name] for name in _heads(config)), 0)
    made: dict[str, Any] = {}
    for name, value in config.items():
        if name == "per_layer_config" and isinstance(value, Mapping):
            made[name] = {place: one for place, one in value.items() if int(place) < kept}
        elif isinstance(value, Mapping):
            made[name] = dict(value) if name.startswith("rope") else tiny(value)
        elif isinstance(value, (list, tuple)):
            is_a_block = blocks > kept and len(value) == blocks
            made[name] = list(value)[:kept] if is_a_block else _small_ids(name, value)
        elif isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            made[name] = value
        elif name in _BLOCKS:
            made[name] = min(value, kept)
        elif name in ("attention_hidden_size", "attention_head_dim"):
            wide = config.get("attention_hidden_size", 1) // config.get("hidden_size", 1)
            made[name] = (HEAD if name.endswith("dim") else WIDTH) * max(1, wide)
        elif name == "block_size" and "num_random_blocks" in config:
            made[name] = 1  # such families attend sparsely only to texts of many blocks
        elif name == "head_dim" and "qk_rope_head_dim" in config:
            made[name] = HEAD // 2  # such families mean the rotary part by it
        elif _KEY_HEADS.fullmatch(name):
            made[name] = 1 if value == 1 else HEADS if value >= heads else HEADS // 2
        elif name.endswith(("_token_id", "_token_index")):
            made[name] = value if value < TOKENS else value % HEAD
        else:
            rule = next((size for names, size in _RULES if names.fullmatch(name)), None)
            made[name] = value if rule is None else rule(value)
    return made


def _heads(config: Mapping[str, Any]) -> list[str]:
    names = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")
    return [name for name in names if isinstance(config.get(name), int)]


def _depth(config: Mapping[str, Any]) -> tuple[int, int]:
    """How many blocks there are and how many are kept: one of each kind at least, if early."""
    blocks = next((config[name] for name in _BLOCKS if isinstance(config.get(name), int)), 0)
    least = LEAST_BLOCKS
    kinds = config.get("layer_types") or config.get("layers_block_type")
    if isinstance(kinds, (list, tuple)) and len(kinds) == blocks:
        least = max([least, *(list(kinds).index(kind) + 1 for kind in kinds)])
    periods = (config[name] for name in _PERIODS if isinstance(config.get(name), int))
    least = max([least, *(2 * period for period in periods)])
    return blocks, min(blocks or LEAST_BLOCKS, least, MOST_BLOCKS)


def _small_ids(name: str, values: list[Any] | tuple[Any, ...]) -> list[Any]:
    if not name.endswith("_token_id"):
        return list(values)
    return [value % HEAD if isinstance(value, int) else value for value in values]
