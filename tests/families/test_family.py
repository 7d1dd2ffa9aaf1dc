"""Every family's spec names exactly the tensors that transformers saves; the rest is refused."""

import math
from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
import tiny_decoders
from manyhands.domain.model_spec import BlockSpec, EmbedSpec, HeadSpec, Mlp
from manyhands.domain.stored_parts import stored_parts
from manyhands.errors import CheckpointError, ManyhandsError, NotServed, UnknownFamily
from manyhands.families.family import known_families, model_spec
from manyhands.store.weight_files import find_tensors


@cache
def written(case):
    return tiny.config(case).to_dict()


def config(case="llama", **changes):
    return {**written(case), **changes}


FP8 = {"quant_method": "fp8"}
_SOFTCAP = {"final_logit_softcapping": 30.0}


def by_types(value):
    return {"attention_layers": None, "attention_types": value}


def without(case, key):
    return {name: value for name, value in config(case).items() if name != key}


@pytest.mark.parametrize("case", tiny.SPEAKERS)
def test_the_tensor_table_is_exactly_what_transformers_saves(case, tmp_path):
    spec = model_spec(config(case))
    saved = {name: place.shape for name, place in find_tensors(tiny.make(case, tmp_path)).items()}
    eyes = ("vision_tower.", "multi_modal_projector.")
    saved = {name: shape for name, shape in saved.items() if not name.startswith(eyes)}
    sources = [source for layer in spec.layers for source in layer.tensors.values()]
    parts = [part for source in sources for part in stored_parts(source)]
    assert {part.names[0]: part.stored_shape for part in parts} == saved
    # Parts of a fused tensor do not overlap and leave nothing out.
    taken = Counter()
    for part in parts:
        if part.layout != "tied":
            taken[part.names[0]] += part.elements
    assert taken == {name: math.prod(shape) for name, shape in saved.items()}


@pytest.mark.parametrize("case", tiny.CASES)
def test_the_spec_says_what_the_config_says(case):
    made, said = tiny.config(case), model_spec(config(case))
    assert said.family == made.model_type
    assert (said.width, said.vocabulary, said.context) == (64, 320, 512)
    parts = [type(layer.part) for layer in said.layers]
    assert parts == [EmbedSpec, *[BlockSpec] * 6, HeadSpec]
    model = tiny.model(case)
    for block, layer in zip(said.blocks, model.model.layers, strict=True):
        attention = layer.self_attn
        assert block.attention.scale == pytest.approx(attention.scaling, rel=1e-7)
        width = attention.qk_head_dim if block.attention.latent else attention.head_dim
        assert block.attention.head_dim == width
        for_all = getattr(made, "sliding_window", None)  # Mistral's attention does not keep it
        window = getattr(attention, "sliding_window", for_all) or None  # Qwen2-MoE's 0 is none
        assert block.attention.window == window
        assert (block.attention.qk_norm != "none") == hasattr(attention, "q_norm")
        assert block.attention.rope.inv_freq == pytest.approx(
            model.model.rotary_emb.inv_freq.tolist(), rel=1e-6
        )
        assert block.attention.rope.attention_factor == pytest.approx(
            model.model.rotary_emb.attention_scaling
        )
        assert block.norm.eps == made.rms_norm_eps
        inner = 96 if block.moe is None else getattr(made, "moe_intermediate_size", 96)
        activation = "swiglu_oai" if block.attention.sinks else "silu"
        assert block.mlp == Mlp("gated", activation, inner, block.mlp.limit, block.mlp.alpha)
        mlp = getattr(layer, "mlp", None) or layer.block_sparse_moe
        assert (block.moe is not None) == hasattr(mlp, "experts")


def test_windows_stand_where_layer_types_says():
    def windows(case, **changes):
        return [b.attention.window for b in model_spec(config(case, **changes)).blocks]

    assert windows("qwen2-layer-types") == [None, 8] * 3
    assert windows("qwen2-window", layer_types=None) == [None] * 3 + [8] * 3
    assert windows("qwen2", use_sliding_window=False, sliding_window=8) == [None] * 6
    assert windows("mistral-window") == [8] * 6
    assert windows("mistral") == [None] * 6
    no_key = without("mistral", "sliding_window")
    assert [b.attention.window for b in model_spec(no_key).blocks] == [4096] * 6


