"""StableLM: layer norms, a quarter of each head turned, perhaps a parallel flow. No files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec, Norm
from manyhands.families.building import build
from manyhands.families.decoder import Names, context, refuse, shared_out, standard
from manyhands.families.layer_types import full_only
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, number


def spec(config: Config) -> ModelSpec:
    """A StableLM. Norms of queries and keys differ from head to head there: refused."""
    refuse(config, qk_layernorm="a norm of its own for each head")
    windows, width = full_only(config), shared_out(config)
    turn = rope(config, width, context(config), turned=0.25)
    is_parallel = flag(config, "use_parallel_residual")
    made = standard(
        config,
        "stablelm",
        head_width=width,
        norm=Norm("layer", number(config, "layer_norm_eps", 1e-5)),
        windows=windows,
        ropes=(turn,) * len(windows),
    )
    return build(
        replace(
            made,
            flow="parallel" if is_parallel else "pre",
            names=Names(mlp_norm="") if is_parallel else Names(),
            has_norm_bias=True,
            has_qkv_bias=flag(config, "use_qkv_bias"),
        )
    )
