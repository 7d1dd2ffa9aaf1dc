"""Which words of a ModelSpec the block engines compute; any other is refused by name.

Both block engines serve the same words, so that a peer without torch can stand in for one with it.
Knows nothing of tensors: a tensor nobody takes is refused where the tables are read.
"""

from __future__ import annotations

from collections.abc import Iterator

from manyhands.domain.model_spec import (
    Attention,
    BlockSpec,
    EmbedSpec,
    HeadSpec,
    ModelSpec,
    ModuleSpec,
    Moe,
)
from manyhands.domain.span import Span
from manyhands.errors import NotServed, UserError

TRANSFORMERS = "5.23"
"""The version of transformers whose models without a family file are run (engine/torch_modules)."""


def check_served(spec: ModelSpec, span: Span) -> None:
    """Raise NotServed naming each unserved word of the span, UserError for a span outside.

    Flows pre, post and parallel, rotary, learned or alibi positions or none, windows, softcaps,
    sinks, qk-norm, norms before and after, biases and scales, mixtures of experts and latent
    attention are served; so are encoders of texts and images with what their heads pool.
    """
    if not spec.span.covers(span):
        raise UserError(f"span {span} is outside this model's layers {spec.span}")
    words: dict[str, None] = {}
    for layer in spec.layers[span.first : span.last]:
        match layer.part:
            case BlockSpec() as block:
                words.update(dict.fromkeys(_block_words(block, spec)))
            case EmbedSpec() as embed:
                words.update(dict.fromkeys(_embed_words(embed, spec)))
            case HeadSpec() as head:
                words.update(dict.fromkeys(_head_words(head, spec)))
            case ModuleSpec():
                words["transformers' own code"] = None
    if words:
        raise NotServed(
            f"the family {spec.family} needs {', '.join(words)}, which the block engines do not "
            "compute yet; use a model without it"
        )


def _block_words(block: BlockSpec, spec: ModelSpec) -> Iterator[str]:
    attention = block.attention
    if block.moe is not None:
        yield from _mixture_words(block.moe)
    if attention.latent is not None:
        yield from _latent_words(attention)
    if not attention.causal and spec.keeps_memory:
        yield "attention that is not causal beside some that is"
    if block.flow == "post" and block.residual_scale != 1:
        yield "a residual_scale beside flow 'post'"
    if block.residual_from_norm and block.flow != "pre":
        yield f"residual_from_norm in a {block.flow} flow"
    if attention.alibi is not None and (
        attention.window or attention.sinks or not attention.causal
    ):
        yield "alibi with a window, sinks or attention that is not causal"
    if (block.mlp.activation == "swiglu_oai") and block.mlp.kind != "gated":
        yield "a plain swiglu_oai"


def _mixture_words(moe: Moe) -> Iterator[str]:
    if moe.experts % moe.groups:
        yield f"{moe.experts} experts in {moe.groups} groups"
    if moe.softmax_after_topk and moe.scoring != "softmax":
        yield f"{moe.scoring} scores with softmax_after_topk"


def _latent_words(attention: Attention) -> Iterator[str]:
    """What latent attention is not computed together with."""
    others = {
        "no rope": attention.rope is None,
        "a window": attention.window is not None,
        "a softcap": attention.softcap is not None,
        "sinks": attention.sinks,
        "a qk-norm of heads": attention.qk_norm != "none",
        "tokens that see those behind them": not attention.causal,
    }
    for word, is_there in others.items():
        if is_there:
            yield f"latent attention with {word}"


def _embed_words(embed: EmbedSpec, spec: ModelSpec) -> Iterator[str]:
    if embed.patches is not None and spec.keeps_memory:
        yield "patches (images) beside causal attention"


def _head_words(head: HeadSpec, spec: ModelSpec) -> Iterator[str]:
    if head.kind != "lm" and spec.keeps_memory:
        yield f"a head of kind {head.kind!r} beside causal attention"
    if head.kind == "lm" and not spec.keeps_memory:
        yield "a head of kind 'lm' beside attention that is not causal"