def test_a_tied_head_names_the_embedding_tensor():
    tied, untied = model_spec(config("llama-tied")), model_spec(config("llama"))
    assert tied.layers[-1].tensors["head"].names == tied.layers[0].tensors["tokens"].names
    assert tied.layers[-1].tensors["head"].layout == "tied"
    assert untied.layers[-1].tensors["head"].layout == "plain"


def test_an_old_llama_without_kv_heads_has_one_a_head():
    assert model_spec(without("llama", "num_key_value_heads")).blocks[0].attention.kv_heads == 4
    with pytest.raises(CheckpointError, match="num_key_value_heads"):
        model_spec(without("qwen2", "num_key_value_heads"))


def test_two_models_that_compute_differently_have_different_digests():
    digests = {model_spec(config(case)).digest() for case in tiny.SPEAKERS}
    # llama-sharded is llama in other files; within its context, dynamic is the default rope.
    assert len(digests) == len(tiny.SPEAKERS) - 2


def test_an_unknown_family_is_refused_with_the_names_of_those_served():
    assert set(known_families()) >= {"llama", "mistral", "qwen2", "qwen3"}
    with pytest.raises(UnknownFamily, match=r"gpt9.*gpt2, .*llama, .*mistral, .*qwen2, .*qwen3"):
        model_spec({"model_type": "gpt9"})


@pytest.mark.parametrize(
    "name",
    [
        "rope",
        "values",
        "family",
        "decoder",
        "building",
        "alibi",
        "__init__",
        "../llama",
        "os",
        "llama.spec",
        "LLAMA",
        "",
    ],
)
def test_a_model_type_reaches_no_file_but_a_family(name):
    assert name not in known_families()
    with pytest.raises(UnknownFamily):
        model_spec({"model_type": name})


