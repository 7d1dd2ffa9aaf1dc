"""Tiny configs of decoders beyond Llama's kin: what transformers' config class is told, by name.

The name of a case begins with its model type and says what is special about it. Used by `tiny`.
"""

from __future__ import annotations

from typing import Any

_SLIDING_AND_FULL = ["sliding_attention", "full_attention"] * 3
_FACTORS = {
    "short_factor": [1.0 + i / 8 for i in range(8)],
    "long_factor": [2.0 + i for i in range(8)],
}


_OF_SIX = {name: values[:6] for name, values in _FACTORS.items()}
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, **_FACTORS}


def _longrope(original: int, **changes: Any) -> dict[str, Any]:
    rope = {**LONGROPE, **changes, "original_max_position_embeddings": original}
    return {"original_max_position_embeddings": original, "rope_parameters": rope}


def _turned(fraction: float) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": fraction}
    return {"rope_parameters": rope}


_TWO_ROPES = {
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000000.0},
    }
}
_GEMMA = {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 20}
_SOFTCAPS = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0}

DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "arcee": ("Arcee", {"head_dim": 16, "attention_bias": True, "mlp_bias": True}),
    "biogpt": ("BioGpt", {"scale_embedding": True, "tie_word_embeddings": True}),
    "bloom": ("Bloom", {"n_head": 4, "n_layer": 6}),
    "bloom-from-norm": (
        "Bloom",
        {"n_head": 4, "n_layer": 6, "apply_residual_connection_post_layernorm": True},
    ),
    "codegen": ("CodeGen", {"n_inner": 96, "rotary_dim": 8}),
    "cohere": ("Cohere", {"logit_scale": 0.25, "attention_bias": True}),
    "cohere2": ("Cohere2", {"logit_scale": 0.5, "sliding_window": 8, "sliding_window_pattern": 3}),
    "cwm": ("Cwm", {"head_dim": 16, "sliding_window": 8}),
    "ernie4_5": ("Ernie4_5", {"head_dim": 16, "use_bias": True}),
    "exaone4": ("Exaone4", {"sliding_window": 8, "sliding_window_pattern": 3, "head_dim": 16}),
    "exaone4-full": (
        "Exaone4",
        {"sliding_window": None, "head_dim": 16, "layer_types": ["full_attention"] * 6},
    ),
    "falcon-7b": ("Falcon", {"ffn_hidden_size": 96}),
    "falcon-40b": (
        "Falcon",
        {"ffn_hidden_size": 96, "new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    "falcon-11b": (
        "Falcon",
        {
            "ffn_hidden_size": 96,
            "new_decoder_architecture": True,
            "num_kv_heads": 2,
            "num_ln_in_parallel_attn": 1,
        },
    ),
    "falcon-rw": (
        "Falcon",
        {
            "ffn_hidden_size": 96,
            "alibi": True,
            "bias": True,
            "parallel_attn": False,
            "multi_query": False,
            "num_kv_heads": 4,
        },
    ),
    "gemma": ("Gemma", {"head_dim": 16, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2", {**_GEMMA, **_SOFTCAPS}),
    "gemma2-no-caps": (
        "Gemma2",
        {**_GEMMA, "attn_logit_softcapping": None, "final_logit_softcapping": None},
    ),
    "gemma3_text": ("Gemma3Text", {**_GEMMA, **_TWO_ROPES, "layer_types": _SLIDING_AND_FULL}),
    "gemma3": ("Gemma3", {**_GEMMA, "sliding_window_pattern": 2, "tie_word_embeddings": True}),
    "glm": ("Glm", {"head_dim": 16, "attention_bias": True}),
    "glm4": ("Glm4", {"head_dim": 16, "attention_bias": True}),
    "gpt2": ("GPT2", {"tie_word_embeddings": True}),
    "gpt2-no-scale": ("GPT2", {"scale_attn_weights": False, "n_inner": 96}),
    "gpt_bigcode": ("GPTBigCode", {"n_inner": 96}),
    "gpt_bigcode-all-heads": ("GPTBigCode", {"n_inner": 96, "multi_query": False}),
    "gpt_neo": (
        "GPTNeo",
        {
            "num_heads": 4,
            "num_layers": 6,
            "attention_types": [[["global", "local"], 3]],
            "window_size": 8,
        },
    ),
    "gpt_neox": ("GPTNeoX", _turned(0.25)),
    "gpt_neox-serial": (
        "GPTNeoX",
        {**_turned(1.0), "use_parallel_residual": False, "attention_bias": False},
    ),
    "gptj": ("GPTJ", {"n_inner": 96, "rotary_dim": 8}),
    "granite": (
        "Granite",
        {
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.4,
            "attention_multiplier": 0.2,
            "logits_scaling": 4.0,
        },
    ),
    "helium": ("Helium", {"head_dim": 16}),
    "hyperclovax": (
        "HyperCLOVAX",
        {
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.4,
            "logits_scaling": 0.5,
            "attention_multiplier": 0.2,
            "head_dim": 16,
        },
    ),
    "hyperclovax-before": ("HyperCLOVAX", {"use_post_norm": False, "head_dim": 16}),
    "internlm3": ("InternLM3", {"attention_bias": True, "mlp_bias": True, "head_dim": 16}),
    "iquestcoder": ("IQuestCoder", {"head_dim": 16}),
    "jais2": ("Jais2", {"head_dim": 16}),
    "ministral": (
        "Ministral",
        {"head_dim": 16, "sliding_window": 8, "layer_types": _SLIDING_AND_FULL},
    ),
    "ministral-window": ("Ministral", {"head_dim": 16, "sliding_window": 8}),
    "mpt": ("Mpt", {"n_heads": 4, "n_layers": 6, "d_model": 64, "max_seq_len": 512}),
    "mpt-odd-heads": (
        "Mpt",
        {"n_heads": 6, "n_layers": 2, "d_model": 48, "hidden_size": 48, "max_seq_len": 512},
    ),
    "nanochat": ("NanoChat", {"final_logit_softcapping": 5.0}),
    "nemotron": ("Nemotron", {"head_dim": 16}),
    "olmo": ("Olmo", {}),
    "olmo2": ("Olmo2", {"attention_bias": True}),
    "olmo3": ("Olmo3", {"sliding_window": 8, **_TWO_ROPES}),
    "opt": ("OPT", {"ffn_dim": 96, "word_embed_proj_dim": 64, "tie_word_embeddings": True}),
    "opt-bare": (
        "OPT",
        {
            "ffn_dim": 96,
            "word_embed_proj_dim": 64,
            "layer_norm_elementwise_affine": False,
            "enable_bias": False,
        },
    ),
    "persimmon": ("Persimmon", {}),
    "persimmon-no-qk-norm": ("Persimmon", {"qk_layernorm": False}),
    "phi": ("Phi", {}),
    "phi-qk-norm": ("Phi", {"qk_layernorm": True, "hidden_act": "relu"}),
    "phi3": ("Phi3", {"sliding_window": 8}),
    "phi3-longrope": ("Phi3", _longrope(24)),
    "phi3-partial": ("Phi3", _longrope(24, partial_rotary_factor=0.75, **_OF_SIX)),
    "seed_oss": ("SeedOss", {"head_dim": 16, "attention_out_bias": True, "mlp_bias": True}),
    "smollm3": ("SmolLM3", {"tie_word_embeddings": True}),
    "smollm3-window": (
        "SmolLM3",
        {
            "use_sliding_window": True,
            "sliding_window": 8,
            "no_rope_layers": [1, 0] * 3,
            "attention_bias": True,
            "mlp_bias": True,
        },
    ),
    "stablelm": ("StableLm", {"use_qkv_bias": True}),
    "stablelm-parallel": ("StableLm", {"use_parallel_residual": True}),
    "starcoder2": ("Starcoder2", {"sliding_window": 9}),
    "starcoder2-no-bias": ("Starcoder2", {"use_bias": False}),
    "vaultgemma": ("VaultGemma", {**_GEMMA, **_SOFTCAPS}),
}

PLUS_ONE = ("Gemma", "Nemotron", "VaultGemma")
"""Whose norms multiply by one more than their weight: what the config classes begin with."""

SLOW = frozenset(
    {
        "exaone4-full",
        "falcon-11b",
        "gemma2-no-caps",
        "gpt2-no-scale",
        "gpt_bigcode-all-heads",
        "hyperclovax-before",
        "ministral-window",
        "mpt-odd-heads",
        "opt-bare",
        "persimmon-no-qk-norm",
        "phi-qk-norm",
        "starcoder2-no-bias",
    }
)
"""Variants that only `make test-all` runs; each family has a case that is quick."""
