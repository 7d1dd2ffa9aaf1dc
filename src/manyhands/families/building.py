"""From a `Decoder` to the row of layers: what each block computes and the table of its tensors.

Knows no config and no family.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from manyhands.domain.model_spec import (
    Attention,
    BlockSpec,
    EmbedSpec,
    HeadSpec,
    LayerSpec,
    LayoutKind,
    Mlp,
    ModelSpec,
    Rope,
    TensorSource,
)
from manyhands.errors import CheckpointError
from manyhands.families.decoder import Decoder


def build(decoder: Decoder) -> ModelSpec:
    """The row of layers: embedding, blocks, head. Raises CheckpointError for sizes at odds."""
    if decoder.heads % decoder.kv_heads:
        raise CheckpointError(
            f"config: num_attention_heads {decoder.heads} is no multiple of num_key_value_heads "
            f"{decoder.kv_heads}; check config.json"
        )
    kinds = list(zip(decoder.windows, decoder.ropes, strict=True))
    parts = {kind: block_spec(decoder, *kind) for kind in set(kinds)}
    blocks = (
        LayerSpec(parts[kind], block_tensors(decoder, f"{decoder.names.blocks}.{place}."))
        for place, kind in enumerate(kinds)
    )
    return ModelSpec(
        family=decoder.family,
        width=decoder.width,
        vocabulary=decoder.vocabulary,
        context=decoder.context,
        layers=(_embed(decoder), *blocks, _head(decoder)),
    )


def block_spec(decoder: Decoder, window: int | None, rope: Rope | None) -> BlockSpec:
    """What a block of this decoder computes."""
    scale = 1 / math.sqrt(decoder.head_dim)  # exact in IEEE, unlike a power: it is hashed
    return BlockSpec(
        norm=decoder.norm,
        attention=Attention(
            heads=decoder.heads,
            kv_heads=decoder.kv_heads,
            head_dim=decoder.head_dim,
            v_head_dim=decoder.head_dim,
            scale=scale if decoder.scale is None else decoder.scale,
            window=window,
            softcap=decoder.softcap,
            qk_norm=decoder.qk_norm,
            qk=decoder.qk,
            rope=rope,
            alibi=decoder.alibi,
        ),
        mlp=Mlp(decoder.mlp, decoder.activation, decoder.inner),
        flow=decoder.flow,
        residual_scale=decoder.residual_scale,
        residual_from_norm=decoder.residual_from_norm,
    )


def block_tensors(decoder: Decoder, prefix: str) -> dict[str, TensorSource]:
    """The table of one block, whose tensors begin with `prefix`."""
    return dict([*_norms(decoder, prefix), *_attention(decoder, prefix), *_mlp(decoder, prefix)])


_Entries = Iterator[tuple[str, TensorSource]]


def _norm(name: str, path: str, width: int, has_bias: bool) -> _Entries:
    yield name, TensorSource((f"{path}.weight",), (width,))
    if has_bias:
        yield f"{name}.bias", TensorSource((f"{path}.bias",), (width,))


def _norms(decoder: Decoder, prefix: str) -> _Entries:
    names, width = decoder.names, decoder.width
    found = {
        "attention_norm": names.attention_norm,
        "attention_after_norm": names.attention_after_norm,
        "mlp_norm": names.mlp_norm,
        "mlp_after_norm": names.mlp_after_norm,
    }
    for name, path in found.items():
        if path and not decoder.norm.bare:
            yield from _norm(name, prefix + path, width, decoder.has_norm_bias)
    if decoder.qk_norm == "none" or (decoder.qk or decoder.norm).bare:
        return
    is_whole = decoder.qk_norm == "whole"
    for name, path, heads in (
        ("q_norm", names.q_norm, decoder.heads),
        ("k_norm", names.k_norm, decoder.kv_heads),
    ):
        size = decoder.head_dim * (heads if is_whole else 1)
        yield from _norm(name, prefix + path, size, decoder.has_qk_norm_bias)


def _matrix(
    decoder: Decoder, name: str, path: str, out: int, into: int, has_bias: bool
) -> _Entries:
    layout: LayoutKind = "transpose" if decoder.turned else "plain"
    yield name, TensorSource((f"{path}.weight",), (out, into), layout)
    if has_bias:
        yield f"{name}.bias", TensorSource((f"{path}.bias",), (out,))


def _fused(
    decoder: Decoder, path: str, outs: dict[str, int], into: int, runs: int, has_bias: bool
) -> _Entries:
    """Matrices that lie under each other in one, `runs` times a part of each."""
    layout: LayoutKind = "columns" if decoder.turned else "rows"
    of, first = sum(outs.values()) // runs, 0
    for name, out in outs.items():
        last = first + out // runs
        yield name, TensorSource((f"{path}.weight",), (out, into), layout, first, last, of)
        if has_bias:
            yield f"{name}.bias", TensorSource((f"{path}.bias",), (out,), "rows", first, last, of)
        first = last


def _attention(decoder: Decoder, prefix: str) -> _Entries:
    names, width = decoder.names, decoder.width
    queries, keys = decoder.heads * decoder.head_dim, decoder.kv_heads * decoder.head_dim
    outs = {"q": queries, "k": keys, "v": keys}
    if names.qkv:
        path = prefix + names.qkv
        outs = {name: outs[name] for name in decoder.qkv_order}
        yield from _fused(decoder, path, outs, width, decoder.qkv_runs, decoder.has_qkv_bias)
    else:
        for name, path in zip(outs, (names.q, names.k, names.v), strict=True):
            yield from _matrix(
                decoder, name, prefix + path, outs[name], width, decoder.has_qkv_bias
            )
    yield from _matrix(decoder, "o", prefix + names.o, width, queries, decoder.has_o_bias)


def _mlp(decoder: Decoder, prefix: str) -> _Entries:
    names, width, inner, bias = decoder.names, decoder.width, decoder.inner, decoder.has_mlp_bias
    if decoder.mlp == "gated" and names.gate_up:
        outs = {"gate": inner, "up": inner}
        yield from _fused(decoder, prefix + names.gate_up, outs, width, 1, bias)
    else:
        if decoder.mlp == "gated":
            yield from _matrix(decoder, "gate", prefix + names.gate, inner, width, bias)
        yield from _matrix(decoder, "up", prefix + names.up, inner, width, bias)
    yield from _matrix(decoder, "down", prefix + names.down, width, inner, bias)


def _tokens(decoder: Decoder) -> TensorSource:
    return TensorSource((f"{decoder.names.tokens}.weight",), (decoder.vocabulary, decoder.width))


def _embed(decoder: Decoder) -> LayerSpec:
    part = EmbedSpec(
        tokens=decoder.vocabulary,
        scale=decoder.embed_scale,
        norm=decoder.embed_norm,
        positions=decoder.positions,
        position_offset=decoder.position_offset,
    )
    table = {"tokens": _tokens(decoder)}
    if decoder.positions:
        rows = decoder.positions + decoder.position_offset
        path = f"{decoder.names.positions}.weight"
        table["positions"] = TensorSource((path,), (rows, decoder.width))
    if decoder.embed_norm is not None and not decoder.embed_norm.bare:
        path = decoder.names.embed_norm
        table.update(_norm("norm", path, decoder.width, decoder.has_norm_bias))
    return LayerSpec(part, table)


def _head(decoder: Decoder) -> LayerSpec:
    names, tokens = decoder.names, _tokens(decoder)
    part = HeadSpec(
        norm=decoder.norm,
        kind="lm",
        outputs=decoder.vocabulary,
        softcap=decoder.logits_softcap,
        logits_scale=decoder.logits_scale,
    )
    table: dict[str, TensorSource] = {}
    if not decoder.norm.bare:
        table.update(_norm("norm", names.norm, decoder.width, decoder.has_norm_bias))
    table["head"] = (
        TensorSource(tokens.names, tokens.shape, "tied")
        if decoder.is_tied
        else TensorSource((f"{names.head}.weight",), tokens.shape)
    )
    if decoder.has_head_bias:
        table["head.bias"] = TensorSource((f"{names.head}.bias",), (decoder.vocabulary,))
    return LayerSpec(part, table)