@pytest.mark.parametrize("value", [None, 7, ["llama"]])
def test_a_model_type_that_is_no_string_is_an_error(value):
    with pytest.raises(CheckpointError, match="model_type"):
        model_spec({"model_type": value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", None),
        ("hidden_size", 0),
        ("hidden_size", -64),
        ("hidden_size", 64.0),
        ("hidden_size", "64"),
        ("hidden_size", 2**40),
        ("hidden_size", 66),
        ("num_attention_heads", 0),
        ("num_attention_heads", True),
        ("num_key_value_heads", 3),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 0),
        ("vocab_size", None),
        ("intermediate_size", None),
        ("max_position_embeddings", None),
        ("rms_norm_eps", 0),
        ("rms_norm_eps", float("inf")),
        ("head_dim", -2),
        ("tie_word_embeddings", "yes"),
        ("attention_bias", 1),
        ("layer_types", ["full_attention"]),
        ("architectures", "LlamaForCausalLM"),
        ("rope_parameters", "default"),
    ],
)
def test_an_absurd_value_is_an_error_that_names_its_key(key, value):
    absurd = config(**{key: value})
    if key == "hidden_size":
        del absurd["head_dim"]
    with pytest.raises(CheckpointError, match=key):
        model_spec(absurd)


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("llama", {"hidden_act": "tanh"}),
        ("llama", {"quantization_config": {"quant_method": "gptq"}}),
        ("llama", {"auto_map": {"AutoModelForCausalLM": "modeling.Other"}}),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}),
        ("llama", {"layer_types": ["full_attention", "chunked_attention"] * 3}),
        ("mistral", {"layer_types": ["full_attention"] * 6}),
        ("qwen3", {"layer_types": ["linear_attention"] * 6}),
        ("qwen2", {"partial_rotary_factor": 0.5}),
        ("gpt_oss", {"layer_types": ["full_attention", "chunked_attention"] * 3}),
        ("gpt_oss", {"quantization_config": {"quant_method": "fp8"}}),
        ("deepseek_v3", {"scoring_func": "softmax"}),
        ("deepseek_v3", {"topk_method": "greedy"}),
        ("deepseek_v3", {"moe_layer_freq": 2}),
        ("deepseek_v3", {"quantization_config": {"quant_method": "mxfp4"}}),
        ("deepseek_v3", {"quantization_config": {**FP8, "activation_scheme": "static"}}),
        ("deepseek_v3", {"quantization_config": {**FP8, "weight_block_size": None}}),
        ("deepseek_v3", {"auto_map": {"AutoModelForCausalLM": "modeling_deepseek.Other"}}),
        ("gemma", {"use_bidirectional_attention": True}),
        ("gemma2", {"layer_types": ["chunked_attention"] * 6}),
        ("gemma3_text", {"attn_logit_softcapping": 30.0}),
        ("gemma3_text", {"rope_parameters": {"full_attention": {"rope_type": "default"}}}),
        ("gemma3", {"architectures": ["Gemma3ForSequenceClassification"]}),
        ("olmo", {"clip_qkv": 8.0}),
        ("iquestcoder", {"clip_qkv": 8.0}),
        ("iquestcoder", {"use_sliding_window": True}),
        ("cohere", {"use_qk_norm": True}),
        ("stablelm", {"qk_layernorm": True}),
        ("nanochat", {"rope_parameters": tiny_decoders.LONGROPE}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
        ("gpt2", {"add_cross_attention": True}),
        ("gpt_bigcode", {"add_cross_attention": True}),
        ("opt", {"do_layer_norm_before": False}),
        ("opt", {"word_embed_proj_dim": 32}),
        ("opt", {"_remove_final_layer_norm": True}),
        ("falcon-40b", {"parallel_attn": False}),
        ("falcon-7b", {"num_ln_in_parallel_attn": 2}),
        ("falcon-7b", {"activation": "tanh"}),
        ("mpt", {"no_bias": False}),
        ("mpt", {"expansion_ratio": 2}),
        ("mpt", {"logit_scale": "inv_sqrt_d_model"}),
        ("mpt", {"attn_config": {"alibi": False}}),
        ("mpt", {"attn_config": {"clip_qkv": 8}}),
        ("mpt", {"attn_config": {"qk_ln": True}}),
        ("mpt", {"attn_config": {"alibi_bias_max": 16}}),
        ("gemma3", {"text_config": {**written("gemma3")["text_config"], **_SOFTCAP}}),
        ("gemma3_text", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
        ("olmo3", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
        ("mpt", {"attn_config": {"prefix_lm": True}}),
        ("mpt", {"attn_config": {"attn_type": "multiquery_attention"}}),
    ],
)
def test_a_switch_that_is_not_served_is_refused_and_not_run_wrong(case, changes):
    model_spec(config(case))
    with pytest.raises(NotServed):
        model_spec(config(case, **changes))


def test_deepseeks_own_files_name_code_that_is_not_needed_and_fp8_matrices_with_factors():
    code = {"AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM"}
    kept = {**FP8, "modules_to_not_convert": ["model.layers.1", "o_proj"]}
    spec = model_spec(config("deepseek_v3", auto_map=code, quantization_config=kept))

    def quantised(layer):
        tensors = spec.layers[layer].tensors
        return {name for name, source in tensors.items() if source.layout == "fp8_blocks"}

    experts = {f"experts.{name}" for name in ("gate", "up", "down")}
    shared = {f"shared.{name}" for name in ("gate", "up", "down")}
    latent = {"q_down", "q_up", "kv_down", "kv_up"}
    assert quantised(1) == {"gate", "up", "down", *latent}
    assert quantised(2) == set()
    assert quantised(3) == {*latent, *experts, *shared}
    assert spec.layers[3].tensors["q_down"].names == (
        "model.layers.2.self_attn.q_a_proj.weight",
        "model.layers.2.self_attn.q_a_proj.weight_scale_inv",
    )


@pytest.mark.parametrize(
    ("case", "changes", "named"),
    [
        ("mixtral", {"num_experts_per_tok": 5}, "num_experts_per_tok"),
        ("mixtral", {"num_local_experts": 0}, "num_local_experts"),
        ("qwen3_moe", {"mlp_only_layers": ["1"]}, "mlp_only_layers"),
        ("deepseek_v3", {"n_group": 3}, "n_group"),
        ("deepseek_v3", {"topk_group": 5}, "topk_group"),
        ("deepseek_v3", {"n_group": 8, "topk_group": 1}, "num_experts_per_tok"),
    ],
)
def test_an_impossible_mixture_is_an_error_that_names_its_key(case, changes, named):
    with pytest.raises(CheckpointError, match=named):
        model_spec(config(case, **changes))


@pytest.mark.parametrize(
    ("case", "changes", "key"),
    [
        ("smollm3", {"no_rope_layers": [1, 1]}, "no_rope_layers"),
        ("smollm3", {"no_rope_layers": [[]] * 6}, "no_rope_layers"),
        ("smollm3-window", {"use_sliding_window": False}, "sliding_window"),
        ("gemma2", {"sliding_window": None}, "sliding_window"),
        ("gpt_neo", {"attention_layers": ["global"] * 5}, "attention_layers"),
        ("gpt_neo", by_types([[["global"], 5]]), "attention_types"),
        (
            "gpt_neo",
            by_types([[["global", "near"], 3]]),
            "attention_types",
        ),
        (
            "gpt_neo",
            by_types([[["global", "local"], 10**12]]),
            "attention_types",
        ),
        ("gpt_neo", by_types(3), "attention_types"),
        ("gpt_neox", {"rope_parameters": {"partial_rotary_factor": 1.5}}, "partial_rotary"),
        ("gpt_neox", {"rope_parameters": {"partial_rotary_factor": 0.01}}, "partial_rotary"),
        ("gptj", {"rotary_dim": 32}, "rotary_dim"),
        ("gptj", {"n_embd": 66}, "n_head"),
        ("codegen", {"n_head": 2}, "n_head"),
        ("falcon-40b", {"num_kv_heads": 3}, "num_key_value_heads"),
        ("falcon-7b", {"num_ln_in_parallel_attn": 3}, "num_ln_in_parallel_attn"),
        ("granite", {"logits_scaling": 0}, "logits_scaling"),
    ],
)
def test_an_absurd_value_of_one_familys_key_is_an_error_that_names_it(case, changes, key):
    with pytest.raises(CheckpointError, match=key):
        model_spec(config(case, **changes))


OLDER = {
    "gemma3_text": {
        "rope_parameters": None,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "linear", "factor": 4.0},
        "rope_local_base_freq": 10000.0,
        "layer_types": None,
        "sliding_window_pattern": 2,
    },
    "olmo3": {
        "layer_types": None,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 4.0},
        },
    },
    "gpt_neox": {"rope_parameters": None, "rotary_pct": 0.25, "rotary_emb_base": 10000},
    "phi3-longrope": {
        "rope_parameters": None,
        "rope_theta": 10000.0,
        "rope_scaling": {
            "type": "su",
            **{k: v for k, v in tiny_decoders.LONGROPE.items() if k.endswith("_factor")},
        },
    },
    "falcon-7b": {"num_kv_heads": None, "rope_parameters": None, "rope_theta": 10000.0},
    "bloom": {"n_embed": 64, "hidden_size": None, "n_head": None, "num_attention_heads": 4},
    "smollm3": {"no_rope_layers": None, "layer_types": None},
    "cwm": {"layer_types": None},
    "gpt_neo": {"attention_layers": None},
    "exaone4": {"layer_types": None},
    "gemma2": {"layer_types": None},
    "internlm3": {"attention_bias": None, "mlp_bias": None, "qkv_bias": True, "bias": True},
}


