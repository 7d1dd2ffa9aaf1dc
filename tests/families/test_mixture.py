"""Published mixtures, by their configs: all weights in memory, the active ones in a step."""

from dataclasses import replace

import pytest

from manyhands.domain.device import Device
from manyhands.domain.sizes import kv_elements_per_token, span_elements
from manyhands.families.family import model_spec
from manyhands.plan.cost import Cost, layer_work, span_s, weight_bytes

_MIXTRAL = {
    "model_type": "mixtral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
_QWEN3 = {
    "model_type": "qwen3_moe",
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
}
_GPT_OSS = {
    "model_type": "gpt_oss",
    "vocab_size": 201088,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 131072,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "quantization_config": {"quant_method": "mxfp4"},
}
_DEEPSEEK = {
    "model_type": "deepseek_v3",
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "max_position_embeddings": 163840,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}
PUBLISHED = {
    "Mixtral-8x7B": (_MIXTRAL, 46.7e9, 12.9e9),
    "Qwen3-30B-A3B": (_QWEN3, 30.5e9, 3.3e9),
    "gpt-oss-20b": (_GPT_OSS, 20.9e9, 3.6e9),
    "DeepSeek-V3": (_DEEPSEEK, 671e9, 37e9),
}
"""Config, all weights, weights active for a token: as their makers say."""

EACH = Cost(bytes_per_weight=1.0, bytes_per_kv=0.0)


@pytest.mark.parametrize(("config", "every", "active"), PUBLISHED.values(), ids=PUBLISHED)
def test_a_published_mixture_has_its_weights_and_reads_the_active_ones(config, every, active):
    spec = model_spec(config)
    assert span_elements(spec, spec.span) == pytest.approx(every, rel=0.01)
    assert weight_bytes(spec, spec.span, EACH) == span_elements(spec, spec.span)
    read = sum(layer_work(layer, EACH)[0] for layer in spec.layers)
    assert read == pytest.approx(active, rel=0.08)  # some count the embedding in, some not


def test_decoding_is_planned_by_active_weights_and_a_batch_by_the_experts_it_touches():
    spec = model_spec(_QWEN3)
    device = Device("cpu", 10**12, read_bytes_per_s=1e9, flops_per_s=1e15, overhead_s=0.0)
    one = span_s(spec, spec.span, device, EACH)
    assert one < 0.12 * span_elements(spec, spec.span) / 1e9
    eight = span_s(spec, spec.span, device, replace(EACH, tokens=8))
    assert one < eight < 8 * one  # eight rows share some experts, and all else


def test_deepseek_keeps_a_seventieth_of_what_its_heads_would():
    latent = kv_elements_per_token(model_spec(_DEEPSEEK).blocks[0])
    assert latent == 512 + 64
    assert 128 * (192 + 128) / latent > 70


def test_mixtral_turns_positions_by_a_million_where_its_config_does_not_say():
    said = {**_MIXTRAL, "rope_theta": 1e6}
    scaled = {"rope_scaling": {"rope_type": "linear", "factor": 3.0}}
    for config in ({}, scaled):
        assert model_spec({**_MIXTRAL, **config}).blocks == model_spec({**said, **config}).blocks
    assert model_spec(_MIXTRAL).blocks != model_spec({**_MIXTRAL, "rope_theta": 1e4}).blocks
