"""Real engines and models for the tests of engine/: stages in a row, odd models of transformers.

stages = Stages(load, spec, weights, cuts)     # one engine a span, called one after the other
odd("gemma2")                                  # a family without file: spec, weights, oracle
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import transformers

from manyhands.domain.ids import SessionId
from manyhands.domain.model_spec import (
    Attention,
    BlockSpec,
    EmbedSpec,
    HeadSpec,
    LayerSpec,
    Mlp,
    ModelSpec,
    Norm,
    Rope,
    TensorSource,
)
from manyhands.domain.span import Span
from manyhands.domain.tensor_frame import StoredTensor
from manyhands.engine import numpy_blocks, torch_blocks
from manyhands.engine.engine import Chunk, Engine, Weights

LOADS = {"numpy": numpy_blocks.load, "torch": torch_blocks.load}
"""Every engine that must agree with transformers in float32."""

KV_BYTES = 1 << 24


def session(number: int) -> SessionId:
    return SessionId(f"{number:032x}")


class Stages:
    """Engines over touching spans, as a route would call them."""

    def __init__(
        self, load: Callable[..., Engine], spec: ModelSpec, weights: Weights, cuts: Sequence[int]
    ) -> None:
        ends = [0, *cuts, len(spec.layers)]
        self.engines = [
            load(spec, Span(a, b), weights, kv_bytes=KV_BYTES) for a, b in pairwise(ends)
        ]

    def open(
        self, name: SessionId, limit: int, parent: SessionId | None = None, at: int = 0
    ) -> None:
        for engine in self.engines:
            engine.open(name, limit, parent, at)

    def step(self, *parts: tuple[SessionId, int, Sequence[int]]) -> list[np.ndarray]:
        """(session, position, tokens) each -> scores of every row of each."""
        hidden = [None] * len(parts)
        for engine in self.engines:
            chunks = [
                Chunk(name, position, tuple(tokens), given, tuple(range(len(tokens))))
                for (name, position, tokens), given in zip(parts, hidden, strict=True)
            ]
            outputs = engine.step(chunks)
            hidden = [output.hidden for output in outputs]
        return [output.scores for output in outputs]

    def forward(self, tokens: Sequence[int]) -> np.ndarray:
        hidden = None
        for engine in self.engines:
            output = engine.forward(tokens, hidden)
            hidden = output.hidden
        return output.scores


def weights_of(tensors: Mapping[str, np.ndarray], dtype: str = "F32") -> Weights:
    """Weights out of a dict of arrays; a row layout is cut, as `store` does."""

    def read(source: TensorSource) -> StoredTensor:
        array = np.ascontiguousarray(tensors[source.names[0]])
        if source.layout == "rows":
            array = array[source.first : source.last]
        return StoredTensor(dtype, array.shape, memoryview(array.tobytes()))

    return read


@dataclass(frozen=True)
class Odd:
    """A model whose family has no file yet, but whose words the engines serve."""

    spec: ModelSpec
    weights: Weights
    model: transformers.PreTrainedModel

    def scores(self, tokens: Sequence[int]) -> np.ndarray:
        with torch.inference_mode():
            return self.model(torch.tensor([list(tokens)]), use_cache=False).logits[0].numpy()


BASE = {
    "vocab_size": 160,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "attn_implementation": "eager",
}

NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
QKVO = {name: f"self_attn.{name}_proj" for name in "qkvo"}
GATED = {name: f"mlp.{name}_proj" for name in ("gate", "up", "down")}


def odd(name: str) -> Odd:
    """Build one of ODD."""
    return ODD[name]()


def _random(config: transformers.PretrainedConfig) -> transformers.PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() == 1:
                    weight.copy_(weight + 0.3 * torch.randn_like(weight))
                else:
                    weight.copy_(1.5 * torch.randn_like(weight) / weight.shape[-1] ** 0.5)
    return model


def _odd(
    model: transformers.PreTrainedModel,
    block: Callable[[int], BlockSpec],
    names: Mapping[str, str],
    embed: EmbedSpec | None = None,
    head: HeadSpec | None = None,
    head_name: str = "lm_head",
) -> Odd:
    """Spec and weights; `names` maps ours to theirs in model.layers.N, (theirs, a, b) to rows."""
    config, state = model.config, {k: v.numpy() for k, v in model.state_dict().items()}
    width, vocabulary = config.hidden_size, config.vocab_size

    def table(prefix: str, wanted: Mapping[str, str]) -> dict[str, TensorSource]:
        found = {}
        for ours, theirs in wanted.items():
            path, *cut = (theirs,) if isinstance(theirs, str) else theirs
            for ending, suffix in (("", ".weight"), (".bias", ".bias")):
                full = f"{prefix}{path}{suffix}"
                if full not in state:
                    continue
                shape = state[full].shape
                if cut:
                    first, last = cut
                    shape = (last - first, *shape[1:])
                    found[ours + ending] = TensorSource((full,), shape, "rows", first, last)
                else:
                    found[ours + ending] = TensorSource((full,), shape)
        return found

    blocks = [
        LayerSpec(block(n), table(f"model.layers.{n}.", names))
        for n in range(config.num_hidden_layers)
    ]
    embeds = LayerSpec(embed or EmbedSpec(vocabulary), table("model.", {"tokens": "embed_tokens"}))
    norm = blocks[0].part.norm
    scores = LayerSpec(
        head or HeadSpec(norm, "lm", vocabulary),
        {**table("model.", {"norm": "norm"}), **table("", {"head": head_name})},
    )
    layers = (embeds, *blocks, scores)
    spec = ModelSpec("odd", width, vocabulary, config.max_position_embeddings, layers)
    return Odd(spec, weights_of(state), model)


def _rope(model: transformers.PreTrainedModel, **words) -> Rope:
    rotary = model.model.rotary_emb
    return Rope(tuple(rotary.inv_freq.tolist()), attention_factor=rotary.attention_scaling, **words)


def _gemma2() -> Odd:
    """Sandwich norms, plus-one, softcaps, a scaled embedding, a window in every other block."""
    model = _random(
        transformers.Gemma2Config(
            **BASE, head_dim=16, sliding_window=8, query_pre_attn_scalar=20,
            attn_logit_softcapping=2.0, final_logit_softcapping=5.0,
        )
    )  # fmt: skip
    config, norm = model.config, Norm("rms", 1e-6, plus_one=True)
    rope = _rope(model)

    def block(n: int) -> BlockSpec:
        window = 8 if config.layer_types[n] == "sliding_attention" else None
        attention = Attention(4, 2, 16, 16, 20**-0.5, window=window, softcap=2.0, rope=rope)
        return BlockSpec(norm, attention, Mlp("gated", "gelu_tanh", 80))

    names = {
        **QKVO,
        **GATED,
        "attention_norm": "input_layernorm",
        "attention_after_norm": "post_attention_layernorm",
        "mlp_norm": "pre_feedforward_layernorm",
        "mlp_after_norm": "post_feedforward_layernorm",
    }
    return _odd(
        model, block, names, EmbedSpec(160, scale=48**0.5), HeadSpec(norm, "lm", 160, softcap=5.0)
    )


def _granite() -> Odd:
    """Multipliers everywhere."""
    model = _random(
        transformers.GraniteConfig(
            **BASE, embedding_multiplier=3.0, residual_multiplier=0.4, attention_multiplier=0.2,
            logits_scaling=4.0,
        )
    )  # fmt: skip
    norm = Norm("rms", model.config.rms_norm_eps)
    block = BlockSpec(
        norm,
        Attention(4, 2, 12, 12, 0.2, rope=_rope(model)),
        Mlp("gated", "silu", 80),
        residual_scale=0.4,
    )
    head = HeadSpec(norm, "lm", 160, logits_scale=0.25)
    names = {**QKVO, **GATED, **NORMS}
    return _odd(model, lambda n: block, names, EmbedSpec(160, scale=3.0), head)


def _starcoder2() -> Odd:
    """Layer norms with biases, a plain MLP, biases on every matrix, a window."""
    model = _random(transformers.Starcoder2Config(**BASE, use_bias=True, sliding_window=9))
    block = BlockSpec(
        Norm("layer", model.config.norm_epsilon),
        Attention(4, 2, 12, 12, 12**-0.5, window=9, rope=_rope(model)),
        Mlp("plain", "gelu_tanh", 80),
    )
    names = {**QKVO, **NORMS, "up": "mlp.c_fc", "down": "mlp.c_proj"}
    return _odd(model, lambda n: block, names)


def _glm() -> Odd:
    """Interleaved rotary positions on half of each head, gate and up stored as one matrix."""
    model = _random(
        transformers.GlmConfig(
            **BASE, head_dim=16, attention_bias=True,
            rope_parameters={
                "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5
            },
        )
    )  # fmt: skip
    block = BlockSpec(
        Norm("rms", model.config.rms_norm_eps),
        Attention(4, 2, 16, 16, 0.25, rope=_rope(model, interleaved=True)),
        Mlp("gated", "silu", 80),
    )
    names = {
        **QKVO,
        **NORMS,
        "gate": ("mlp.gate_up_proj", 0, 80),
        "up": ("mlp.gate_up_proj", 80, 160),
        "down": "mlp.down_proj",
    }
    return _odd(model, lambda n: block, names)


def _phi3() -> Odd:
    """q, k, v stored as one matrix; other rotary frequencies beyond 24 tokens."""
    short, long = [1.0 + 0.1 * i for i in range(6)], [2.0 + i for i in range(6)]
    model = _random(
        transformers.Phi3Config(
            **BASE, original_max_position_embeddings=24,
            rope_parameters={
                "rope_type": "longrope", "rope_theta": 1e4, "short_factor": short,
                "long_factor": long, "original_max_position_embeddings": 24,
                "partial_rotary_factor": 1.0,
            },
        )
    )  # fmt: skip
    base = [1e4 ** (-2 * i / 12) for i in range(6)]
    rope = Rope(
        tuple(f / s for f, s in zip(base, short, strict=True)),
        attention_factor=model.model.rotary_emb.attention_scaling,
        inv_freq_long=tuple(f / s for f, s in zip(base, long, strict=True)),
        switch_at=24,
    )
    block = BlockSpec(
        Norm("rms", model.config.rms_norm_eps),
        Attention(4, 2, 12, 12, 12**-0.5, rope=rope),
        Mlp("gated", "silu", 80),
    )
    names = {
        **NORMS,
        "q": ("self_attn.qkv_proj", 0, 48),
        "k": ("self_attn.qkv_proj", 48, 72),
        "v": ("self_attn.qkv_proj", 72, 96),
        "o": "self_attn.o_proj",
        "gate": ("mlp.gate_up_proj", 0, 80),
        "up": ("mlp.gate_up_proj", 80, 160),
        "down": "mlp.down_proj",
    }
    return _odd(model, lambda n: block, names)


ODD = {
    "gemma2": _gemma2,
    "granite": _granite,
    "starcoder2": _starcoder2,
    "glm": _glm,
    "phi3": _phi3,
}
