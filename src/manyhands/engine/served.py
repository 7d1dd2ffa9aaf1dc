"""Which words of a ModelSpec the block engines compute; any other is refused by name.

Both block engines serve the same words, so that a peer without torch can stand in for one with it.
Knows nothing of tensors: a tensor nobody takes is refused where the tables are read.
"""

from __future__ import annotations

from collections.abc import Iterator

from manyhands.domain.model_spec import Attention, BlockSpec, EmbedSpec, HeadSpec, ModelSpec, Moe
from manyhands.domain.span import Span
from manyhands.errors import NotServed, UserError


def check_served(spec: ModelSpec, span: Span) -> None:
    """Raise NotServed naming each unserved word of the span, UserError for a span outside.

    Flows pre and parallel, rotary, learned or alibi positions or none, windows, softcaps, sinks,
    qk-norm, norms before and after, biases and scales, mixtures of experts and latent attention are
    served.
    """
    if not spec.span.covers(span):
        raise UserError(f"span {span} is outside this model's layers {spec.span}")
    words: dict[str, None] = {}
    for layer in spec.layers[span.first : span.last]:
        match layer.part:
            case BlockSpec() as block:
                words.update(dict.fromkeys(_block_words(block)))
            case EmbedSpec() as embed:
                words.update(dict.fromkeys(_embed_words(embed)))
            case HeadSpec() as head:
                words.update(dict.fromkeys(_head_words(head)))
    if words:
        raise NotServed(
            f"the family {spec.family} needs {', '.join(words)}, which the block engines do not "
            "compute yet; use a model without it"
        )


def _block_words(block: BlockSpec) -> Iterator[str]:
    attention = block.attention
    if block.flow == "post":
        yield f"flow {block.flow!r}"
    if block.moe is not None:
        yield from _mixture_words(block.moe)
    if attention.latent is not None:
        yield from _latent_words(attention)
    if not attention.causal:
        yield "attention that is not causal"
    if block.residual_from_norm and block.flow == "parallel":
        yield "residual_from_norm in a parallel flow"
    if attention.alibi is not None and (attention.window or attention.sinks):
        yield "alibi with a window or sinks"
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
    }
    for word, is_there in others.items():
        if is_there:
            yield f"latent attention with {word}"


def _embed_words(embed: EmbedSpec) -> Iterator[str]:
    if embed.patches is not None:
        yield "patches (images)"
    if embed.token_types:
        yield "token_types"


def _head_words(head: HeadSpec) -> Iterator[str]:
    if head.kind != "lm":
        yield f"a head of kind {head.kind!r}"