@pytest.mark.parametrize("case", OLDER)
def test_the_spelling_of_older_files_means_the_same(case):
    assert model_spec(config(case, **OLDER[case])) == model_spec(config(case))


def test_a_sliding_layer_without_a_window_is_an_error():
    with pytest.raises(CheckpointError, match="sliding"):
        model_spec(config("qwen2-layer-types", use_sliding_window=False))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(
    case=st.sampled_from(
        [
            *("llama-yarn", "mistral-window", "qwen2-layer-types", "qwen3-window"),
            *("qwen3_moe-some", "gpt_oss", "deepseek_v3-yarn"),
            *tiny.DECODERS,
        ]
    ),
    data=st.data(),
)
def test_junk_in_a_config_gives_a_spec_or_a_typed_error(case, data):
    changed = dict(config(case))
    for key in data.draw(st.lists(st.sampled_from(sorted(changed)), min_size=1, max_size=2)):
        changed[key] = data.draw(JUNK)
    if data.draw(st.booleans()) and isinstance(changed.get("rope_parameters"), dict):
        inner = dict(changed["rope_parameters"])
        inner[data.draw(st.sampled_from(sorted(inner, key=str) or ["factor"]))] = data.draw(JUNK)
        changed["rope_parameters"] = inner
    try:
        spec = model_spec(changed)
    except ManyhandsError:
        return
    spec.digest()  # finite numbers only
