"""The decoder that all families of language models describe themselves as: sizes, words and names.

A family file fills a `Decoder`, `building` makes the ModelSpec of it. What most configs call the
same is read by `standard`. Reads no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from manyhands.domain.model_spec import Norm, Rope
from manyhands.errors import CheckpointError, NotServed
from manyhands.families.layer_types import Windows, full_only
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, number, whole, word

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2"]

_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
}


@dataclass(frozen=True, slots=True)
class Names:
    """Where tensors stand in a checkpoint, without `.weight`; those of a block below its prefix.

    An empty name is a tensor that the family does not have. `qkv` and `gate_up` stand for one
    matrix that holds them all.
    """

    tokens: str = "model.embed_tokens"
    positions: str = ""
    embed_norm: str = ""
    blocks: str = "model.layers"
    norm: str = "model.norm"
    head: str = "lm_head"
    attention_norm: str = "input_layernorm"
    attention_after_norm: str = ""
    mlp_norm: str = "post_attention_layernorm"
    mlp_after_norm: str = ""
    q: str = "self_attn.q_proj"
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    qkv: str = ""
    o: str = "self_attn.o_proj"
    q_norm: str = "self_attn.q_norm"
    k_norm: str = "self_attn.k_norm"
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    gate_up: str = ""
    down: str = "mlp.down_proj"


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder in plain values. `windows` and `ropes` have one entry a block.

    `qkv_runs` counts the runs of q, k, v (in `qkv_order`) in a fused matrix: 1 when each is in one
    piece, else one a head or group. `turned` means matrices [in, out] in the blocks, as in GPT-2.
    `has_norm_bias` goes for all norms but those of queries and keys.
    """

    family: str
    width: int
    vocabulary: int
    context: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    activation: Activation
    norm: Norm
    windows: Windows
    ropes: tuple[Rope | None, ...]
    is_tied: bool
    names: Names = Names()
    scale: float | None = None
    flow: Literal["pre", "parallel"] = "pre"
    mlp: Literal["gated", "plain"] = "gated"
    qk_norm: Literal["none", "head", "whole"] = "none"
    qk: Norm | None = None
    softcap: float | None = None
    alibi: tuple[float, ...] | None = None
    qkv_runs: int = 1
    qkv_order: tuple[str, str, str] = ("q", "k", "v")
    turned: bool = False
    has_norm_bias: bool = False
    has_qk_norm_bias: bool = False
    has_qkv_bias: bool = False
    has_o_bias: bool = False
    has_mlp_bias: bool = False
    has_head_bias: bool = False
    residual_scale: float = 1.0
    residual_from_norm: bool = False
    embed_scale: float = 1.0
    embed_norm: Norm | None = None
    positions: int = 0
    position_offset: int = 0
    logits_scale: float = 1.0
    logits_softcap: float | None = None


def standard(
    config: Config,
    family: str,
    *,
    kv_heads: int | None = None,
    head_width: int | None = None,
    norm: Norm | None = None,
    acts: Activation | None = None,
    windows: Windows | None = None,
    ropes: tuple[Rope | None, ...] | None = None,
) -> Decoder:
    """What a config says in the keys of Llama; a family names what it takes from elsewhere.

    Raises CheckpointError for missing or absurd values, NotServed for an unknown activation.
    """
    width = head_dim(config) if head_width is None else head_width
    windows = full_only(config) if windows is None else windows
    return Decoder(
        family=family,
        width=whole(config, "hidden_size"),
        vocabulary=whole(config, "vocab_size"),
        context=context(config),
        heads=whole(config, "num_attention_heads"),
        kv_heads=grouped_kv_heads(config) if kv_heads is None else kv_heads,
        head_dim=width,
        inner=whole(config, "intermediate_size"),
        activation=activation(config, "hidden_act", "silu") if acts is None else acts,
        norm=Norm("rms", number(config, "rms_norm_eps", 1e-6)) if norm is None else norm,
        windows=windows,
        ropes=(rope(config, width, context(config)),) * len(windows) if ropes is None else ropes,
        is_tied=flag(config, "tie_word_embeddings"),
    )


def context(config: Config) -> int:
    """`max_position_embeddings`."""
    return whole(config, "max_position_embeddings", most=2**31)


def head_dim(config: Config) -> int:
    """`head_dim`, or the width shared out evenly among the heads. Raises CheckpointError."""
    return whole(config, "head_dim", shared_out(config, config.get("head_dim") is not None))


def shared_out(config: Config, is_said: bool = False, heads: str = "num_attention_heads") -> int:
    """The width over the heads, whatever `head_dim` says; it must come out even unless `is_said`.

    Raises CheckpointError.
    """
    width, count = whole(config, "hidden_size"), whole(config, heads)
    if width % count and not is_said:
        raise CheckpointError(
            f"config: hidden_size {width} is no multiple of {heads} {count}, and there "
            "is no head_dim; check config.json"
        )
    return max(1, width // count)


def grouped_kv_heads(config: Config) -> int:
    """`num_key_value_heads` where the key must be there; null means one a head."""
    if "num_key_value_heads" not in config:
        raise CheckpointError("config: num_key_value_heads is missing; check config.json")
    return whole(config, "num_key_value_heads", whole(config, "num_attention_heads"))


def activation(config: Config, key: str, default: str | None = None) -> Activation:
    """The function that `key` names. Raises NotServed for one that is not computed here."""
    name = word(config, key, default)
    if name not in _ACTIVATIONS:
        raise NotServed(f"{key} {name!r} is not served; {', '.join(_ACTIVATIONS)} are")
    return _ACTIVATIONS[name]


def refuse(config: Config, *, to: object = False, **switches: str) -> None:
    """Raise NotServed for a key that is set to anything but `to` or null; its text says what it is.

    For switches that change what a model computes and that no engine of ours knows.
    """
    for key, meaning in switches.items():
        if config.get(key) is not None and config[key] != to:
            raise NotServed(f"{key} is {config[key]!r} ({meaning}), which is not served")
