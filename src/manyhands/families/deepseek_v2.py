"""DeepSeek-V2: latent attention and softmax-routed experts, some of them shared. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec, Moe
from manyhands.families.deepseek_v3 import latent_decoder
from manyhands.families.mixture import (
    Names,
    checked_groups,
    chosen_count,
    expert_count,
    refuse_other,
    shared_width,
)
from manyhands.families.values import Config, number, whole, with_defaults, word

KNOWN_CODE = ("modeling_deepseek.DeepseekV2ForCausalLM",)
"""What `auto_map` may name: the same model, which is computed here without that code."""

NAMES = Names(shared="shared_experts")


def spec(config: Config) -> ModelSpec:
    """A DeepSeek-V2, full or Lite."""
    config = with_defaults(config, n_shared_experts=2, moe_intermediate_size=1407)
    refuse_other(config, "scoring_func", "softmax")
    refuse_other(config, "topk_method", "greedy", "group_limited_greedy")
    refuse_other(config, "norm_topk_prob", False)
    refuse_other(config, "mlp_bias", False)
    has_groups = word(config, "topk_method", "greedy") == "group_limited_greedy"
    experts = expert_count(config, "n_routed_experts", "num_local_experts")
    moe = Moe(
        experts,
        chosen_count(config, experts),
        "softmax",
        scale=number(config, "routed_scaling_factor", 1.0),
        groups=whole(config, "n_group") if has_groups else 1,
        top_groups=whole(config, "topk_group") if has_groups else 1,
        group_score="best",
        shared_width=shared_width(config),
    )
    return latent_decoder(config, "deepseek_v2", checked_groups(moe), NAMES, is_interleaved=True)
