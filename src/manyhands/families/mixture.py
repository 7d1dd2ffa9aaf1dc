"""Turns blocks of a dense decoder into mixtures of experts, as several families have them.

Names are those of the files that transformers writes: one tensor an expert. Reads no files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from manyhands.domain.model_spec import (
    BlockSpec,
    LayerSpec,
    ModelSpec,
    Moe,
    TensorSource,
)
from manyhands.errors import CheckpointError, NotServed
from manyhands.families.values import Config, whole, whole_list

Tensors = Mapping[str, TensorSource]

MOST_EXPERTS = 4096


@dataclass(frozen=True, slots=True)
class Names:
    """What a family calls the parts of a mixture, below `model.layers.N.`; None is not there."""

    path: str = "mlp"
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    router: str = "gate.weight"
    correction: str | None = None
    shared: str | None = None
    shared_scale: str | None = None


def expert_count(config: Config, *keys: str) -> int:
    """Number of experts under the first of `keys` that is there. Raises CheckpointError."""
    key = next((key for key in keys if config.get(key) is not None), keys[0])
    return whole(config, key, most=MOST_EXPERTS)


def chosen_count(config: Config, experts: int, key: str = "num_experts_per_tok") -> int:
    """How many experts see a token: at most all of them. Raises CheckpointError."""
    return whole(config, key, most=experts)


def checked_groups(moe: Moe) -> Moe:
    """`moe` if its groups are possible: enough experts to choose from. Raises CheckpointError."""
    if moe.experts % moe.groups or moe.top_groups > moe.groups:
        raise CheckpointError(
            f"config: {moe.experts} experts in {moe.groups} groups (n_group), of which "
            f"{moe.top_groups} are chosen (topk_group); check config.json"
        )
    if moe.top_k > moe.experts // moe.groups * moe.top_groups:
        raise CheckpointError(
            f"config: num_experts_per_tok {moe.top_k} is more than the experts of {moe.top_groups} "
            "groups (topk_group); check config.json"
        )
    return moe


def refuse_other(config: Config, key: str, *served: object) -> None:
    """Raise NotServed when `key` is there and none of `served`."""
    if config.get(key) is not None and config[key] not in served:
        raise NotServed(
            f"{key} {config[key]!r} is not served for this family; "
            f"{' and '.join(map(str, served))} {'is' if len(served) == 1 else 'are'}"
        )


def shared_width(config: Config) -> int:
    """Inner size of all shared experts together: they are one MLP in the files."""
    return whole(config, "moe_intermediate_size") * whole(config, "n_shared_experts", 0, least=0)


def sparse_steps(config: Config) -> Callable[[int], bool]:
    """Qwen's rule: every `decoder_sparse_step`-th block but for `mlp_only_layers`."""
    step = whole(config, "decoder_sparse_step", 1)
    dense = set(whole_list(config, "mlp_only_layers"))
    return lambda block: block not in dense and (block + 1) % step == 0


def with_mixtures(
    model: ModelSpec,
    moe: Moe,
    inner: int,
    is_sparse: Callable[[int], bool],
    tables: Callable[[str], Tensors],
) -> ModelSpec:
    """`model` with mixtures of experts of inner size `inner` in the blocks that are sparse.

    `tables` gives their tensors for a prefix `model.layers.N`.
    """
    layers = list(model.layers)
    for block in range(len(model.blocks)):
        layer = layers[block + 1]
        if not isinstance(layer.part, BlockSpec) or not is_sparse(block):
            continue
        part = replace(layer.part, moe=moe, mlp=replace(layer.part.mlp, width=inner))
        kept = {
            name: source
            for name, source in layer.tensors.items()
            if name.removesuffix(".bias") not in ("gate", "up", "down")
        }
        layers[block + 1] = LayerSpec(part, {**kept, **tables(f"model.layers.{block}")})
    return replace(model, layers=tuple(layers))


def expert_tensors(
    names: Names, moe: Moe, width: int, inner: int
) -> Callable[[str], dict[str, TensorSource]]:
    """The tables of a mixture whose experts have a tensor each."""

    def tensors(prefix: str) -> dict[str, TensorSource]:
        path = f"{prefix}.{names.path}"

        def experts(name: str, out: int, into: int) -> TensorSource:
            each = tuple(f"{path}.experts.{e}.{name}.weight" for e in range(moe.experts))
            return TensorSource(each, (moe.experts, out, into), "experts")

        def matrix(name: str, out: int, into: int) -> TensorSource:
            return TensorSource((f"{path}.{name}",), (out, into))

        table = {
            "router": matrix(names.router, moe.experts, width),
            "experts.gate": experts(names.gate, inner, width),
            "experts.up": experts(names.up, inner, width),
            "experts.down": experts(names.down, width, inner),
        }
        if names.correction is not None:
            table["router.correction"] = TensorSource(
                (f"{path}.{names.correction}",), (moe.experts,)
            )
        if names.shared is not None and moe.shared_width:
            shared = moe.shared_width
            table["shared.gate"] = matrix(f"{names.shared}.{names.gate}.weight", shared, width)
            table["shared.up"] = matrix(f"{names.shared}.{names.up}.weight", shared, width)
            table["shared.down"] = matrix(f"{names.shared}.{names.down}.weight", width, shared)
        if names.shared_scale is not None:
            table["shared.scale"] = matrix(names.shared_scale, 1, width)
        return table

    return tensors
