"""Which words of a ModelSpec the block engines compute; any other is refused by name.

Both block engines serve the same words, so that a peer without torch can stand in for one with it.
Knows nothing of tensors: a tensor nobody takes is refused where the tables are read.
"""

from __future__ import annotations

from collections.abc import Iterator

from manyhands.domain.model_spec import BlockSpec, EmbedSpec, HeadSpec, ModelSpec, ModuleSpec
from manyhands.domain.span import Span
from manyhands.errors import NotServed, UserError

TRANSFORMERS = "5.23"
"""The version of transformers whose models without a family file are run (engine/torch_modules)."""


def check_served(spec: ModelSpec, span: Span) -> None:
    """Raise NotServed naming each unserved word of the span, UserError for a span outside.

    A window, rotary or not, softcap, sinks, qk-norm, sandwich norms, biases, learned positions and
    residual scales are served.
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
            case ModuleSpec():
                words["transformers' own code"] = None
    if words:
        raise NotServed(
            f"the family {spec.family} needs {', '.join(words)}, which the block engines do not "
            "compute yet; use a model without it"
        )


def _block_words(block: BlockSpec) -> Iterator[str]:
    attention = block.attention
    if block.flow != "pre":
        yield f"flow {block.flow!r}"
    if block.moe is not None:
        yield "moe (mixture of experts)"
    if attention.latent is not None:
        yield "latent attention"
    if attention.alibi is not None:
        yield "alibi positions"
    if not attention.causal:
        yield "attention that is not causal"
    if block.residual_from_norm:
        yield "residual_from_norm"
    if (block.mlp.activation == "swiglu_oai") and block.mlp.kind != "gated":
        yield "a plain swiglu_oai"


def _embed_words(embed: EmbedSpec) -> Iterator[str]:
    if embed.patches is not None:
        yield "patches (images)"
    if embed.token_types:
        yield "token_types"


def _head_words(head: HeadSpec) -> Iterator[str]:
    if head.kind != "lm":
        yield f"a head of kind {head.kind!r}"
