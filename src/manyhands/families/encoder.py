"""Encoders of texts: BERT's shape, in which most differ only in names; and what all heads share.

Checkpoints of a bare encoder (…Model) and of one beneath a language head (…ForMaskedLM, whose head
is not computed) give vectors; those of …ForSequenceClassification give scores of the classes.
Reads no files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from manyhands.domain.model_spec import (
    Attention,
    BlockSpec,
    EmbedSpec,
    HeadSpec,
    LayerSpec,
    Mlp,
    ModelSpec,
    Norm,
    TensorSource,
)
from manyhands.errors import CheckpointError, NotServed
from manyhands.families.layer_types import block_count
from manyhands.families.values import Config, flag, number, section, strings, whole, word

CLASSIFIER = "ForSequenceClassification"
SERVED = ("Model", "ForMaskedLM", CLASSIFIER)
"""How the names of architectures end that an encoder of texts may have."""


@dataclass(frozen=True, slots=True)
class Names:
    """Where tensors stand. `base` precedes all but the classes' where a head is on top."""

    base: str
    embed: Mapping[str, str]
    block: Mapping[str, str]
    head: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Traits:
    """In what encoders of BERT's shape differ; `activation` stands behind the head's `dense`."""

    family: str
    names: Names
    position_offset: int = 0
    token_types: int = 0
    activation: Literal["tanh", "relu", "gelu"] = "tanh"


def encoder(config: Config, traits: Traits) -> ModelSpec:
    """Tokens, learned positions and a norm, then blocks whose norms follow the residual.

    Raises CheckpointError for missing or absurd values, NotServed for a switch that is not served.
    """
    refuse_decoders(config)
    width, heads = whole(config, "hidden_size"), whole(config, "num_attention_heads")
    vocabulary, inner = whole(config, "vocab_size"), whole(config, "intermediate_size")
    held = whole(config, "max_position_embeddings", most=2**31)
    if held <= traits.position_offset:
        raise CheckpointError(
            f"config: max_position_embeddings {held} leaves no position from "
            f"{traits.position_offset} on; check config.json"
        )
    norm = Norm("layer", number(config, "layer_norm_eps", 1e-12))
    block = BlockSpec(
        norm=norm,
        attention=both_ways(width, heads),
        mlp=Mlp("plain", mlp_activation(config, "hidden_act"), inner),
        flow="post",
    )
    table = Table(prefix(config, traits.names.base))
    embed = {
        "tokens": (vocabulary, width),
        "positions": (held, width),
        **({"token_types": (traits.token_types, width)} if traits.token_types else {}),
        "norm": (width,),
        "norm.bias": (width,),
    }
    shapes = block_shapes(width, inner)
    blocks = tuple(
        LayerSpec(block, table.of(traits.names.block, shapes, number))
        for number in range(block_count(config))
    )
    return ModelSpec(
        family=traits.family,
        width=width,
        vocabulary=vocabulary,
        context=held - traits.position_offset,
        layers=(
            LayerSpec(
                EmbedSpec(
                    vocabulary,
                    norm=norm,
                    positions=held - traits.position_offset,
                    position_offset=traits.position_offset,
                    token_types=traits.token_types,
                ),
                table.of(traits.names.embed, embed),
            ),
            *blocks,
            head(config, width, traits.names.head, traits.activation),
        ),
    )


@dataclass(frozen=True, slots=True)
class Table:
    """Makes tables of tensors: our names and shapes to theirs, behind a prefix."""

    prefix: str

    def of(
        self,
        names: Mapping[str, str],
        shapes: Mapping[str, tuple[int, ...]],
        block: int = 0,
        flat: frozenset[str] = frozenset(),
    ) -> dict[str, TensorSource]:
        """A source for each shape; `q.bias` stands beside `q`, `{}` is the block's number."""
        found = {}
        for ours, shape in shapes.items():
            name, bias = ours.removesuffix(".bias"), ours.endswith(".bias")
            theirs = self.prefix + names[name].format(block)
            ending = ".bias" if bias else ".weight"
            # a bare parameter is named whole: it has neither weight nor bias
            full = theirs.removesuffix("!") if theirs.endswith("!") else theirs + ending
            found[ours] = TensorSource((full,), shape, "flat" if ours in flat else "plain")
        return found


def block_shapes(width: int, inner: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a block with a plain MLP and a bias everywhere."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("q", "k", "v", "o"):
        shapes |= {name: (width, width), f"{name}.bias": (width,)}
    shapes |= {"up": (inner, width), "up.bias": (inner,)}
    shapes |= {"down": (width, inner), "down.bias": (width,)}
    for name in ("attention_norm", "mlp_norm"):
        shapes |= {name: (width,), f"{name}.bias": (width,)}
    return shapes


def both_ways(width: int, heads: int) -> Attention:
    """Attention of every token to every token. Raises CheckpointError for uneven heads."""
    if width % heads:
        raise CheckpointError(
            f"config: hidden_size {width} is no multiple of num_attention_heads {heads}; check "
            "config.json"
        )
    size = width // heads
    return Attention(heads, heads, size, size, 1 / math.sqrt(size), causal=False)


def head(
    config: Config,
    width: int,
    names: Mapping[str, str],
    activation: Literal["tanh", "relu", "gelu"] = "tanh",
) -> LayerSpec:
    """The mean of all tokens' vectors; or the classes' scores where the architecture has them."""
    if not is_classifier(config):
        return LayerSpec(HeadSpec(None, "pool_mean", width), {})
    classes = labels(config)
    shapes = {
        "dense": (width, width),
        "dense.bias": (width,),
        "head": (classes, width),
        "head.bias": (classes,),
    }
    table = Table("").of(names, shapes)
    return LayerSpec(HeadSpec(None, "classify", classes, activation=activation), table)


def labels(config: Config) -> int:
    """How many classes: transformers counts `id2label`, and writes none where there are two."""
    return len(section(config, "id2label")) or whole(config, "num_labels", 2)


def is_classifier(config: Config, ending: str = CLASSIFIER) -> bool:
    """True for a checkpoint with a head over classes."""
    return any(name.endswith(ending) for name in strings(config, "architectures"))


def prefix(config: Config, base: str) -> str:
    """What stands before the encoder's own names: nothing in a checkpoint of the bare …Model."""
    names = strings(config, "architectures")
    return "" if not names or any(name.endswith("Model") for name in names) else f"{base}."


def refuse_decoders(config: Config) -> None:
    """Raise NotServed for switches of BERT's shape that no family of ours computes."""
    for name in ("is_decoder", "add_cross_attention", "is_encoder_decoder"):
        if flag(config, name):
            raise NotServed(f"{name} is not served for this family; use an encoder alone")
    kind = word(config, "position_embedding_type", "absolute")
    if kind != "absolute":
        raise NotServed(f"position_embedding_type {kind!r} is not served; absolute is")


def mlp_activation(
    config: Config, key: str, default: str = "gelu"
) -> Literal["silu", "gelu", "gelu_tanh", "relu"]:
    """The MLP's activation. Raises NotServed for one that is not known here."""
    match name := word(config, key, default):
        case "gelu":
            return "gelu"
        case "gelu_new" | "gelu_pytorch_tanh":
            return "gelu_tanh"
        case "relu":
            return "relu"
        case "silu" | "swish":
            return "silu"
        case _:
            raise NotServed(f"{key} {name!r} is not served; gelu, silu and relu forms are")
