"""Encoders of images: patches with learned positions, then pre-norm blocks. Reads no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from manyhands.domain.model_spec import (
    BlockSpec,
    EmbedSpec,
    HeadSpec,
    LayerSpec,
    Mlp,
    ModelSpec,
    Norm,
    Patches,
)
from manyhands.errors import CheckpointError, NotServed
from manyhands.families.encoder import (
    Names,
    Table,
    block_shapes,
    both_ways,
    is_classifier,
    labels,
    prefix,
)
from manyhands.families.layer_types import block_count
from manyhands.families.values import Config, flag, number, whole

CLASSIFIER = "ForImageClassification"

FLAT = frozenset({"patches", "class_token", "registers", "positions"})
"""Stored with axes for batch and kernel, read as rows."""


@dataclass(frozen=True, slots=True)
class Traits:
    """In what encoders of images differ. `eps` is what a config means that does not say.

    `pool` is what makes one vector of an image, the first token's being the class token's;
    `prefixed` says what stands before all names, where the architecture does not.
    """

    family: str
    names: Names
    mlp: Mlp
    eps: float
    pool: Literal["pool_first", "none"] = "pool_first"
    registers: int = 0
    class_token: bool = True
    prefixed: str | None = None


def encoder(config: Config, traits: Traits) -> ModelSpec:
    """Patches, blocks and a norm.

    Raises CheckpointError for missing or absurd values, NotServed for a switch that is not served.
    """
    width, inner = whole(config, "hidden_size"), traits.mlp.width
    patches = _patches(config, traits)
    norm = Norm("layer", number(config, "layer_norm_eps", traits.eps))
    attention = both_ways(width, whole(config, "num_attention_heads"))
    block = BlockSpec(norm=norm, attention=attention, mlp=traits.mlp)
    known = patches.squares + patches.class_token
    embed = {
        "patches": (width, patches.elements),
        "patches.bias": (width,),
        "positions": (known, width),
        **({"class_token": (1, width)} if patches.class_token else {}),
        **({"registers": (patches.registers, width)} if patches.registers else {}),
    }
    shapes = block_shapes(width, inner)
    if traits.mlp.kind == "gated":
        shapes |= {"gate": (inner, width), "gate.bias": (inner,)}
    if not flag(config, "qkv_bias", True):
        shapes = {k: v for k, v in shapes.items() if k not in ("q.bias", "k.bias", "v.bias")}
    shapes |= {
        name: (width,) for name in ("attention_scale", "mlp_scale") if name in traits.names.block
    }
    base = prefix(config, traits.names.base) if traits.prefixed is None else traits.prefixed
    table = Table(base)
    return ModelSpec(
        family=traits.family,
        width=width,
        vocabulary=1,
        context=known + patches.registers,
        layers=(
            LayerSpec(
                EmbedSpec(0, positions=known, patches=patches),
                table.of(traits.names.embed, embed, flat=FLAT),
            ),
            *(
                LayerSpec(block, table.of(traits.names.block, shapes, place))
                for place in range(block_count(config))
            ),
            _head(config, traits, norm, width, table),
        ),
    )


def _patches(config: Config, traits: Traits) -> Patches:
    height, width = sides(config, "image_size", 224)
    kernel, other = sides(config, "patch_size", 16)
    if kernel != other:
        raise NotServed(f"patch_size {kernel} x {other} is not served; square patches are")
    if kernel > min(height, width):
        raise CheckpointError(
            f"config: image_size {height} x {width} is smaller than patch_size {kernel}; check "
            "config.json"
        )
    return Patches(
        kernel=kernel,
        channels=whole(config, "num_channels", 3),
        height=height,
        width=width,
        class_token=traits.class_token,
        registers=traits.registers,
    )


def sides(config: Config, key: str, default: int) -> tuple[int, int]:
    """Height and width, of one number or of a list of two. Raises CheckpointError."""
    value = config.get(key)
    if not isinstance(value, (list, tuple)):
        side = whole(config, key, default)
        return side, side
    if len(value) != 2:
        raise CheckpointError(f"config: {key} has {len(value)} sides; it must have 2")
    return whole({key: value[0]}, key), whole({key: value[1]}, key)


def _head(config: Config, traits: Traits, norm: Norm, width: int, table: Table) -> LayerSpec:
    shapes: Mapping[str, tuple[int, ...]] = {"norm": (width,), "norm.bias": (width,)}
    normed = table.of(traits.names.head, shapes)
    if not is_classifier(config, CLASSIFIER):
        return LayerSpec(HeadSpec(norm, traits.pool, width), normed)
    classes = labels(config)
    head = Table("").of(traits.names.head, {"head": (classes, width), "head.bias": (classes,)})
    return LayerSpec(HeadSpec(norm, "classify", classes), {**normed, **head})
