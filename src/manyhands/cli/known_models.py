"""Eight well-known models as facts: what their published `config.json` says of shape and size.

Enough to plan with, nothing to run with. Knows nothing of files or machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.family import model_spec

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model by its common name. `parameters` are as published."""

    name: str
    parameters: float
    config: Facts

    def spec(self) -> ModelSpec:
        """What our families make of its config."""
        return model_spec(self.config)


def _sizes(width: int, inner: int, blocks: int, heads: int, kv_heads: int) -> Facts:
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": blocks,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
    }


def _llama3(sizes: Facts, head_dim: int, factor: float, *, tied: bool) -> Facts:
    return {
        "model_type": "llama",
        **sizes,
        "head_dim": head_dim,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "tie_word_embeddings": tied,
    }


def _qwen(model_type: str, sizes: Facts, context: int, *, tied: bool) -> Facts:
    own = {"head_dim": 128, "attention_bias": False} if model_type == "qwen3" else {}
    return {
        "model_type": model_type,
        **sizes,
        **own,
        "vocab_size": 151936,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "use_sliding_window": False,
        "tie_word_embeddings": tied,
    }


_MISTRAL: Facts = {
    "model_type": "mistral",
    **_sizes(4096, 14336, 32, 32, 8),
    "vocab_size": 32768,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
}

KNOWN_MODELS = (
    KnownModel(
        "Qwen2.5-0.5B", 0.494e9, _qwen("qwen2", _sizes(896, 4864, 24, 14, 2), 32768, tied=True)
    ),
    KnownModel(
        "Llama-3.2-1B", 1.236e9, _llama3(_sizes(2048, 8192, 16, 32, 8), 64, 32.0, tied=True)
    ),
    KnownModel(
        "Llama-3.2-3B", 3.213e9, _llama3(_sizes(3072, 8192, 28, 24, 8), 128, 32.0, tied=True)
    ),
    KnownModel(
        "Qwen3-4B", 4.022e9, _qwen("qwen3", _sizes(2560, 9728, 36, 32, 8), 40960, tied=True)
    ),
    KnownModel("Mistral-7B-v0.3", 7.248e9, _MISTRAL),
    KnownModel(
        "Llama-3.1-8B", 8.030e9, _llama3(_sizes(4096, 14336, 32, 32, 8), 128, 8.0, tied=False)
    ),
    KnownModel(
        "Qwen3-32B", 32.76e9, _qwen("qwen3", _sizes(5120, 25600, 64, 64, 8), 40960, tied=False)
    ),
    KnownModel(
        "Llama-3.3-70B", 70.55e9, _llama3(_sizes(8192, 28672, 80, 64, 8), 128, 8.0, tied=False)
    ),
)
"""Smallest first."""
